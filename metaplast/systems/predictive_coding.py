"""Predictive coding for any `nn.Sequential`: gradients for an ordinary torch optimizer.

For the fully connected stack, see `metaplast.systems.feedbacks.predictive_coding`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.base.errors import UserError, require
from metaplast.base.tensors import require_tensor, type_name
from metaplast.systems.layer_pass import Layer, LayerPass, explained, layers_of
from metaplast.systems.relaxation import Relaxation

Loss = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True, eq=False)
class PredictiveCodingResult:
    """The result of predictive coding; the gradients are in `.grad` of the parameters.

    Attributes:
        loss: the loss of the forward pass.
        output: the output of the forward pass, v̂_L.
        errors: ε_1 … ε_L, each shaped like its layer's output.
        activities: v_1 … v_L after the last sweep; v_L is the output.
    """

    loss: Tensor
    output: Tensor
    errors: tuple[Tensor, ...]
    activities: tuple[Tensor, ...]


def predictive_coding(
    model: nn.Sequential,
    loss: Loss,
    x: Tensor,
    y: Any,
    algorithm: str = "strict",
    eta: float = 0.1,
    n: int = 20,
) -> PredictiveCodingResult:
    """Set the gradients of a model's parameters by predictive coding instead of backpropagation.

        optimizer.zero_grad()
        predictive_coding(model, nn.functional.cross_entropy, x, y)
        optimizer.step()

    Each module of the `nn.Sequential` is one layer f_ℓ; nest modules that form one layer, such as a
    convolution and its activation. v̂ are the activities of the forward pass, and activities v start
    there, with v_0 = x. In each of n sweeps all layers below the last move at once,

        v_ℓ ← v_ℓ + η (ε_ℓ − J_{ℓ+1}ᵀ ε_{ℓ+1}),     J_ℓ = ∂f_ℓ/∂v_{ℓ-1},

        strict:  ε_ℓ = f_ℓ(v_{ℓ-1}) − v_ℓ,  ε_L = ∂loss/∂f_L(v_{L-1}),  J_ℓ at v_{ℓ-1};
        fixed:   ε_ℓ = v̂_ℓ − v_ℓ,           ε_L = ∂loss/∂v̂_L,           J_ℓ at v̂_{ℓ-1};
        exact:   ε_ℓ = ∂loss/∂v̂_ℓ, v_ℓ = v̂_ℓ − ε_ℓ: backpropagation.

    The function *adds* (∂f_ℓ/∂parameters)ᵀ ε_ℓ to `.grad`, as `backward` does, with the ε_ℓ of the
    last sweep, before v_ℓ moved. Strict takes the derivative at the final v_{ℓ-1}, the others at
    v̂_{ℓ-1}.

    The result of strict depends on the scale of the loss: with the mean over a batch, ε is small
    and the gradients are close to those of backpropagation; with the sum, they differ more.

    Args:
        model: its modules are the layers.
        loss: a function (output, y) → a number that depends on the output.
        x: input of the first layer.
        y: passed on to `loss`.
        algorithm: "strict", "fixed" or "exact".
        eta: step of each sweep, above 0 and at most 2.
        n: number of sweeps.

    Raises:
        UserError: if the model is not a plain `nn.Sequential` or has nothing to train; a layer
            cannot be called, cannot be differentiated, or, with strict, differs from call to call;
            the loss cannot be computed, or is not a number that depends on the output; or a setting
            is out of range.
    """
    settings = Relaxation(algorithm, eta, n)
    require_tensor(x, "x")
    require(callable(loss), f"the loss must be a function (output, y), got {type_name(loss)}.")
    with torch.inference_mode(False), torch.enable_grad():
        layers = layers_of(model, repeated=settings.variant == "strict")
        given = _Given(layers, loss, x, y, repeated=settings.variant == "strict")
        return _ALGORITHMS[settings.variant](given, settings)


class _Given:
    """A model's forward pass, layer by layer, and the loss of other outputs."""

    def __init__(
        self, layers: Sequence[Layer], loss: Loss, x: Tensor, y: Any, *, repeated: bool
    ) -> None:
        self.layers, self._loss = layers, loss
        # Autograd cannot save a tensor made in inference mode for the backward pass.
        self._y = y.clone() if isinstance(y, Tensor) and y.is_inference() else y
        self.passes = [layers[0].at(x, clamped=True)]
        for layer in layers[1:]:
            call = layer.steady_at if repeated else layer.at
            self.passes.append(call(self.passes[-1].output))
        self.output = self.passes[-1].output
        self.loss, self.error = self.error_at(self.output)

    def error_at(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of an output, and its gradient with respect to the output."""
        leaf = output.clone().requires_grad_()
        with explained("the loss cannot be computed", "check it, and the targets y"):
            loss = self._loss(leaf, self._y)
        require(
            isinstance(loss, Tensor) and loss.numel() == 1 and not loss.is_complex(),
            f"the loss must be one number, got {_shape(loss)}; take its mean or its sum.",
        )
        error = None
        if loss.requires_grad:
            (error,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        if error is None:
            raise UserError(
                "the loss must depend on the output of the model, got one that does not; compute "
                "it from the function's first argument."
            )
        return loss.detach(), error

    def result(
        self, errors: Sequence[Tensor], moved: Sequence[Tensor], passes: Sequence[LayerPass]
    ) -> PredictiveCodingResult:
        """Add the gradients of the parameters at `passes`, and return the result."""
        for layer, error in zip(passes, errors, strict=True):
            layer.add_gradients(error)
        hidden = [p.output + d for p, d in zip(self.passes, moved, strict=False)]
        return PredictiveCodingResult(self.loss, self.output, tuple(errors), (*hidden, self.output))


def _shape(loss: object) -> str:
    if not isinstance(loss, Tensor):
        return type_name(loss)
    kind = "a complex tensor" if loss.is_complex() else "a tensor"
    return f"{kind} of shape {list(loss.shape)}"


def _exact(given: _Given, _: Relaxation) -> PredictiveCodingResult:
    errors = [given.error]
    for layer in reversed(given.passes[1:]):
        errors.insert(0, layer.back(errors[0]))
    return given.result(errors, [-error for error in errors[:-1]], given.passes)


def _fixed(given: _Given, settings: Relaxation) -> PredictiveCodingResult:
    moved = [torch.zeros_like(p.output) for p in given.passes[:-1]]
    errors = [given.error]
    for _ in range(settings.n):
        errors = [*(-d for d in moved), given.error]
        moved = _move(settings, errors, moved, given.passes)
    return given.result(errors, moved, given.passes)


def _strict(given: _Given, settings: Relaxation) -> PredictiveCodingResult:
    passes, errors = given.passes, [given.error]
    bases = [
        layer.base(below.output)
        for layer, below in zip(given.layers[1:-1], given.passes, strict=False)
    ]
    moved = [torch.zeros_like(p.output) for p in given.passes[:-1]]
    for _ in range(settings.n):
        # The input is clamped: the first layer's prediction never moves.
        changes = [base.change(d) for base, d in zip(bases, moved, strict=False)]
        errors = [-d for d in moved[:1]]
        errors += [c - d for c, d in zip(changes, moved[1:], strict=True)]
        errors.append(given.error_at(passes[-1].output)[1])
        moved = _move(settings, errors, moved, passes)
        passes = given.passes[:1]
        for layer, below, d in zip(given.layers[1:], given.passes, moved, strict=False):
            passes = [*passes, layer.at(below.output + d)]
    return given.result(errors, moved, passes)


def _move(
    settings: Relaxation,
    errors: Sequence[Tensor],
    moved: Sequence[Tensor],
    passes: Sequence[LayerPass],
) -> list[Tensor]:
    """Return v − v̂ of every layer below the last after a sweep."""
    carried = [above.back(error) for above, error in zip(passes[1:], errors[1:], strict=True)]
    return [
        d + settings.eta * (error - c) for d, error, c in zip(moved, errors, carried, strict=False)
    ]


_ALGORITHMS = {"strict": _strict, "fixed": _fixed, "exact": _exact}
