"""Compare rules that train networks online: the same networks, images and order for all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import UserError, require, require_within, shown, unknown_name
from metaplast.base.registry import match
from metaplast.base.words import words
from metaplast.discovery.run_folder import RULE, load_rule
from metaplast.online.train import OnlineRun, OnlineSettings, train_online
from metaplast.online.tuning import Quality, Scale, Search, Trial
from metaplast.rules.rule import Rule
from metaplast.systems.feedback import STACK, serving
from metaplast.systems.fully_connected import MOST_LAYERS
from metaplast.systems.kind import all_systems
from metaplast.systems.objective import all_objectives
from metaplast.systems.system import System
from metaplast.tasks.stream import StreamSplit
from metaplast.terms.library import (
    find_known_rule,
    get_term,
    goes_with,
    known_rules,
    online_baselines,
)

# A trial of tuning takes fewer networks and held-out images than the comparison, because there are
# many trials.
TUNING_SEEDS = 3
TUNING_IMAGES = 500

Fit = Literal["nothing", "coefficients", "scale"]


@dataclass(frozen=True)
class Entrant:
    """A rule in a comparison.

    Attributes:
        name: label in tables and figures.
        rule: the rule; if its coefficients are fitted, the initial ones are not used.
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


@dataclass(frozen=True)
class EntrantResult:
    """The results of an entrant.

    Attributes:
        entrant: the rule, with the coefficients that were used.
        run: scores, losses and measures of its networks.
        searched: names of the tuned coefficients; empty for a rule used unchanged.
        trials: all trials of the tuning.
        at_edge: names of tuned coefficients whose best value lies at the end of the range tried.
    """

    entrant: Entrant
    run: OnlineRun
    searched: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    at_edge: tuple[str, ...] = ()


def read_entrant(text: str, served: Collection[str] = ()) -> Entrant:
    """Return the rule in a file or a run folder, or a known rule, NAME or NAME:FEEDBACK.

    Args:
        text: as the user wrote it.
        served: feedbacks that serve the system, see `known_entrant`.

    Raises:
        UserError: if it is none of these, or the file is damaged.
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
        served: feedbacks that serve the system; a rule written without one takes its first of
            these, or its first if it has none of them.

    Raises:
        UserError: if it is unknown, or the rule does not go with the feedback.
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
    """Return the rules and their baselines, without repetitions and with distinct names.

    Args:
        rules: files, run folders or names of known rules.
        baselines: "usual", "none", or names of known rules separated by commas.
        fit_scale: whether rules with coefficients are also compared in a rescaled version.
        system: name of the system that learns.

    Raises:
        UserError: if a name is unknown, or there is no rule to train.
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


def widths_for_depth(hidden: Sequence[int], depth: int | None) -> tuple[int, ...]:
    """Return hidden widths for a network of `depth` weight matrices, shaped like `hidden`.

    The profile of `hidden` is stretched linearly to depth − 1 layers. This is our choice: the
    papers do not give the widths of deeper networks.

    Raises:
        UserError: if the depth is below 1, or there is no profile to stretch.
    """
    if depth is None:
        return tuple(hidden)
    require_within("--depth", depth, 1, MOST_LAYERS)
    if depth == 1:
        return ()
    require(bool(hidden), "--depth above 1 needs widths of hidden layers; give --hidden.")
    places = np.linspace(0, len(hidden) - 1, depth - 1)
    return tuple(round(w) for w in np.interp(places, range(len(hidden)), hidden).tolist())


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


def check_system(entrants: Sequence[Entrant]) -> None:
    """Refuse rules of other systems, for a user who has not said that stacks are to learn by them.

    Raises:
        UserError: if a rule was found with another system than the default one.
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
    """Refuse a rule with its own coefficients per layer for a network of another kind or depth.

    Raises:
        UserError: if the rule was found with another system, or the number of layers differs.
    """
    entrant.rule.require_sites(network)
    theta, sites = entrant.rule.named_theta, len(network.sites)
    rows = theta.sites
    require(
        theta.fits(sites),
        f"the rule {entrant.name} has coefficients for each of {rows} layers, the network has "
        f"{sites} layers; give --depth {rows}, or discover a rule with --theta shared."
        if network.name == STACK
        else f"the rule {entrant.name} has coefficients for each of {rows} matrices, the system "
        f"{network.name} has {sites}; discover a rule with --theta shared.",
    )


def tune(
    entrant: Entrant,
    network: System,
    split: StreamSplit,
    settings: OnlineSettings,
    like: Tensor,
    observe: Callable[[Trial], None] | None = None,
    *,
    whole: bool = False,
) -> tuple[Entrant, Search]:
    """Return a rule with the best coefficients on the tuning half, and the search for them.

    Args:
        entrant: the rule, and what to tune.
        network: the network of the comparison.
        split: only `split.tuning` is used.
        settings: settings of the comparison; tuning draws other networks and images.
        like: a tensor with the dtype and device to use.
        observe: called after each trial.
        whole: whether every term must take part; see `Search`.
    """
    learner = entrant.rule.learner(network)
    separate = _tuning_settings(settings)
    own = entrant.rule.tensor(like.dtype, like.device)
    scaled = entrant.fit == "scale"

    def theta_of(values: tuple[float, ...]) -> Tensor:
        return values[0] * own if scaled else like.new_tensor(values)

    def attempt(values: tuple[float, ...]) -> Trial:
        run = train_online(learner, theta_of(values), split.tuning, separate, probes={})
        loss = float(run.loss[:, -1].nan_to_num(torch.inf).mean())
        quality = Quality(float(run.score[:, -1].mean()), -loss)
        trial = Trial(values, quality, int(run.diverged.sum()))
        if observe is not None:
            observe(trial)
        return trial

    search = Search((Scale(),) if scaled else learner.terms, attempt, whole)
    best = search.run().theta
    # In float64, so that files hold exactly the values that were tried.
    values = torch.tensor(best, dtype=torch.float64, device="cpu")
    theta = values[0] * entrant.rule.tensor(torch.float64) if scaled else values
    rule = Rule.of(learner.terms, theta, entrant.rule.feedback, entrant.rule.provenance)
    return replace(entrant, rule=rule), search


def _tuning_settings(settings: OnlineSettings) -> OnlineSettings:
    """Return settings for the trials of a search: fewer networks and images, drawn separately."""
    return replace(
        settings,
        records=settings.records[-1:],
        seeds=min(settings.seeds, TUNING_SEEDS),
        queries=min(settings.queries, TUNING_IMAGES),
        purpose="tuning",
    )


def evaluate_entrant(
    entrant: Entrant,
    network: System,
    split: StreamSplit,
    settings: OnlineSettings,
    like: Tensor,
    observe_trial: Callable[[Trial], None] | None = None,
    observe: Callable[[int], None] | None = None,
) -> EntrantResult:
    """Return an entrant's results on the final half, after tuning it if necessary.

    Raises:
        UserError: if the rule does not fit the network.
    """
    check_depth(entrant, network)
    found: Search | None = None
    if entrant.is_tuned:
        entrant, found = tune(entrant, network, split, settings, like, observe_trial)
    learner = entrant.rule.learner(network)
    theta = entrant.rule.tensor(like.dtype, like.device)
    run = train_online(learner, theta, split.final, settings, observe=observe)
    if found is None:
        return EntrantResult(entrant, run)
    names = tuple(each.name for each in found.terms)
    return EntrantResult(entrant, run, names, tuple(found.trials.values()), tuple(found.at_edge))
