"""Explain an episode that diverged: at which step, in which layer, through which term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metaplast.base.torch_settings import own_settings
from metaplast.engines import Problem
from metaplast.engines.batched import first_bad_adjoint
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.system import Examples


@dataclass(frozen=True)
class Divergence:
    """Where a non-finite value first appeared.

    Attributes:
        phase: "learning", "query" (the query loss), or "gradient" (the adjoint in the backward
            pass).
        step: online step, from 0; the number of steps for the query.
        matrix: name of the matrix, such as "W1"; "" for the query.
        term: the term that contributed most to the value; "" if no term is involved.
    """

    phase: Literal["learning", "query", "gradient"]
    step: int
    matrix: str
    term: str

    def __str__(self) -> str:
        """Return the sentence shown to the user."""
        where = f", {self.matrix}" if self.matrix else ""
        by = f", most of it from {self.term}" if self.term else ""
        return f"non-finite {self.phase} at step {self.step}{where}{by}"


@own_settings()
@torch.no_grad()
def diagnose(problem: Problem) -> Divergence:
    """Return where the one episode of `problem` first becomes non-finite.

    This reruns the episode in torch, whichever engine diverged.
    """
    learner, theta = problem.learner, problem.episode_theta
    state, episodes = problem.state, problem.episodes
    for step in range(episodes.steps):
        after = learner.step(state, theta, episodes.example(step))
        bad = _first_bad(after)
        if bad is not None:
            term = _largest_term(learner, theta, state, episodes.example(step), bad)
            return Divergence("learning", step, bad, term)
        state = after
    loss, _ = learner.query(state, episodes.query)
    if not torch.isfinite(loss).all():
        return Divergence("query", episodes.steps, "", "")
    step, name, parts = first_bad_adjoint(problem)
    groups = {group.name: group for group in learner.changing}
    share = (theta * parts).nan_to_num(torch.inf).abs()[0]
    site = groups[name].site if name in groups else int(share.amax(1).argmax())
    if not name:
        name = next((g.name for g in learner.changing if g.site == site), "")
    return Divergence("gradient", step, name, learner.terms[int(share[site].argmax())].name)


def _first_bad(state: State) -> str | None:
    """Return the name of the first matrix or vector that is not finite; None if all are finite."""
    for name, tensor in {**state.matrices, **state.carry}.items():
        if not torch.isfinite(tensor).all():
            return name
    return None


def _largest_term(
    learner: Learner, theta: Tensor, state: State, example: Examples, matrix: str
) -> str:
    """Return the term with the largest update θ F of one matrix; non-finite counts as largest."""
    group = next((g for g in learner.changing if g.name == matrix), None)
    if group is None:
        return ""
    updates = learner.updates(state, example)[matrix]
    sizes = {
        learner.terms[k].name: float(
            (theta[0, group.site, k] * update).abs().max().nan_to_num(torch.inf)
        )
        for k, update in zip(learner.acting(group), updates, strict=True)
    }
    return max(sizes, key=lambda name: sizes[name], default="")


def first_divergence(problem: Problem, finite: Tensor) -> list[Divergence]:
    """Return a list with the divergence of the first episode that diverged; empty if none did.

    Args:
        problem: the episodes.
        finite: which of the episodes did not diverge, [episode].
    """
    bad = (~finite).nonzero().flatten().tolist()
    return [diagnose(problem.select(slice(bad[0], bad[0] + 1)))] if bad else []
