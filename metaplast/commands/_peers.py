"""Peers that the engines are timed against: the same unroll as scripts usually write it.

Both evaluate each monomial of a formula as a full outer product and differentiate through all of
it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from metaplast.engines import Problem
from metaplast.systems.learner import Learner
from metaplast.terms.algebra import Formula, Mapped, Projection, Signal, Vector

Run = Callable[[], Any]
_MEGABYTE = 2.0**20


def _update(terms: Any, theta: Any, matrix: Any, values: Any, outer: Any) -> Any:
    """Return matrix + Σ_k θ_k · term_k, each monomial written out as a matrix."""
    new = matrix
    for index, term in enumerate(terms):
        for monomial in term.formula.monomials:
            strength = theta[index] * monomial.coefficient
            for gate in monomial.gates:
                strength = strength * (values(gate.left) @ values(gate.right))
            if monomial.row is None:
                new = new + strength * matrix
            else:
                new = new + strength * outer(values(monomial.row), values(monomial.column))
    return new


def _reader(signals: Any, matrix: Any) -> Callable[[Vector], Any]:
    """Return the function that looks up a vector."""

    def read(vector: Vector) -> Any:
        if isinstance(vector, Projection):
            return matrix.T @ read(vector.signal)
        return signals[vector]

    return read


def _ends(y: Any, e: Any, ones: Any, layer: int) -> dict[Signal, Any]:
    """Return the signals at both ends of a layer's weights."""
    ends: dict[Signal, Any] = {}
    for population, level in (("post", layer + 1), ("pre", layer)):
        kinds = {"activity": y[level], "error": e[level], "one": ones(y[level])}
        ends |= {Signal(population, kind): value for kind, value in kinds.items()}  # type: ignore[arg-type]
    return ends


def _serves(learner: Learner) -> bool:
    """Return whether the peers are written for this learner."""
    return learner.feedback_name == "fixed" and all(
        isinstance(term.formula, Formula)
        and not any(isinstance(v, Mapped) for v in term.formula.vectors)
        and not any(m.power for m in term.formula.monomials)
        and not (term.scalars or term.eligibilities)
        for term in learner.terms
    )


def eager_loop(problem: Problem) -> Run:
    """Return the plain loop: one episode, autograd through the weights."""
    assert _serves(problem.learner)
    terms, beta = problem.learner.terms, problem.learner.network.nonlinearity.beta
    episodes = problem.episodes
    start = [w[0] for w in problem.state.weights]
    feedback = [b[0] for b in problem.state.backward]

    def forward(weights: list[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
        y = [x]
        for w in weights[:-1]:
            y.append(functional.softplus(y[-1] @ w.T, beta=beta))
        logits = y[-1] @ weights[-1].T
        return [*y, torch.softmax(logits, -1)], logits

    def run() -> Tensor:
        theta = problem.theta.detach().clone().requires_grad_()
        weights = list(start)
        for t in range(episodes.steps):
            y, _ = forward(weights, episodes.support_x[0, t])
            e = [y[-1] - functional.one_hot(episodes.support_y[0, t], y[-1].shape[-1])]
            for level in reversed(range(len(weights))):
                e.insert(0, (feedback[level] @ e[0]) * (1 - torch.exp(-beta * y[level])))
            weights = [
                _update(terms, theta, w, _reader(_ends(y, e, torch.ones_like, i), w), torch.outer)
                for i, w in enumerate(weights)
            ]
        _, logits = forward(weights, episodes.query_x[0])
        loss = functional.cross_entropy(logits, episodes.query_y[0])
        return torch.autograd.grad(loss, theta)[0]

    return run


def _segment(steps: int) -> int:
    """Return the divisor of `steps` nearest to its square root."""
    divisors = [d for d in range(1, steps + 1) if steps % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / math.sqrt(steps))))


def jax_scan(problem: Problem, *, vectorised: bool) -> tuple[Run, float]:
    """Return the same loop in JAX: `lax.scan`, `jit`, segments of √T steps recomputed backward.

    Args:
        problem: what to unroll.
        vectorised: all episodes at once by `vmap`, or only the first.

    Returns:
        The compiled call to be timed, and the working memory in MB that the compiler plans.
    """
    import jax  # type: ignore[import-not-found,unused-ignore]
    import jax.numpy as jnp  # type: ignore[import-not-found,unused-ignore]

    gradient = jax.grad(_jax_loss(problem))
    arguments = _arrays(problem)
    if vectorised:
        gradient = jax.vmap(gradient, in_axes=(None, 0, 0, 0, 0))
    else:
        arguments = jax.tree.map(lambda a: a[0], arguments)
    theta = problem.theta.numpy()
    placed = jax.tree.map(jnp.asarray, arguments)
    function = jax.jit(gradient).lower(theta, *placed).compile()
    planned: Any = function.memory_analysis()
    needed = planned.temp_size_in_bytes / _MEGABYTE
    return (lambda: np.asarray(function(theta, *placed))), needed


def _jax_loss(problem: Problem) -> Callable[..., Any]:
    """Return the query loss after an episode: (θ, weights, feedback, support, query) → loss."""
    import jax
    import jax.numpy as jnp

    assert _serves(problem.learner)
    terms, beta = problem.learner.terms, problem.learner.network.nonlinearity.beta
    steps = problem.episodes.steps
    length = _segment(steps)

    def forward(weights: Any, x: Any) -> Any:
        y = [x]
        for w in weights[:-1]:
            y.append(jax.nn.softplus(beta * (y[-1] @ w.T)) / beta)
        logits = y[-1] @ weights[-1].T
        return [*y, jax.nn.softmax(logits)], logits

    def step(theta: Any, feedback: Any, weights: Any, example: Any) -> Any:
        x, label = example
        y, _ = forward(weights, x)
        e = [y[-1] - jax.nn.one_hot(label, y[-1].shape[-1])]
        for level in reversed(range(len(weights))):
            e.insert(0, (feedback[level] @ e[0]) * (1 - jnp.exp(-beta * y[level])))
        return tuple(
            _update(terms, theta, w, _reader(_ends(y, e, jnp.ones_like, i), w), jnp.outer)
            for i, w in enumerate(weights)
        )

    def loss(theta: Any, weights: Any, feedback: Any, support: Any, query: Any) -> Any:
        def segment(carry: Any, examples: Any) -> Any:
            one = lambda w, example: (step(theta, feedback, w, example), None)  # noqa: E731
            return jax.lax.scan(one, carry, examples)[0], None

        cut = jax.tree.map(lambda a: a.reshape(steps // length, length, *a.shape[1:]), support)
        weights, _ = jax.lax.scan(jax.checkpoint(segment), weights, cut)
        _, logits = forward(weights, query[0])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), query[1][:, None], 1)
        return -chosen.mean()

    return loss


def _arrays(problem: Problem) -> tuple[Any, ...]:
    episodes = problem.episodes
    tensors = (
        problem.state.weights,
        problem.state.backward,
        (episodes.support_x, episodes.support_y),
        (episodes.query_x, episodes.query_y),
    )
    return tuple(tuple(tensor.numpy() for tensor in group) for group in tensors)
