"""Activation functions, each with its derivative written in terms of the activity itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from metaplast.errors import UserError, unknown_name

# Limits of β: beyond them activities, or βz, leave what float32 holds with any precision.
FLATTEST, SHARPEST = 1e-4, 1e6


@dataclass(frozen=True)
class Activation:
    """σ and its derivative σ' as a function of y = σ(z).

    `gain` is also evaluated on input images, for the synthetic input error e_0; values outside
    the activation's range are first clamped to it, so that inputs of any sign stay finite.

    Attributes:
        name: as written after `--activation`, with its parameter.
        kind: the family, "softplus", "tanh" or "relu".
        beta: sharpness of softplus, 1 elsewhere.
        apply: z → y.
        gain: y → σ'(z).
    """

    name: str
    kind: str
    beta: float
    apply: Callable[[Tensor], Tensor]
    gain: Callable[[Tensor], Tensor]


def softplus(beta: float) -> Activation:
    """Return y = log(1 + exp(βz))/β, with σ' = 1 − exp(−βy) exactly (Shervani-Tabar &
    Rosenbaum 2023, eq. 24)."""
    return Activation(
        name=f"softplus:{beta:g}",
        kind="softplus",
        beta=beta,
        # The threshold bounds the rounding error of the linear branch by exp(-40)/β.
        apply=lambda z: functional.softplus(z, beta=beta, threshold=40.0),
        gain=lambda y: -torch.expm1(-beta * y.clamp(min=0)),
    )


def tanh() -> Activation:
    """Return y = tanh z, with σ' = 1 − y²."""
    return Activation(
        "tanh", "tanh", 1.0, apply=torch.tanh, gain=lambda y: 1 - y.clamp(-1, 1).square()
    )


def relu() -> Activation:
    """Return y = max(z, 0), with σ' = 1 where y > 0 and 0 elsewhere."""
    return Activation("relu", "relu", 1.0, apply=torch.relu, gain=lambda y: (y > 0).to(y.dtype))


def parse_activation(text: str) -> Activation:
    """Return the activation written as `softplus`, `softplus:β`, `tanh` or `relu`.

    Raises:
        UserError: if the name is unknown or β is not a positive number.
    """
    kind, _, parameter = text.partition(":")
    plain = {"tanh": tanh, "relu": relu}
    if kind == "softplus":
        return softplus(_positive(parameter or "10"))
    if kind not in plain:
        raise unknown_name("activation", kind, ("softplus", *plain))
    if parameter:
        raise UserError(f"{kind} takes no parameter, got {text!r}; write {kind!r}.")
    return plain[kind]()


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UserError(f"softplus takes a positive β, got {text!r}; write softplus:10.")
    if not FLATTEST <= value <= SHARPEST:
        raise UserError(
            f"softplus takes β from {FLATTEST:g} to {SHARPEST:g}, got {text!r}; write softplus:10, "
            f"or relu for a sharp bend."
        )
    return value
