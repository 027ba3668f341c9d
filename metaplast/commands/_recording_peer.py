"""A peer in JAX for rules from recordings, in the form of the published code.

Mehta et al. (NeurIPS 2024) write a rule as a Taylor series, evaluate it at every synapse, follow a
trajectory by `lax.scan`, and fit all coefficients by Adam on the gradient through the trajectory.
The rule of a synapse is written here as they write it, and XLA compiles the whole loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from metaplast.base.bands import Numbers

Array = Any


@dataclass(frozen=True, eq=False)
class Trajectories:
    """The data of the peer.

    Attributes:
        inputs: x, [trial, time, pre].
        activity: y, [trial, time, post].
        weights: W at the start, [trial, post, pre].
    """

    inputs: Numbers
    activity: Numbers
    weights: Numbers


def value_and_gradient() -> Callable[[Array, Array, Array, Array], tuple[Array, Array]]:
    """Return a compiled function: the loss of one trajectory, and its gradient with respect to θ.

    θ is [3, 3, 3], by the powers of x, y and W. The loss is the mean squared difference between
    y = sigmoid(W x) and the recorded activity; W grows by Σ_abc θ_abc x^a y^b W^c in each step, as
    with η = 1.
    """
    import jax
    import jax.numpy as jnp

    def powers(value: Array) -> Array:
        return jnp.stack([jnp.ones_like(value), value, value**2])

    def synapse(theta: Array, x: Array, y: Array, w: Array) -> Array:
        return jnp.sum(theta * jnp.einsum("a,b,c->abc", powers(x), powers(y), powers(w)))

    row = jax.vmap(synapse, in_axes=(None, 0, None, 0))
    matrix = jax.vmap(row, in_axes=(None, None, 0, 0))

    def loss(theta: Array, inputs: Array, activity: Array, weights: Array) -> Array:
        def step(w: Array, x: Array) -> tuple[Array, Array]:
            y = jax.nn.sigmoid(w @ x)
            return w + matrix(theta, x, y, w), y

        return jnp.mean((jax.lax.scan(step, weights, inputs)[1] - activity) ** 2)

    found: Callable[[Array, Array, Array, Array], tuple[Array, Array]] = jax.jit(
        jax.value_and_grad(loss)
    )
    return found


def adam(data: Trajectories, epochs: int) -> Iterator[Numbers]:
    """Fit θ with the published settings, and yield it after each epoch.

    Adam starts at θ = 0, with rate 1e-3, the gradient's norm clipped at 0.2, and one trajectory for
    each update.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    evaluate = value_and_gradient()

    def update(theta: Array, first: Array, second: Array, t: Array, *one: Array) -> Array:
        gradient = evaluate(theta, *one)[1]
        gradient = gradient * jnp.minimum(1.0, 0.2 / jnp.maximum(jnp.linalg.norm(gradient), 1e-12))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        moved = (first / (1 - 0.9**t)) / (jnp.sqrt(second / (1 - 0.999**t)) + 1e-8)
        return theta - 1e-3 * moved, first, second

    compiled: Callable[..., Array] = jax.jit(update)
    state = (jnp.zeros((3, 3, 3)),) * 3
    arrays = [jnp.asarray(each, jnp.float32) for each in vars(data).values()]
    t = 0
    for _ in range(epochs):
        for trial in range(len(data.inputs)):
            t += 1
            state = compiled(*state, jnp.float32(t), *(each[trial] for each in arrays))
        yield np.asarray(state[0])
