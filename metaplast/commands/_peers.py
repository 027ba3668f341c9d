"""The plain loop against which the engines are timed, as scripts usually write it.

It evaluates each monomial of a formula as a full matrix, and autograd differentiates the whole
loop. The peers in JAX are in `_jax_peers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from metaplast.base.errors import require
from metaplast.engines import Problem
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.terms.algebra import Formula, Mapped, Projection, Signal, Vector
from metaplast.terms.term import Term

Run = Callable[[], Any]
# θ, the feedback's matrices, the weights and an example → the weights after it.
Step = Callable[[Tensor, Sequence[Tensor], Sequence[Tensor], Tensor, Tensor], list[Tensor]]


def require_served(learner: Learner) -> None:
    """Check that the peers support a learner.

    Raises:
        UserError: if they do not support it.
    """
    served = all(
        isinstance(term.formula, Formula)
        and not any(isinstance(v, Mapped) for v in term.formula.vectors)
        and not any(m.power for m in term.formula.monomials)
        and not (term.scalars or term.eligibilities)
        for term in learner.terms
    )
    require(
        served and learner.feedback_name == "fixed" and _is_served(learner.system),
        "the peers of the benchmark support only stacks with softplus and recurrent networks with "
        "tanh and one target for each sequence, with the feedback fixed, and terms without "
        "functions, powers or memory.",
    )


def _is_served(system: Any) -> bool:
    if isinstance(system, Recurrent):
        return system.activation == "tanh" and not system.timing.each
    return isinstance(system, FullyConnected) and system.nonlinearity.kind == "softplus"


def matrices_of(problem: Problem) -> tuple[list[Tensor], list[Tensor]]:
    """Return the weights and the feedback's own matrices, lowest first."""
    system, state = problem.learner.system, problem.state
    if isinstance(system, Recurrent):
        names = system.sites
        own = [matrix for name, matrix in state.matrices.items() if name not in names]
        return [state.matrices[name] for name in names], own
    return list(state.weights), list(state.backward)


def ends(
    y: Sequence[Any], e: Sequence[Any], ones: Callable[[Any], Any], layer: int
) -> dict[Signal, Any]:
    """Return the signals at both ends of a layer's weights."""
    found: dict[Signal, Any] = {}
    for population, level in (("post", layer + 1), ("pre", layer)):
        kinds = {"activity": y[level], "error": e[level], "one": ones(y[level])}
        found |= {Signal(population, kind): value for kind, value in kinds.items()}  # type: ignore[arg-type]
    return found


def jumps(monomial: Any, strength: Any, read: Callable[[Vector], Any]) -> Any:
    """Return the factors of a decay: one for each occurrence, or a single factor without gates."""
    for gate in monomial.gates:
        strength = strength * (read(gate.left) * read(gate.right)).sum(-1)
    return strength


def _update(
    terms: Sequence[Term], theta: Tensor, matrix: Tensor, signals: Mapping[Signal, Tensor]
) -> Tensor:
    """Return matrix + Σ_k θ_k · term_k, each monomial written out as a matrix.

    Signals are [occurrence, neuron].
    """

    def read(vector: Vector) -> Tensor:
        if isinstance(vector, Projection):
            return signals[vector.signal] @ matrix
        assert isinstance(vector, Signal)
        return signals[vector]

    new = matrix
    for index, term in enumerate(terms):
        for monomial in term.formula.monomials:  # type: ignore[union-attr]
            strength = theta[index] * monomial.coefficient
            if monomial.row is None or monomial.column is None:
                new = new + jumps(monomial, strength, read).sum() * matrix
                continue
            row = read(monomial.row)
            for gate in monomial.gates:
                row = row * (read(gate.left) * read(gate.right)).sum(-1, keepdim=True)  # type: ignore[union-attr]
            new = new + strength * (row.mT @ read(monomial.column))
    return new


def eager_loop(problem: Problem) -> Run:
    """Return the plain loop over the first episode, which returns the gradient with respect to θ.

    Raises:
        UserError: if the peers do not support the learner.
    """
    require_served(problem.learner)
    system, terms = problem.learner.system, problem.learner.terms
    if isinstance(system, Recurrent):
        step, output = _recurrent(system, terms)
    else:
        step, output = _stack(problem.learner.network, terms)
    episodes = problem.episodes
    start, feedback = ([m[0] for m in group] for group in matrices_of(problem))

    def run() -> Tensor:
        theta = problem.theta.detach().clone().requires_grad_()
        weights = start
        for x, label in zip(episodes.support_x[0], episodes.support_y[0], strict=True):
            weights = step(theta, feedback, weights, x, label)
        loss = functional.cross_entropy(output(weights, episodes.query_x[0]), episodes.query_y[0])
        return torch.autograd.grad(loss, theta)[0]

    return run


def _stack(
    network: FullyConnected, terms: Sequence[Term]
) -> tuple[Step, Callable[[Sequence[Tensor], Tensor], Tensor]]:
    """Return a step, and (weights, images) → net inputs of the output, of a stack."""
    beta = network.nonlinearity.beta

    def forward(weights: Sequence[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
        y = [x]
        for w in weights[:-1]:
            y.append(functional.softplus(y[-1] @ w.T, beta=beta))
        logits = y[-1] @ weights[-1].T
        return [*y, torch.softmax(logits, -1)], logits

    def step(
        theta: Tensor, feedback: Sequence[Tensor], weights: Sequence[Tensor], x: Tensor,
        label: Tensor,
    ) -> list[Tensor]:  # fmt: skip
        y, _ = forward(weights, x[None])
        e = [y[-1] - functional.one_hot(label, y[-1].shape[-1])]
        for level in reversed(range(len(weights))):
            e.insert(0, (e[0] @ feedback[level].T) * (1 - torch.exp(-beta * y[level])))
        return [
            _update(terms, theta, w, ends(y, e, torch.ones_like, i)) for i, w in enumerate(weights)
        ]

    return step, lambda weights, x: forward(weights, x)[1]


def _recurrent(
    system: Recurrent, terms: Sequence[Term]
) -> tuple[Step, Callable[[Sequence[Tensor], Tensor], Tensor]]:
    """Return a step, and (weights, sequences) → output's net inputs, of a recurrent network."""
    timing = system.timing

    def run(weights: Sequence[Tensor], frames: Tensor) -> list[Tensor]:
        arrived = frames @ weights[0].T
        y = [torch.tanh(arrived[..., 0, :])]
        for t in range(1, timing.time):
            frame = timing.frame(t)
            z = y[-1] @ weights[1].T
            y.append(torch.tanh(z if frame is None else z + arrived[..., frame, :]))
        return y

    def step(
        theta: Tensor, feedback: Sequence[Tensor], weights: Sequence[Tensor], frames: Tensor,
        label: Tensor,
    ) -> list[Tensor]:  # fmt: skip
        y = run(weights, frames)
        post = torch.softmax(weights[2] @ y[-1], -1)
        output_error = post - functional.one_hot(label, len(post))
        e = [(feedback[2] @ output_error) * (1 - y[-1].square())]
        for activity in reversed(y[:-1]):
            e.insert(0, (feedback[1] @ e[0]) * (1 - activity.square()))
        ys, es, x = torch.stack(y), torch.stack(e), timing.expanded(frames[None])[0]
        below = (es @ feedback[0].T) * (1 - x.clamp(-1, 1).square())
        sites = (
            ([x, ys], [below, es]), ([ys[:-1], ys[1:]], [es[:-1], es[1:]]),
            ([ys[-1:], post[None]], [es[-1:], output_error[None]]),
        )  # fmt: skip
        return [
            _update(terms, theta, w, ends(*site, torch.ones_like, 0))
            for w, site in zip(weights, sites, strict=True)
        ]

    return step, lambda weights, x: run(weights, x)[-1] @ weights[2].T
