"""Peers in JAX against which the engines are timed, as fast as we could make them.

The update of a matrix is one low-rank product: monomials with the same row vector share one column
vector. Segments of about √steps online steps are recomputed in the backward pass. The whole
gradient is compiled. A recurrent network computes activities and errors by `lax.scan` over time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from metaplast.commands._peers import Run, ends, jumps, matrices_of, require_served
from metaplast.engines import Problem
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import Projection, Signal, Vector, pre
from metaplast.terms.term import Term

_MEGABYTE = 2.0**20
Array = Any
# θ, the feedback's matrices, the weights and an example → the weights after it.
Step = Callable[[Array, Any, Any, Any], Any]


def jax_scan(problem: Problem, *, vectorised: bool) -> tuple[Run, float]:
    """Return a function that computes the gradient with respect to θ in JAX.

    Args:
        problem: what to unroll.
        vectorised: whether to compute all episodes at once by `vmap`, or only the first.

    Returns:
        The compiled function to time, and the working memory in MB that the compiler plans.

    Raises:
        UserError: if the peers do not support the learner.
    """
    import jax  # type: ignore[import-not-found,unused-ignore]
    import jax.numpy as jnp  # type: ignore[import-not-found,unused-ignore]

    require_served(problem.learner)
    gradient = jax.grad(_loss(problem))
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


def _arrays(problem: Problem) -> tuple[Any, ...]:
    """Return the weights, the feedback's matrices, and the support and query sets."""
    episodes = problem.episodes
    groups = (
        *matrices_of(problem),
        (episodes.support_x, episodes.support_y),
        (episodes.query_x, episodes.query_y),
    )
    return tuple(tuple(tensor.numpy() for tensor in group) for group in groups)


def _segment(steps: int) -> int:
    """Return the divisor of `steps` nearest to its square root."""
    divisors = [d for d in range(1, steps + 1) if steps % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / math.sqrt(steps))))


def _loss(problem: Problem) -> Callable[..., Any]:
    """Return the query loss of an episode: (θ, weights, feedback, support, query) → loss."""
    import jax
    import jax.numpy as jnp

    system, terms = problem.learner.system, problem.learner.terms
    if isinstance(system, Recurrent):
        step, output = _recurrent(system, terms)
    else:
        step, output = _stack(problem.learner.network, terms)
    steps = problem.episodes.steps
    length = _segment(steps)

    def loss(theta: Array, weights: Any, feedback: Any, support: Any, query: Any) -> Array:
        def segment(carry: Any, examples: Any) -> Any:
            one = lambda w, example: (step(theta, feedback, w, example), None)  # noqa: E731
            return jax.lax.scan(one, carry, examples)[0], None

        cut = jax.tree.map(lambda a: a.reshape(steps // length, length, *a.shape[1:]), support)
        weights, _ = jax.lax.scan(jax.checkpoint(segment), weights, cut)
        logits = output(weights, query[0])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), query[1][:, None], 1)
        return -chosen.mean()

    return loss


def _update(
    terms: Sequence[Term], theta: Array, matrix: Array, signals: Mapping[Signal, Array]
) -> Array:
    """Return a matrix after one example; signals are [occurrence, neuron]."""
    import jax.numpy as jnp

    def read(vector: Vector) -> Array:
        if isinstance(vector, Projection):
            return signals[vector.signal] @ matrix
        assert isinstance(vector, Signal)
        return signals[vector]

    columns: dict[Vector, Array] = {}
    growth: Array = 0.0
    for index, term in enumerate(terms):
        for monomial in term.formula.monomials:  # type: ignore[union-attr]
            strength = theta[index] * monomial.coefficient
            if monomial.row is None or monomial.column is None:
                growth += jumps(monomial, strength, read).sum()
                continue
            for gate in monomial.gates:
                strength = strength * (read(gate.left) * read(gate.right)).sum(-1, keepdims=True)  # type: ignore[union-attr]
            part = strength * read(monomial.column)
            columns[monomial.row] = columns.get(monomial.row, 0.0) + part
    if columns:
        rows = jnp.concatenate([read(row) for row in columns])
        matrix = (1 + growth) * matrix + rows.T @ jnp.concatenate(list(columns.values()))
    else:
        matrix = (1 + growth) * matrix
    return matrix


def _stack(network: FullyConnected, terms: Sequence[Term]) -> tuple[Step, Callable[..., Array]]:
    """Return a step, and (weights, images) → net inputs of the output, of a stack."""
    import jax
    import jax.numpy as jnp

    beta = network.nonlinearity.beta

    def forward(weights: Any, x: Array) -> list[Array]:
        y = [x]
        for w in weights[:-1]:
            y.append(jax.nn.softplus(beta * (y[-1] @ w.T)) / beta)
        return [*y, y[-1] @ weights[-1].T]

    def step(theta: Array, feedback: Any, weights: Any, example: Any) -> Any:
        x, label = example
        *y, logits = forward(weights, x[None])
        y.append(jax.nn.softmax(logits))
        e = [y[-1] - jax.nn.one_hot(label, logits.shape[-1])]
        lowest = 0 if any(pre.error in term.signals for term in terms) else 1
        for level in reversed(range(len(weights))):
            slope = 1 - jnp.exp(-beta * y[level])
            e.insert(0, (e[0] @ feedback[level].T) * slope if level >= lowest else 0 * y[level])
        return tuple(
            _update(terms, theta, w, ends(y, e, jnp.ones_like, i)) for i, w in enumerate(weights)
        )

    return step, lambda weights, x: forward(weights, x)[-1]


def _expanded(timing: Timing, frames: Array) -> Array:
    """Return the input at each time step, [time, …], from frames."""
    import jax.numpy as jnp

    shown = jnp.repeat(frames, timing.show, 0)
    return jnp.pad(shown, ((0, timing.time - timing.shown), (0, 0)))


def _activities(matrix: Array, arrived: Array) -> Array:
    """Return y_t = tanh(W_h y_{t−1} + arrived_t), [time, neuron]."""
    import jax
    import jax.numpy as jnp

    def advance(y: Array, f: Array) -> Any:
        y = jnp.tanh(matrix @ y + f)
        return y, y

    return jax.lax.scan(advance, jnp.zeros_like(arrived[0]), arrived)[1]


def _errors(y: Array, source: Array, back: Array) -> Array:
    """Return e_t = (`back` e_{t+1}) ⊙ (1 − y_t²), [time, neuron], from the last step's `source`."""
    import jax
    import jax.numpy as jnp

    def carry(e: Array, slope: Array) -> Any:
        e = (back @ e) * slope
        return e, e

    slopes = 1 - y**2
    last = source * slopes[-1]
    earlier = jax.lax.scan(carry, last, slopes[:-1], reverse=True)[1]
    return jnp.concatenate([earlier, last[None]])


def _recurrent(system: Recurrent, terms: Sequence[Term]) -> tuple[Step, Callable[..., Array]]:
    """Return a step, and (weights, sequences) → output's net inputs, of a recurrent network."""
    import jax
    import jax.numpy as jnp

    timing = system.timing

    def run(weights: Any, frames: Array) -> Array:
        return _activities(weights[1], _expanded(timing, frames @ weights[0].T))

    def step(theta: Array, feedback: Any, weights: Any, example: Any) -> Any:
        frames, label = example
        y = run(weights, frames)
        logits = weights[2] @ y[-1]
        post = jax.nn.softmax(logits)
        output_error = post - jax.nn.one_hot(label, len(logits))
        e = _errors(y, feedback[2] @ output_error, feedback[1])
        x = _expanded(timing, frames)
        below = (e @ feedback[0].T) * (1 - jnp.clip(x, -1, 1) ** 2)
        sites = (
            ([x, y], [below, e]), ([y[:-1], y[1:]], [e[:-1], e[1:]]),
            ([y[-1:], post[None]], [e[-1:], output_error[None]]),
        )  # fmt: skip
        return tuple(
            _update(terms, theta, w, ends(*site, jnp.ones_like, 0))
            for w, site in zip(weights, sites, strict=True)
        )

    def output(weights: Any, sequences: Array) -> Array:
        last = jax.vmap(lambda frames: run(weights, frames)[-1])(sequences)
        return last @ weights[2].T

    return step, output
