"""The rules of a comparison: read them, and check that they fit the networks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from metaplast.base.errors import UserError, require, shown, unknown_name
from metaplast.base.registry import match
from metaplast.base.words import words
from metaplast.discovery.run_folder import RULE, load_rule
from metaplast.rules.rule import Rule
from metaplast.systems.feedback import STACK, serving
from metaplast.systems.kind import all_systems
from metaplast.systems.objective import all_objectives
from metaplast.systems.system import System
from metaplast.terms.library import (
    find_known_rule,
    get_term,
    goes_with,
    known_rules,
    online_baselines,
)

Fit = Literal["nothing", "coefficients", "scale"]


@dataclass(frozen=True)
class Entrant:
    """A rule in a comparison.

    Attributes:
        name: label in tables and figures.
        rule: the rule; if all coefficients are tuned, their initial values are not used.
        fit: what is tuned on separate data first: "nothing", all "coefficients", or one "scale"
            that multiplies them.
    """

    name: str
    rule: Rule
    fit: Fit = "nothing"

    @property
    def is_tuned(self) -> bool:
        """Whether anything is tuned on separate data."""
        return self.fit != "nothing"


def read_entrant(text: str, served: Collection[str] = ()) -> Entrant:
    """Return the rule in a file or run folder, or a known rule written NAME or NAME:FEEDBACK.

    Args:
        text: the path or name, as the user wrote it.
        served: feedbacks that the system supports; see `known_entrant`.

    Raises:
        UserError: if the text names none of these, or the file is damaged.
    """
    require(
        bool(text.strip()),
        "a rule to compare has an empty name; give a file, a run folder or a known rule.",
    )
    path = Path(text)
    if not path.exists() and find_known_rule(text.partition(":")[0]) is not None:
        return known_entrant(text, served)
    if path.is_dir():
        return Entrant(path.resolve().name, load_rule(path))
    if path.exists() or path.suffix:
        name = path.resolve().parent.name if path.name == RULE else path.stem
        return Entrant(name, Rule.load(path))
    raise unknown_name("rule (no file or folder either)", text, known_rules())


def known_entrant(text: str, served: Collection[str] = ()) -> Entrant:
    """Return a known rule, written NAME or NAME:FEEDBACK, whose coefficients must be tuned.

    Args:
        text: as the user wrote it.
        served: feedbacks that the system supports. A rule written without a feedback gets the
            first of its own feedbacks that is among these, otherwise the first of its own.

    Raises:
        UserError: if the rule is unknown, or does not support the feedback.
    """
    name, _, feedback = text.partition(":")
    known = find_known_rule(name)
    if known is None:
        raise unknown_name("known rule", name, known_rules())
    require(
        not feedback or goes_with(feedback, known.feedback),
        f"the rule {known.name} goes with feedback {' or '.join(known.feedback)}, got "
        f"{shown(feedback)}.",
    )
    terms = tuple(map(get_term, known.terms))
    start = torch.tensor([term.initial for term in terms], dtype=torch.float32, device="cpu")
    usual = next((name for name in known.feedback if name in served), known.feedback[0])
    called = known.name if feedback in ("", usual) else f"{known.name}, {feedback}"
    return Entrant(called, Rule.of(terms, start, feedback or usual), "coefficients")


def collect_entrants(
    rules: Sequence[str], baselines: str, *, fit_scale: bool = False, system: str = STACK
) -> list[Entrant]:
    """Return the rules and their baselines, without duplicates and with distinct names.

    Args:
        rules: files, run folders or names of known rules.
        baselines: "usual", "none", or names of known rules separated by commas.
        fit_scale: whether to add a rescaled version of each rule that comes with coefficients.
        system: name of the system that learns.

    Raises:
        UserError: if a name is unknown, or there is no rule at all.
    """
    served = serving(system)
    given = [read_entrant(text, served) for text in rules]
    found = []
    for entrant in given:
        found.append(entrant)
        if fit_scale and not entrant.is_tuned:
            name = f"{entrant.name}, rescaled"
            found.append(replace(entrant, name=name, fit="scale"))
    if baselines == "usual":
        names = [rule.name for rule in online_baselines(served)]
    else:
        names = [] if baselines == "none" else words("--baselines", baselines, "rule")
    found += [known_entrant(name, served) for name in names]
    require(bool(found), "there is nothing to compare; name a rule, or omit --baselines.")
    entrants: dict[str, Entrant] = {}
    for entrant in found:
        if entrant.fit == "coefficients" and entrants.get(entrant.name) == entrant:
            continue
        name, number = entrant.name, 2
        while name in entrants:
            name, number = f"{entrant.name} ({number})", number + 1
        entrants[name] = replace(entrant, name=name)
    return list(entrants.values())


def objective_warnings(entrants: Sequence[Entrant], network: System) -> list[str]:
    """Return a warning for each discovered rule that was found with another objective."""
    own = network.objective
    return [
        f"warning: the rule {each.name} was found with the objective {each.rule.objective_name}, "
        f"but these networks learn with {own.name}; give --objective {each.rule.objective_name}, "
        f"with fitting data, unless this is meant."
        for each in entrants
        if each.rule.provenance and match(each.rule.objective_name, all_objectives()) != own
    ]


def weights_warnings(entrants: Sequence[Entrant], network: System) -> list[str]:
    """Return a warning for each discovered rule found under another constraint on weights."""
    return [
        f"warning: the rule {each.name} was found with --weights {each.rule.weights}, but these "
        f"networks learn with --weights {network.weights}; give --weights {each.rule.weights}, "
        f"unless this is meant."
        for each in entrants
        if each.rule.provenance and each.rule.weights != network.weights
    ]


def check_system(entrants: Sequence[Entrant]) -> None:
    """Refuse rules that were found with another system than the default one.

    Call this only if the user has not explicitly asked for stacks.

    Raises:
        UserError: if there is such a rule.
    """
    for entrant in entrants:
        found = entrant.rule.system_name
        if found in ("", STACK):
            continue
        own = f"--system {found}" + ("" if found in all_systems() else ", after installing it,")
        raise UserError(
            f"the rule {entrant.name} was found with the system {found}; write {own} to train "
            f"such networks, or --system {STACK} to train stacks by it."
        )


def check_depth(entrant: Entrant, network: System) -> None:
    """Refuse a rule with coefficients per layer for a network of another kind or depth.

    Raises:
        UserError: if the rule was found with another system, or the number of layers differs.
    """
    entrant.rule.require_sites(network)
    theta, sites = entrant.rule.named_theta, len(network.sites)
    rows = theta.sites
    require(
        theta.fits(sites),
        f"the rule {entrant.name} has coefficients for each of {rows} layers, but the network has "
        f"{sites} layers; give --depth {rows}, or discover a rule with --theta shared."
        if network.name == STACK
        else f"the rule {entrant.name} has coefficients for each of {rows} matrices, but the "
        f"system {network.name} has {sites}; discover a rule with --theta shared.",
    )
