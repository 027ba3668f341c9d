"""One online step on plain tensors: for those who bring their own network and loop."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor

from metaplast.checks import require_tensor
from metaplast.errors import require
from metaplast.labels import Label, class_targets
from metaplast.learner import Learner, State
from metaplast.network import FullyConnected
from metaplast.rule import Rule
from metaplast.torch_settings import own_settings


def step(
    rule: Rule,
    weights: Sequence[Tensor],
    x: Tensor,
    label: Label,
    backward: Sequence[Tensor],
    activation: str,
) -> State:
    """Return the weights after one example; see `Rule.step`.

    Raises:
        UserError: if shapes do not fit, or the label is none.
    """
    weights, backward = _matrices(weights, "weights"), _matrices(backward, "backward")
    require_tensor(x, "x")
    batch = bool(weights) and weights[0].dim() == 3
    state = State(*(tuple(m if batch else m[None] for m in g) for g in (weights, backward)))
    x = x if batch else x[None]
    _check_shapes(state, x)
    shapes = [tuple(w.shape) for w in state.weights]
    network = FullyConnected((shapes[0][-1], *(shape[-2] for shape in shapes)), activation)
    learner = rule.learner(network)
    _check_rule(rule, learner, state)
    episodes = (len(x),) if batch else ()
    label = class_targets(label, network.widths[-1], episodes, device=x.device, dtype=x.dtype)
    theta = rule.tensor(x.dtype, x.device).expand(len(x), network.layers, len(rule.terms))
    with own_settings():
        after = learner.step(state, theta, x, label if batch else label[None])
    return State(*(tuple(m if batch else m[0] for m in group) for group in after))


def _matrices(given: Sequence[Tensor], what: str) -> Sequence[Tensor]:
    require(
        isinstance(given, Sequence),
        f"{what} must be a list or tuple of matrices, got a {type(given).__name__}; write one.",
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
        f"the layer below, got {[tuple(s) for s in shapes]}.",
    )
    episodes, _, pixels = shapes[0]
    require(
        tuple(x.shape) == (episodes, pixels),
        f"x must be [episode, pixel], that is {(episodes, pixels)}, or without the episodes for "
        f"plain matrices, got {tuple(x.shape)}.",
    )
    parts = [*state.weights, *state.backward, x]
    kinds = {(str(part.dtype), str(part.device)) for part in parts}
    require(
        len(kinds) == 1 and x.is_floating_point(),
        f"x and the matrices must share one floating-point dtype and one device, got "
        f"{' and '.join(' on '.join(kind) for kind in sorted(kinds))}; convert them.",
    )


def _check_rule(rule: Rule, learner: Learner, state: State) -> None:
    layers = learner.network.layers
    require(
        not rule.is_per_layer or len(rule.theta) == layers,
        f"the rule has coefficients for each of {len(rule.theta)} layers, got {layers} weight "
        f"matrices.",
    )
    shapes = learner.feedback.shapes(learner.network)
    episodes = len(state.weights[0])
    require(
        [tuple(matrix.shape) for matrix in state.backward] == [(episodes, *s) for s in shapes],
        f"{rule.feedback} feedback takes backward matrices of shapes {list(shapes)}, with the "
        f"weights' [episode] axis if they have one, got "
        f"{[tuple(matrix.shape) for matrix in state.backward]}.",
    )
