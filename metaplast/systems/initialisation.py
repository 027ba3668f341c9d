"""How weights are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaplast.base.errors import require, shown, unknown_name

# Limits of STD: with smaller weights nothing is learned, and products of larger weights overflow.
LEAST_STD, MOST_STD = 1e-6, 1e3


@dataclass(frozen=True)
class Init:
    """How weights are drawn: "xavier" (uniform) or "normal:STD".

    Xavier weights are U(±√(6/(n_in + n_out))). Shervani-Tabar & Rosenbaum 2023 and Shervani-Tabar
    et al. 2024 use both.
    """

    text: str = "xavier"

    def __post_init__(self) -> None:
        """Check the text.

        Raises:
            UserError: if the text has neither of the two forms, or STD is out of range.
        """
        kind = self.text.partition(":")[0]
        if kind not in ("xavier", "normal"):
            raise unknown_name("init", kind, ("xavier", "normal"))
        if kind == "normal":
            require(
                LEAST_STD <= self._std() <= MOST_STD,
                f"--init normal takes a positive standard deviation from {LEAST_STD:g} to "
                f"{MOST_STD:g}, got {shown(self.text)}; write normal:0.1.",
            )
        else:
            require(
                self.text == "xavier",
                f"--init xavier takes no parameter, got {shown(self.text)}; write xavier.",
            )

    @property
    def std(self) -> float | None:
        """The standard deviation of normal weights, None for Xavier's uniform weights."""
        return None if self.text == "xavier" else self._std()

    def _std(self) -> float:
        try:
            return float(self.text.partition(":")[2])
        except ValueError:
            return math.nan

    def draw(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Return [episode, row, column] weights, on the generator's device."""
        out = torch.empty(*shape, device=generator.device, dtype=dtype)
        if self.text == "xavier":
            bound = math.sqrt(6 / (shape[-1] + shape[-2]))
            return out.uniform_(-bound, bound, generator=generator)
        return out.normal_(0, self._std(), generator=generator)
