"""One online step on plain tensors: for those who bring their own network and loop."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from metaplast.errors import require
from metaplast.learner import Learner, State
from metaplast.network import FullyConnected
from metaplast.rule import Rule


def step(
    rule: Rule,
    weights: Sequence[Tensor],
    x: Tensor,
    label: Tensor | int,
    backward: Sequence[Tensor],
    activation: str,
) -> State:
    """Return the weights after one example; see `Rule.step`.

    Raises:
        UserError: if shapes do not fit.
    """
    batch = bool(weights) and weights[0].dim() == 3
    state = State(*(tuple(m if batch else m[None] for m in g) for g in (weights, backward)))
    label = torch.as_tensor(label, device=x.device)
    if not batch:
        x, label = x[None], label[None]
    _check_shapes(state, x, label)
    shapes = [tuple(w.shape) for w in state.weights]
    network = FullyConnected((shapes[0][-1], *(shape[-2] for shape in shapes)), activation)
    learner = rule.learner(network)
    _check_rule(rule, learner, state)
    theta = rule.tensor(x.dtype, x.device).expand(len(x), network.layers, len(rule.terms))
    after = learner.step(state, theta, x, label)
    return State(*(tuple(m if batch else m[0] for m in group) for group in after))


def _check_shapes(state: State, x: Tensor, label: Tensor) -> None:
    shapes = [tuple(w.shape) for w in state.weights]
    require(
        bool(shapes)
        and all(len(shape) == 3 for shape in shapes)
        and all(a[-2] == b[-1] for a, b in itertools.pairwise(shapes)),
        f"weights must be W_1 … W_L, each [post, pre] or [episode, post, pre], each as wide as "
        f"the layer below, got {[tuple(s) for s in shapes]}.",
    )
    episodes, _, pixels = shapes[0]
    require(
        tuple(x.shape) == (episodes, pixels) and tuple(label.shape) == (episodes,),
        f"x must be [episode, pixel] and label [episode], that is {(episodes, pixels)} and "
        f"{(episodes,)}, or without the episodes for plain matrices, got {tuple(x.shape)} and "
        f"{tuple(label.shape)}.",
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
