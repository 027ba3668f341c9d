"""Predictive coding: activities relax, and errors are computed from their prediction errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.systems.feedback import ErrorPass, Feedback, LayerSignals, Shape
from metaplast.systems.feedbacks.symmetric import symmetric
from metaplast.systems.relaxation import Relaxation
from metaplast.systems.relaxed import relaxed


@dataclass(frozen=True)
class PredictiveCoding(Feedback):
    """Errors from predictive coding: the variants Strict, FixedPred and Exact of Torch2PC.

    Layer ℓ predicts its activity from the one below. The activities v start at those of the
    forward pass, v̂, and the input v_0 = x is clamped. In each of n sweeps all hidden layers move,

        v_ℓ ← v_ℓ + η (ε_ℓ − W_{ℓ+1}ᵀ e_{ℓ+1}),     e_ℓ = ε_ℓ ⊙ σ'(z_ℓ),     ε_L = e_L,

        strict:  ε_ℓ = σ(z_ℓ) − v_ℓ,   z_ℓ = W_ℓ v_{ℓ-1},   e_L = ∂loss/∂z_L at z_L = W_L v_{L-1};
        fixed:   ε_ℓ = v̂_ℓ − v_ℓ,      z_ℓ = W_ℓ v̂_{ℓ-1},   e_L = ∂loss/∂z_L at z_L = W_L v̂_{L-1};
        exact:   ε_ℓ = W_{ℓ+1}ᵀ e_{ℓ+1} at once, v_ℓ = v̂_ℓ − ε_ℓ: backpropagation.

    The error that terms read is e_ℓ, with the ε_ℓ of the last sweep, before v_ℓ moved; strict takes
    its σ' at the final v. The activity that terms read in a hidden layer is v_ℓ in strict, and v̂_ℓ
    in fixed and exact; the output's activity is always that of the forward pass. So −e_ℓ ⊗ y_{ℓ-1}
    is the published update of W_ℓ. Nothing predicts the input, so e_0 = (W_1ᵀ e_1) ⊙ σ'(x).

    Terms may also read ε as "prediction_error", v as "relaxed" and v̂ as "feedforward".

    The code stores d_ℓ = v_ℓ − v̂_ℓ instead of v_ℓ, so that small errors are not lost in rounding
    next to large activities.

    Attributes:
        settings: the variant, η and n.
    """

    settings: Relaxation = field(default_factory=Relaxation)

    name = "predictive-coding"
    summary = "predictive coding, written predictive-coding:strict|fixed|exact,eta=0.1,n=20"
    offers = ("prediction_error", "relaxed", "feedforward")

    def __post_init__(self) -> None:
        """Set equation, note and code of the variant, for documents and programs."""
        given = self.settings
        sweeps = "1 sweep" if given.n == 1 else f"{given.n} sweeps"
        for attribute, text in _SPELLED[given.variant].items():
            text = text.replace("SWEEPS", sweeps).replace("STEP", f"{given.eta:g}")
            object.__setattr__(self, attribute, text)

    @property
    def written(self) -> str:
        """Name, variant and numbers."""
        return f"{self.name}:{self.settings.written}"

    @property
    def relaxation(self) -> Relaxation | None:
        """The settings; None if nothing relaxes."""
        return None if self.settings.variant == "exact" else self.settings

    def configured(self, argument: str) -> PredictiveCoding:
        """Return the feedback with these settings; see `Relaxation.parse`."""
        return self if not argument else PredictiveCoding(Relaxation.parse(argument))

    def shapes(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Return nothing: this feedback has no matrices of its own."""
        return ()

    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Return e_0 … e_L; see `Feedback.errors`."""
        return tuple(self.signals(given).errors)

    def signals(self, given: ErrorPass) -> LayerSignals:
        """Return activities, errors and the further signals; see `Feedback.signals`."""
        variant, forward = self.settings.variant, given.activities
        found = _RELAX[variant](given, self.settings)
        bottom = torch.zeros_like(forward[0])
        if given.lowest == 0:
            bottom = given.weights[0].transposed(found.errors[0])
        hidden = [a + d for a, d in zip(forward[1:-1], found.moved, strict=True)]
        relaxed = (forward[0], *hidden, forward[-1])
        return LayerSignals(
            relaxed if variant == "strict" else forward,
            (bottom * given.slope(0), *found.errors),
            {
                "prediction_error": (bottom, *found.prediction_errors),
                "relaxed": relaxed,
                "feedforward": forward,
            },
        )


class _Relaxed(NamedTuple):
    """ε_1 … ε_L, e_1 … e_L, and d_1 … d_{L-1} with d = v − v̂."""

    prediction_errors: list[Tensor]
    errors: list[Tensor]
    moved: list[Tensor]


def _exact(given: ErrorPass, _: Relaxation) -> _Relaxed:
    carried, errors = [given.output_error], [given.output_error]
    for level in reversed(range(1, len(given.weights))):
        carried.insert(0, given.weights[level].transposed(errors[0]))
        errors.insert(0, carried[0] * given.slope(level))
    return _Relaxed(carried, errors, [-error for error in carried[:-1]])


def _fixed(given: ErrorPass, settings: Relaxation) -> _Relaxed:
    slopes = [given.slope(level) for level in range(1, len(given.weights))]
    moved = [torch.zeros_like(slope) for slope in slopes]
    carried, errors = [given.output_error], [given.output_error]
    for _ in range(settings.n):
        carried = [*(-d for d in moved), given.output_error]
        errors = _errors(carried, slopes)
        moved = _move(given, settings, carried, errors, moved)
    return _Relaxed(carried, errors, moved)


def _strict(given: ErrorPass, settings: Relaxation) -> _Relaxed:
    net = list(given.nets)
    if not net:
        pairs = zip(given.weights, given.activities, strict=False)
        net = [weight.matmul(activity) for weight, activity in pairs]
    found = relaxed(given, net, settings)
    return _strict_loops(given, net, settings) if found is None else _Relaxed(*found)


def _strict_loops(given: ErrorPass, net: list[Tensor], settings: Relaxation) -> _Relaxed:
    moved = [torch.zeros_like(activity) for activity in given.activities[1:-1]]
    carried, errors = [given.output_error], [given.output_error]
    for _ in range(settings.n):
        changes = _changes(given, net, moved)
        carried = [c - d for c, d in zip(changes, moved, strict=True)]
        carried.append(_top(given, net, moved))
        errors = _errors(carried, _slopes(given, changes))
        moved = _move(given, settings, carried, errors, moved)
    slopes = _slopes(given, _changes(given, net, moved))
    return _Relaxed(carried, _errors(carried, slopes), moved)


def _changes(given: ErrorPass, net: list[Tensor], moved: list[Tensor]) -> list[Tensor]:
    """Return σ(W_ℓ v_{ℓ-1}) − v̂_ℓ of the hidden layers; 0 for the first: its input is clamped."""
    hidden = zip(given.weights[1:-1], net[1:-1], moved, strict=False)
    higher = [given.activation.difference(z, w.matmul(d)) for w, z, d in hidden]
    return [*(torch.zeros_like(d) for d in moved[:1]), *higher]


def _slopes(given: ErrorPass, changes: list[Tensor]) -> list[Tensor]:
    """Return σ' at the predictions of the hidden layers."""
    forward = zip(given.activities[1:-1], changes, strict=True)
    return [given.derivative(activity + change) for activity, change in forward]


def _top(given: ErrorPass, net: list[Tensor], moved: list[Tensor]) -> Tensor:
    """Return e_L at the output that v_{L-1} predicts."""
    if not moved:
        return given.output_error
    return given.error_at(net[-1] + given.weights[-1].matmul(moved[-1]))


def _errors(carried: list[Tensor], slopes: list[Tensor]) -> list[Tensor]:
    """Return e_1 … e_L from ε_1 … ε_L."""
    return [*(c * slope for c, slope in zip(carried, slopes, strict=False)), carried[-1]]


def _move(
    given: ErrorPass,
    settings: Relaxation,
    carried: list[Tensor],
    errors: list[Tensor],
    moved: list[Tensor],
) -> list[Tensor]:
    """Return d_1 … d_{L-1} after a sweep."""
    layers = zip(moved, carried, given.weights[1:], errors[1:], strict=False)
    return [d + settings.eta * (c - w.transposed(e)) for d, c, w, e in layers]


_RELAX = {"strict": _strict, "fixed": _fixed, "exact": _exact}

# Documents of every format print this, so it is ASCII without characters special to LaTeX or
# Markdown.
_SWEEPS = (
    "the activities v of the hidden layers start at those of the forward pass and relax in SWEEPS "
    "with a step of STEP, all layers at once, while the input does not move"
)
_SPELLED = {
    "strict": {
        "equation": "eₗ = εₗ ⊙ σ′(Wₗ vₗ₋₁), εₗ = σ(Wₗ vₗ₋₁) − vₗ, vₗ ← vₗ + η (εₗ − Wₗ₊₁ᵀ eₗ₊₁)",
        "latex": r"e_{\ell} = \varepsilon_{\ell} \odot \sigma'(W_{\ell} v_{\ell-1}),\quad "
        r"\varepsilon_{\ell} = \sigma(W_{\ell} v_{\ell-1}) - v_{\ell},\quad "
        r"v_{\ell} \leftarrow v_{\ell} + \eta\,(\varepsilon_{\ell} - "
        r"W_{\ell+1}^{\top} e_{\ell+1})",
        "note": f"{_SWEEPS}; in hidden layers, the rule reads v instead of y",
    },
    "fixed": {
        "equation": "eₗ = εₗ ⊙ σ′(zₗ), εₗ = yₗ − vₗ, vₗ ← vₗ + η (εₗ − Wₗ₊₁ᵀ eₗ₊₁)",
        "latex": r"e_{\ell} = \varepsilon_{\ell} \odot \sigma'(z_{\ell}),\quad "
        r"\varepsilon_{\ell} = y_{\ell} - v_{\ell},\quad "
        r"v_{\ell} \leftarrow v_{\ell} + \eta\,(\varepsilon_{\ell} - "
        r"W_{\ell+1}^{\top} e_{\ell+1})",
        "note": _SWEEPS,
    },
    "exact": {
        attribute: getattr(symmetric, attribute)
        for attribute in ("code", "equation", "latex", "note")
    },
}  # fmt: skip

predictive_coding = PredictiveCoding()
