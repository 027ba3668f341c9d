"""Explain an episode that diverged: at which step, in which layer, by which term."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from metaplast.algebra import MatrixName
from metaplast.learner import Learner, State
from metaplast.torch_settings import own_settings
from metaplast.unroll import Problem
from metaplast.unroll.batched import first_bad_adjoint


@dataclass(frozen=True)
class Divergence:
    """Where a non-finite value first appeared.

    Attributes:
        phase: in the "learning", the "query" loss, or the "gradient" carried back.
        step: online step, from 0; the number of steps for the query.
        layer: from 1.
        matrix: forward "W" or backward "B" weights.
        term: the term with the largest share in it; "" if no term takes part.
    """

    phase: Literal["learning", "query", "gradient"]
    step: int
    layer: int
    matrix: MatrixName
    term: str

    def __str__(self) -> str:
        """Return the sentence for the user."""
        by = f", most of it from {self.term}" if self.term else ""
        where = f"{self.matrix}{self.layer}"
        return f"non-finite {self.phase} at step {self.step}, {where}{by}"


@own_settings()
@torch.no_grad()
def diagnose(problem: Problem) -> Divergence:
    """Return where the one episode of `problem` first leaves the finite numbers.

    The episode is learned again, in torch, whichever engine met the divergence.
    """
    learner, theta = problem.learner, problem.episode_theta
    state, episodes = problem.state, problem.episodes
    for step in range(episodes.steps):
        x, label = episodes.support_x[:, step], episodes.support_y[:, step]
        after = learner.step(state, theta, x, label)
        bad = _first_bad(after)
        if bad is not None:
            matrix, layer = bad
            term = _largest_term(learner, theta, state, (x, label), matrix, layer)
            return Divergence("learning", step, layer + 1, matrix, term)
        state = after
    loss, _ = learner.query(state, episodes.query_x, episodes.query_y)
    if not torch.isfinite(loss).all():
        return Divergence("query", episodes.steps, learner.network.layers, "W", "")
    step, index, parts = first_bad_adjoint(problem)
    layers = learner.network.layers
    layer = index % layers
    share = (theta * parts).nan_to_num(torch.inf).abs()[0, layer]
    names = [term.name for term in learner.terms]
    return Divergence(
        "gradient", step, layer + 1, "B" if index >= layers else "W", names[int(share.argmax())]
    )


def _first_bad(state: State) -> tuple[MatrixName, int] | None:
    groups: tuple[tuple[MatrixName, tuple[Tensor, ...]], ...] = (
        ("W", state.weights),
        ("B", state.backward),
    )
    for name, matrices in groups:
        for layer, matrix in enumerate(matrices):
            if not torch.isfinite(matrix).all():
                return name, layer
    return None


def _largest_term(
    learner: Learner,
    theta: Tensor,
    state: State,
    example: tuple[Tensor, Tensor],
    matrix: MatrixName,
    layer: int,
) -> str:
    """Return the term whose update θ F of one matrix is the largest; non-finite counts as such."""
    updates = zip(learner.terms, learner.updates(state, *example)[layer], strict=True)
    sizes = {
        term.name: float((theta[0, layer, k] * update).abs().max().nan_to_num(torch.inf))
        for k, (term, update) in enumerate(updates)
        if term.matrix.name == matrix
    }
    return max(sizes, key=lambda name: sizes[name], default="")
