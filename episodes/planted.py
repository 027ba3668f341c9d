"""Episodes whose query labels come from a network that learned by a known rule.

The teacher starts from the same weights and feedback as the learner and sees the same support set.
The query labels p are its softmax outputs. The learner's loss, the cross-entropy with them,

    H(p, q) = H(p) + KL(p ‖ q),

is lowest if its outputs q equal p, that is, at the planted coefficients. So we know which rule
discovery should find. For regression, p are the teacher's outputs themselves, and the loss is 0 at
the planted coefficients. `episodes/teacher.py` draws the coefficients that are not given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from episodes.teacher import fresh, teacher_outputs, teacher_rule
from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import words
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.system import System
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.derived import DerivedSampler
from metaplast.tasks.digest import Digest, sampler_digest
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSource, EpisodeSplit
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import choose_terms, get_term
from metaplast.terms.term import Term

#: Source of images and support labels if the user names none.
BASE = "clusters"

_HELP = "write --dataset planted:bio, planted:F0=0.01,F9=0.002 or planted:RULE.json"


@dataclass(frozen=True)
class Plan:
    """The rule that the user asked for.

    Attributes:
        terms: its terms.
        theta: their coefficients; None to draw them.
        rule: the rule to which the coefficients belong; None if they are drawn.
    """

    terms: tuple[Term, ...]
    theta: Coefficients | None = None
    rule: Rule | None = None


@dataclass(frozen=True, eq=False)
class PlantedSampler(DerivedSampler):
    """Episodes of another sampler, with queries labelled by a teacher.

    Attributes:
        base: provides images and support labels.
        teacher: network, feedback and terms of the planted rule.
        theta: its coefficients, [term] or [layer, term].
    """

    teacher: Learner
    theta: Tensor

    def digest(self) -> str:
        """Return a digest of the images, the planted rule and the network that labels them."""
        teacher, found = self.teacher, Digest("planted")
        system = teacher.system
        if isinstance(system, FullyConnected):
            # Added as in earlier versions, so that digests of their runs stay the same.
            found.plain([list(system.widths), system.activation, system.init])
        else:
            found.plain(system.spec())
        found.plain([teacher.feedback_name, [term.spell() for term in teacher.terms]])
        if isinstance(system, FullyConnected) and system.objective_name != "cross-entropy":
            found.plain(system.objective_name)
        found.plain(sampler_digest(self.base, self.theta.device))
        found.tensor(self.theta)
        return found.value()

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes, with the initial weights of their networks."""
        batch, state = fresh(self.base, self.teacher, episodes, generator, self.theta.dtype)
        labels = teacher_outputs(self.teacher, self.theta, state, batch)
        return replace(batch, query_y=labels, initial=state)


class PlantedSource(EpisodeSource):
    """Episodes of another source, with queries labelled by a network with a known rule."""

    name = "planted"
    summary = "labels from a known rule: planted:RULE.json, planted:bio or planted:F0=0.01,F9=0.002"
    is_planting = True

    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Read the rule and open the source on which it is planted.

        Raises:
            UserError: if the rule cannot be read, or the other source is invalid.
        """
        text, at, source = request.argument.rpartition("@")
        rule, source = (text, source) if at else (source, BASE)
        require(bool(source), f"planted needs a data set after its @; {_HELP}.")
        plan = read_plan(rule)
        base = open_source(source, request)
        require(base.binding is None, f"rules are planted on data, not on {source}; {_HELP}.")

        def bind(system: System) -> EpisodeSplit:
            return plant(plan, base.bind(system), Learner(system, plan.terms), request)

        return replace(base, binding=bind, prefix=f"{self.name}:{rule}@")


def read_plan(text: str) -> Plan:
    """Return the rule written as a file, a known rule, names, or names with coefficients.

    Raises:
        UserError: if the text has none of these forms, or all coefficients are zero.
    """
    if text.endswith(".json"):
        return _without_zeros(Rule.load(Path(text)))
    require(bool(text), f"planted needs a rule after its colon; {_HELP}.")
    if "=" not in text:
        return Plan(choose_terms(text).terms)
    pairs = [part.partition("=") for part in words("planted", text)]
    try:
        values = tuple(float(value) for _, _, value in pairs)
    except ValueError:
        raise UserError(
            f"either every term or no term needs a number after =, got {shown(text)}; {_HELP}."
        ) from None
    require(
        all(math.isfinite(value) for value in values),
        f"planted coefficients must be finite numbers, got {shown(text)}; {_HELP}.",
    )
    terms = tuple(get_term(name) for name, _, _ in pairs)
    require(
        len(set(terms)) == len(terms),
        f"each term may be planted once, got {shown(text)}; remove the repeats.",
    )
    return _without_zeros(Rule(terms, (values,), "plastic"))


def _without_zeros(rule: Rule) -> Plan:
    """Return the rule without its zero coefficients, whose terms discovery should not find."""
    theta = rule.named_theta
    kept = theta.used
    require(bool(kept), f"every coefficient of the planted rule is zero; {_HELP}.")
    return Plan(tuple(term for term in rule.terms if term.name in kept), theta.select(kept), rule)


def plant(
    plan: Plan, base: EpisodeSplit, teacher: Learner, request: EpisodeRequest
) -> EpisodeSplit:
    """Return the split with its queries labelled by the teacher.

    Raises:
        UserError: if the teacher diverges.
    """
    if plan.rule is not None:
        plan.rule.require_sites(teacher.system)
    rule = teacher_rule(plan.theta, base.train, teacher, request)
    theta = rule.tensor(request.dtype, request.device)
    return replace(
        base,
        train=PlantedSampler(base.train, teacher, theta),
        test=PlantedSampler(base.test, teacher, theta),
        description=f"{'; '.join(rule.equation().splitlines())}, planted on {base.description}",
        planted=rule,
        binding=None,
        name="planted",
    )


PLANTED = PlantedSource()
