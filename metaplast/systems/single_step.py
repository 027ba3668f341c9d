"""One online step on plain tensors, for users with their own network and loop."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.tensors import require_tensor, type_name
from metaplast.base.torch_settings import own_settings
from metaplast.systems.constrained import constrained
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.labels import Label
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.system import Examples
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import Term


class Stepped(NamedTuple):
    """W_1 … W_L and the feedback's own matrices after a step, shaped like the inputs."""

    weights: tuple[Tensor, ...]
    backward: tuple[Tensor, ...]


def step(
    terms: Sequence[Term],
    theta: Coefficients,
    feedback: str,
    weights: Sequence[Tensor],
    x: Tensor,
    label: Label,
    backward: Sequence[Tensor],
    activation: str,
    objective: str,
    constraint: str,
) -> Stepped:
    """Return the weights after one example; see `Rule.step`.

    Args:
        terms: the terms of the rule.
        theta: their coefficients.
        feedback: the source of the errors.
        weights: as in `Rule.step`, and so are the other arguments.

    Raises:
        UserError: if shapes do not match, or the target is invalid.
    """
    weights, backward = _matrices(weights, "weights"), _matrices(backward, "backward")
    require_tensor(x, "x")
    batch = bool(weights) and weights[0].dim() == 3
    state = State.stack(*([m if batch else m[None] for m in g] for g in (weights, backward)))
    x = x if batch else x[None]
    _check_shapes(state, x)
    widths = (x.shape[-1], *(w.shape[-2] for w in state.weights))
    network = FullyConnected(widths, activation, feedback_name=feedback, objective_name=objective)
    learner = Learner(constrained(network, constraint), tuple(terms))
    _check_rule(theta, learner, state)
    expanded = theta.like(x).for_sites(network.layers).expand(len(x), -1, -1)
    episodes = (len(x),) if batch else ()
    target = network.objective.finite_targets(label, episodes, network.outputs, x)
    with own_settings():
        after = learner.step(state, expanded, Examples(x, target if batch else target[None]))
    after = after if batch else after.map(lambda matrix: matrix[0])
    return Stepped(after.weights, after.backward)


def _matrices(given: Sequence[Tensor], what: str) -> Sequence[Tensor]:
    require(
        isinstance(given, Sequence),
        f"{what} must be a list or tuple of matrices, got {type_name(given)}; write one.",
    )
    for matrix in given:
        require_tensor(matrix, f"each of {what}")
    return given


def _check_shapes(state: State, x: Tensor) -> None:
    shapes = [tuple(w.shape) for w in state.weights]
    require(
        bool(shapes)
        and all(
            len(shape) == 3 and shape[0] == shapes[0][0] and min(shape) >= 1 for shape in shapes
        )
        and all(a[-2] == b[-1] for a, b in itertools.pairwise(shapes)),
        f"weights must be W_1 … W_L, each [post, pre] or [episode, post, pre], each as wide as "
        f"the layer below, got {shapes}.",
    )
    episodes, _, inputs = shapes[0]
    require(
        tuple(x.shape) == (episodes, inputs),
        f"x must be [episode, input], that is {(episodes, inputs)}, or without the episodes for "
        f"plain matrices, got {tuple(x.shape)}.",
    )
    parts = [*state.weights, *state.backward, x]
    kinds = {(str(part.dtype), str(part.device)) for part in parts}
    require(
        len(kinds) == 1 and x.is_floating_point(),
        f"x and the matrices must share one floating-point dtype and one device, got "
        f"{' and '.join(' on '.join(kind) for kind in sorted(kinds))}; convert them.",
    )


def _check_rule(theta: Coefficients, learner: Learner, state: State) -> None:
    network = learner.network
    require(
        theta.fits(network.layers),
        f"the rule has coefficients for each of {theta.sites} layers, got {network.layers} weight "
        f"matrices.",
    )
    shapes = network.feedback.shapes(network.widths)
    episodes = len(state.weights[0])
    require(
        [tuple(matrix.shape) for matrix in state.backward] == [(episodes, *s) for s in shapes],
        f"{network.feedback_name} feedback takes backward matrices of shapes {list(shapes)}, with "
        f"the weights' [episode] axis if they have one, got "
        f"{[tuple(matrix.shape) for matrix in state.backward]}.",
    )
