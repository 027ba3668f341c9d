"""Episodes whose query labels come from a network that learned by a known rule.

The teacher starts from the same weights and feedback as the learner and sees the same support set.
The query labels p are its softmax outputs. The learner's loss, the cross-entropy with them,

    H(p, q) = H(p) + KL(p ‖ q),

is least if its outputs q equal p, that is, at the planted coefficients. So we know which rule
discovery should find. For regression p are the teacher's outputs themselves, and the loss is 0 at
the planted coefficients. `teacher_rule` draws the coefficients that are not given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from metaplast.base.errors import UserError, require, shown
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import own_settings
from metaplast.base.words import words
from metaplast.discovery.own import request_of
from metaplast.engines import unroll
from metaplast.rules.rule import Rule
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import System
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.digest import Digest, sampler_digest
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSampler, EpisodeSource, EpisodeSplit
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import choose_terms, get_term
from metaplast.terms.term import Term

#: Source of images and support labels if the user names none.
BASE = "clusters"

#: Episodes on which a rule is tried before it is planted.
TRIED = 64

#: A drawn rule must stay finite even if all its coefficients are multiplied by this factor: a
#: teacher near divergence would diverge in some of the many episodes.
MARGIN = 1.5

#: How far a single drawn term moves the outputs: KL(without ‖ with) in nats, or for regression the
#: loss; and by what factor the coefficients are then varied. Beyond about 0.05, rules of several
#: terms begin to diverge.
EFFECT = 0.005
SPREAD = 2.0

#: Number of draws of coefficients before giving up.
DRAWS = 50

_HELP = "write --dataset planted:bio, planted:F0=0.01,F9=0.002 or planted:RULE.json"


@dataclass(frozen=True)
class Plan:
    """The rule that the user asked for: terms, and their coefficients, or None to draw them."""

    terms: tuple[Term, ...]
    theta: Coefficients | None = None


@dataclass(frozen=True, eq=False)
class PlantedSampler:
    """Episodes of another sampler, with queries labelled by a teacher.

    Attributes:
        base: provides images and support labels.
        teacher: network, feedback and terms of the planted rule.
        theta: its coefficients, [term] or [layer, term].
    """

    base: EpisodeSampler
    teacher: Learner
    theta: Tensor

    @property
    def request(self) -> EpisodeRequest | None:
        """The request to the source of the images."""
        return request_of(self.base)

    def digest(self) -> str:
        """Return a digest of the images, the planted rule and the network that labels them."""
        teacher, found = self.teacher, Digest("planted")
        network = teacher.network
        found.plain([list(network.widths), network.activation, network.init])
        found.plain([teacher.feedback_name, [term.spell() for term in teacher.terms]])
        if network.objective_name != "cross-entropy":
            # Left out for the cross-entropy, so that digests of earlier runs stay the same.
            found.plain(network.objective_name)
        found.plain(sampler_digest(self.base, self.theta.device))
        found.tensor(self.theta)
        return found.value()

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes, with the initial weights of their networks."""
        batch, state = _fresh(self.base, self.teacher, episodes, generator, self.theta.dtype)
        labels = taught(self.teacher, self.theta, state, batch)
        return replace(batch, query_y=labels, initial=state)


@own_settings()
def _fresh(
    base: EpisodeSampler,
    teacher: Learner,
    episodes: int,
    generator: torch.Generator,
    dtype: torch.dtype,
) -> tuple[EpisodeBatch, State]:
    batch = base.sample(episodes, generator).to(dtype)
    return batch, teacher.draw(episodes, generator, dtype)


@own_settings()
def taught(teacher: Learner, theta: Tensor, state: State, batch: EpisodeBatch) -> Tensor:
    """Return the teacher's outputs on the query set, [episode, query, output].

    Args:
        teacher: network, feedback and terms.
        theta: coefficients of its terms, [term] or [layer, term].
        state: initial weights.
        batch: the episodes; their query labels do not matter.
    """
    final = unroll(teacher, theta, state, batch, gradient=False).final
    output = teacher.system.output(View.of(final), batch.query_x)
    return teacher.system.objective.activity(output)


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
            return plant(plan, base, Learner(system, plan.terms), request)

        return replace(base, binding=bind)


def read_plan(text: str) -> Plan:
    """Return the rule written as a file, a known rule, names, or names with coefficients.

    Raises:
        UserError: if it has none of these forms, or all coefficients are zero.
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
    return Plan(tuple(term for term in rule.terms if term.name in kept), theta.select(kept))


def plant(
    plan: Plan, base: EpisodeSplit, teacher: Learner, request: EpisodeRequest
) -> EpisodeSplit:
    """Return the split with its queries labelled by the teacher.

    Raises:
        UserError: if the teacher diverges.
    """
    rule = teacher_rule(plan, base.train, teacher, request)
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


def teacher_rule(
    plan: Plan, sampler: EpisodeSampler, teacher: Learner, request: EpisodeRequest
) -> Rule:
    """Return the rule to plant; coefficients that are not given are drawn by the request's seed.

    A drawn coefficient has a random sign, and a size at which the term by itself moves the outputs
    by about `EFFECT` (a backward term: when added to the forward terms). Coefficients are redrawn
    until no episode diverges and removing any term has a noticeable effect.

    Args:
        plan: what to plant.
        sampler: provides images and support labels.
        teacher: network, feedback and the plan's terms.
        request: of the source.

    Raises:
        UserError: if a given rule diverges, or no draw succeeds.
    """
    draw = generator(request.seed, "planted", device=request.device)
    outputs = _Trial(teacher, *_fresh(sampler, teacher, TRIED, draw, torch.float64))
    names = ", ".join(term.name for term in teacher.terms)
    if plan.theta is not None:
        rule = Rule.of(plan.terms, plan.theta, teacher.feedback_name)
        theta = rule.tensor(torch.float64, request.device)
        finite = torch.isfinite(outputs(theta)).flatten(1).all(1)
        require(
            bool(finite.all()),
            f"the planted rule of {names} diverges in {int((~finite).sum())} of {TRIED} episodes; "
            f"give smaller coefficients or fewer --shots.",
        )
        return rule
    coefficients = _draw(outputs, teacher.terms, draw)
    require(
        coefficients is not None,
        f"found no coefficients for {names} with which the teacher neither diverges nor ignores a "
        f"term; give them as in planted:F0=0.01,F9=0.002, or try another --seed.",
    )
    assert coefficients is not None
    return Rule.of(teacher.terms, coefficients, teacher.feedback_name)


@dataclass(frozen=True)
class _Trial:
    """Episodes on which a teacher is tried; called with θ, it returns the teacher's outputs."""

    teacher: Learner
    batch: EpisodeBatch
    state: State

    def __call__(self, theta: Tensor) -> Tensor:
        return taught(self.teacher, theta, self.state, self.batch)

    def effect(self, p: Tensor, q: Tensor) -> float:
        """Return how much larger the loss with labels p is at outputs q than at outputs p.

        This is KL(p ‖ q) for classes; infinity if a number is not finite.
        """
        objective = self.teacher.system.objective
        if objective.target_kind != "numbers":
            return divergence(p, q)
        more = float((objective.loss(q, p) - objective.loss(p, p)).mean())
        return more if math.isfinite(more) else math.inf


def _draw(outputs: _Trial, terms: tuple[Term, ...], draw: torch.Generator) -> Tensor | None:
    """Return coefficients with which the teacher is stable, [term]; None if no draw succeeds."""
    sizes: dict[tuple[int, float], float] = {}
    for _ in range(DRAWS):
        theta = torch.zeros(len(terms), dtype=torch.float64, device=draw.device)
        chance = torch.rand(
            2, len(terms), generator=draw, dtype=torch.float32, device=draw.device
        ).tolist()
        for k in sorted(range(len(terms)), key=lambda k: terms[k].is_backward):
            sign = 1.0 if terms[k].nonnegative or chance[0][k] < 0.5 else -1.0
            if terms[k].is_backward:
                size = _effective(outputs, theta, k, sign)
            else:
                # Independent of the other terms, so it is found only once for each sign.
                if (k, sign) not in sizes:
                    sizes[k, sign] = _effective(outputs, torch.zeros_like(theta), k, sign)
                size = sizes[k, sign]
            theta[k] = sign * size * SPREAD ** (chance[1][k] - 0.5)
        if _is_tame(outputs, theta):
            return theta
    return None


def _effective(outputs: _Trial, theta: Tensor, index: int, sign: float) -> float:
    """Return the size of a coefficient that, added to θ, moves the outputs by `EFFECT`."""
    before, theta = outputs(theta), theta.clone()
    low, high = -6.0, 2.0
    for _ in range(10):
        middle = (low + high) / 2
        theta[index] = sign * 10**middle
        # A diverging teacher counts as an infinite effect.
        low, high = (
            (middle, high) if outputs.effect(before, outputs(theta)) < EFFECT else (low, middle)
        )
    return float(10.0**low)


def divergence(p: Tensor, q: Tensor) -> float:
    """Return KL(p ‖ q) in nats, a mean over all queries; infinity if one is not finite.

    Args:
        p: probabilities, [..., class].
        q: shaped like p.
    """
    least = torch.finfo(p.dtype).tiny
    each = (p * (p.clamp_min(least).log() - q.clamp_min(least).log())).sum(-1)
    return float(each.mean()) if torch.isfinite(each).all() else math.inf


def _is_tame(outputs: _Trial, theta: Tensor) -> bool:
    """Return whether no episode is near divergence, and removing any term has an effect."""
    if not torch.isfinite(outputs(MARGIN * theta)).all():
        return False
    target = outputs(theta)
    without = theta.repeat(len(theta), 1).fill_diagonal_(0)
    missed = [outputs.effect(target, outputs(row)) for row in without]
    return all(EFFECT / 4 <= each < math.inf for each in missed)


PLANTED = PlantedSource()
