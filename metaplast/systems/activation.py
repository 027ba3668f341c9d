"""Activation functions, each with its derivative written as a function of the activity."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from metaplast.base.errors import require, shown, unknown_name
from metaplast.scans.functions import Nonlinearity

# Limits of softplus's β: beyond them, single precision cannot resolve log 2/β (its value at 0) or
# the exponentials of the derivative.
SMALLEST, LARGEST = 1e-3, 1e6


@dataclass(frozen=True)
class Activation:
    """σ and its derivative σ' as a function of y = σ(z).

    `derivative` is also evaluated on inputs, for the synthetic input error e_0. Values outside the
    activation's range are first clamped to it, so that the result is finite for inputs of any sign.

    Attributes:
        name: the text after `--activation`, with its parameter.
        kind: the family, "softplus", "tanh", "relu" or "linear".
        beta: sharpness of softplus; 1 for the others.
        apply: z → y.
        derivative: y → σ'(z).
        difference: (z, d) → σ(z + d) − σ(z), without the rounding error of the subtraction.
    """

    name: str
    kind: str
    beta: float
    apply: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    difference: Callable[[Tensor, Tensor], Tensor]

    @property
    def scanned(self) -> Nonlinearity:
        """The activation in the form that compiled loops over time take."""
        return Nonlinearity(self.kind, self.beta)


def softplus(beta: float) -> Activation:
    """Return y = log(1 + exp(βz))/β, with σ' = 1 − exp(−βy) exactly (Shervani-Tabar &
    Rosenbaum 2023, eq. 24)."""
    return Activation(
        name=f"softplus:{beta:g}",
        kind="softplus",
        beta=beta,
        # The threshold bounds the rounding error of the linear branch by exp(-40)/β.
        apply=lambda z: functional.softplus(z, beta=beta, threshold=40.0),
        derivative=lambda y: -torch.expm1(-beta * y.clamp(min=0)),
        difference=lambda z, d: _softplus_difference(beta * z, beta * d) / beta,
    )


def _softplus_difference(z: Tensor, d: Tensor) -> Tensor:
    """Return log(1 + exp(z + d)) − log(1 + exp(z)) = log(1 + s (exp(d) − 1)), s = 1/(1 + exp(−z)).

    For large d, the first form is used: it loses no digits there, and exp(d) might overflow.
    """
    large = d.abs() > 1
    near = torch.where(large, 0, d)
    far = functional.softplus(z + d, threshold=40.0) - functional.softplus(z, threshold=40.0)
    return torch.where(large, far, torch.log1p(torch.sigmoid(z) * torch.expm1(near)))


def tanh() -> Activation:
    """Return y = tanh z, with σ' = 1 − y²."""
    return Activation(
        "tanh", "tanh", 1.0,
        apply=torch.tanh,
        derivative=lambda y: 1 - y.clamp(-1, 1).square(),
        # tanh(a + b) − tanh a = tanh b · (1 − tanh a · tanh(a + b)).
        difference=lambda z, d: torch.tanh(d) * (1 - torch.tanh(z) * torch.tanh(z + d)),
    )  # fmt: skip


def relu() -> Activation:
    """Return y = max(z, 0), with σ' = 1 where y > 0 and 0 elsewhere."""
    return Activation(
        "relu", "relu", 1.0,
        apply=torch.relu,
        derivative=lambda y: (y > 0).to(y.dtype),
        difference=lambda z, d: torch.where(z > 0, torch.where(d > -z, d, -z), torch.relu(z + d)),
    )  # fmt: skip


def linear() -> Activation:
    """Return y = z, with σ' = 1; only for systems that accept it."""
    return Activation(
        "linear", "linear", 1.0,
        apply=lambda z: z,
        derivative=torch.ones_like,
        difference=lambda _, d: d,
    )  # fmt: skip


def parse_activation(text: str, *, allows_linear: bool = False) -> Activation:
    """Return the activation written as `softplus`, `softplus:β`, `tanh` or `relu`.

    Args:
        text: as the user wrote it.
        allows_linear: whether `linear` is accepted too.

    Raises:
        UserError: if the name is unknown, or β is not a number in the range of `softplus`.
    """
    kind, colon, parameter = text.partition(":")
    plain = {"tanh": tanh, "relu": relu, **({"linear": linear} if allows_linear else {})}
    if kind == "softplus":
        require(
            bool(parameter) or not colon,
            f"--activation softplus: needs a number after its colon, got {shown(text)}; write "
            f"softplus:10.",
        )
        return softplus(_sharpness(parameter or "10"))
    if kind not in plain:
        raise unknown_name("activation", kind, ("softplus", *plain))
    require(not colon, f"{kind} takes no parameter, got {shown(text)}; write {kind!r}.")
    return plain[kind]()


def _sharpness(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    require(
        SMALLEST <= value <= LARGEST,
        f"--activation softplus takes a positive β from {SMALLEST:g} to {LARGEST:g}, got "
        f"{shown(text)}; write softplus:10.",
    )
    return value
