"""The teacher of planted episodes: its outputs, and the coefficients of its rule.

Coefficients that the user does not give are drawn so that the teacher stays finite and every term
has an effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import own_settings
from metaplast.engines import unroll
from metaplast.rules.rule import Rule
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSampler
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import Term

#: Episodes on which a rule is tried before it is planted.
TRIED = 64

#: A drawn rule must stay finite even if all its coefficients are multiplied by this factor: a
#: teacher near divergence would diverge in some of the many episodes.
MARGIN = 1.5

#: How much a single drawn term changes the outputs: KL(without ‖ with) in nats, or for regression
#: the loss. Beyond about 0.05, rules of several terms begin to diverge. The coefficient is then
#: multiplied by a random factor, from 1/√SPREAD to √SPREAD.
EFFECT = 0.005
SPREAD = 2.0

#: Number of draws of coefficients before giving up.
DRAWS = 50


@own_settings()
def fresh(
    base: EpisodeSampler,
    teacher: Learner,
    episodes: int,
    generator: torch.Generator,
    dtype: torch.dtype,
) -> tuple[EpisodeBatch, State]:
    """Return episodes of a sampler, and initial weights for the networks that learn them."""
    batch = base.sample(episodes, generator).to(dtype)
    return batch, teacher.draw(episodes, generator, dtype)


@own_settings()
def teacher_outputs(teacher: Learner, theta: Tensor, state: State, batch: EpisodeBatch) -> Tensor:
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


def teacher_rule(
    given: Coefficients | None, sampler: EpisodeSampler, teacher: Learner, request: EpisodeRequest
) -> Rule:
    """Return the rule to plant; coefficients that are not given are drawn by the request's seed.

    A drawn coefficient has a random sign, and a size at which the term alone changes the outputs by
    about `EFFECT` (for a backward term, when it is added to the forward terms). Coefficients are
    redrawn until no episode diverges and removing any term has a noticeable effect.

    Args:
        given: θ of the teacher's terms; None to draw it.
        sampler: provides images and support labels.
        teacher: network, feedback and terms.
        request: the request of the source.

    Raises:
        UserError: if a given rule diverges, or no draw succeeds.
    """
    draw = generator(request.seed, "planted", device=request.device)
    outputs = _Trial(teacher, *fresh(sampler, teacher, TRIED, draw, torch.float64))
    names = ", ".join(term.name for term in teacher.terms)
    if given is not None:
        rule = Rule.of(teacher.terms, given, teacher.feedback_name)
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
        return teacher_outputs(self.teacher, theta, self.state, self.batch)

    def effect(self, p: Tensor, q: Tensor) -> float:
        """Return how much larger the loss with targets p is at outputs q than at outputs p.

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
                # This size does not depend on the other terms, so it is found once for each sign.
                if (k, sign) not in sizes:
                    sizes[k, sign] = _effective(outputs, torch.zeros_like(theta), k, sign)
                size = sizes[k, sign]
            theta[k] = sign * size * SPREAD ** (chance[1][k] - 0.5)
        if _is_suitable(outputs, theta):
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
    """Return KL(p ‖ q) in nats, a mean over all queries; infinity if a value is not finite.

    Args:
        p: probabilities, [..., class].
        q: shaped like p.
    """
    least = torch.finfo(p.dtype).tiny
    each = (p * (p.clamp_min(least).log() - q.clamp_min(least).log())).sum(-1)
    return float(each.mean()) if torch.isfinite(each).all() else math.inf


def _is_suitable(outputs: _Trial, theta: Tensor) -> bool:
    """Return whether no episode is near divergence, and removing any term has an effect."""
    if not torch.isfinite(outputs(MARGIN * theta)).all():
        return False
    target = outputs(theta)
    without = theta.repeat(len(theta), 1).fill_diagonal_(0)
    effects = [outputs.effect(target, outputs(row)) for row in without]
    return all(EFFECT / 4 <= each < math.inf for each in effects)
