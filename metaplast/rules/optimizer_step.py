"""One step of a rule's optimizer, from the signals of a call to the next state."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.systems.fully_connected import Forward
from metaplast.systems.learner import Learner
from metaplast.systems.objective import Objective
from metaplast.systems.state import State, View

HALF = (torch.float16, torch.bfloat16)


def learn(
    learner: Learner,
    theta: Tensor,
    weights: list[Tensor],
    feedback: list[Tensor | None],
    forward: Forward,
    output_error: Tensor | Callable[[Tensor], Tensor],
) -> State:
    """Return one network's state after learning; differentiable.

    Args:
        learner: network, feedback and terms.
        theta: [term] or [layer, term].
        weights: W_1 … W_L, each [post, pre].
        feedback: the feedback's own weights; None where it has none.
        forward: signals, each [1, example, neuron].
        output_error: e_L, [1, example, class], or the function z_L → e_L.

    Raises:
        UserError: if θ has another shape.
    """
    state = State.stack(
        [weight[None] for weight in weights],
        [matrix[None] for matrix in feedback if matrix is not None],
    )
    network = learner.network
    layers, terms = network.layers, len(learner.terms)
    require(
        tuple(theta.shape) in ((terms,), (layers, terms)),
        f"θ must have the shape [{terms}], or [{layers}, {terms}] for coefficients of each layer, "
        f"got {list(theta.shape)}; give one number for each term.",
    )
    # Examples are occurrences: n of them change the weights by their mean.
    weight = 1 / forward.output.shape[1]
    shown = network.synapses(View.of(state), forward, output_error, learner.reads, weight)
    return learner.moved(state, learner.changes_of(theta.expand(1, layers, terms), shown))


def require_finite(after: State, dtype: torch.dtype) -> None:
    """Raise `UserError` if a weight is not a finite number after a step, in the model's dtype."""
    finite = [matrix.to(dtype).isfinite().all() for matrix in after.matrices.values()]
    require(
        bool(torch.stack(finite).all()),
        "the step would leave weights that are not finite numbers, so nothing was changed; check "
        "that the input and the weights are finite, or use a smaller lr.",
    )


def strength(group: dict[str, Any], weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a parameter group's lr · θ on a weight's device, in `dtype`; differentiable."""
    lr = group.get("lr")
    require_factor(lr)
    factor: Any = lr.reshape(()) if isinstance(lr, Tensor) else lr
    theta: Tensor = torch.as_tensor(group["theta"], device=weight.device) * factor
    return theta.to(dtype)


def require_factor(lr: Any) -> None:
    """Raise `UserError` unless `lr` is a finite number that is not negative."""
    is_number = isinstance(lr, numbers.Real) and not isinstance(lr, bool)
    if isinstance(lr, Tensor) and lr.numel() == 1 and lr.dtype != torch.bool:
        is_number, lr = not lr.is_complex(), lr.detach().item()
    require(
        is_number and 0 <= float(lr) < math.inf,
        f"lr, the factor on θ, must be a finite number that is not negative, got {lr!r}; 1 leaves "
        f"the rule as it was found.",
    )


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of a step's computation: float32 for weights of half precision."""
    return torch.float32 if dtype in HALF else dtype


def targets(label: Any, forward: Forward, objective: Objective) -> Tensor:
    """Return labels, or an objective's other targets, [1, example] or [1, example, output]."""
    _, examples, outputs = forward.output.shape
    several = examples > 1
    if not several:
        # A single example may come with or without its first axis, and so may its label.
        listed = isinstance(label, list | tuple)
        rows = isinstance(label, Tensor | np.ndarray) and label.ndim == 2
        if (listed or rows) and len(label) == 1 and (outputs > 1 or np.ndim(label[0])):
            label = label[0]  # With one output, [number] is already a whole target.
    shape = (examples,) if several else ()
    checked = objective.finite_targets(label, shape, outputs, forward.output, many=several)
    return checked[None] if several else checked[None, None]
