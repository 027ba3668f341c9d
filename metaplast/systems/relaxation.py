"""The settings of predictive coding: its variant, step size and number of sweeps."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, replace
from typing import Any

from metaplast.base.errors import require, shown, unknown_name
from metaplast.base.words import assignments

VARIANTS = ("strict", "fixed", "exact")
LARGEST_ETA, MOST_SWEEPS = 2.0, 10_000


@dataclass(frozen=True)
class Relaxation:
    """How activities relax before the weights learn.

    Attributes:
        variant: "strict", "fixed" (the fixed prediction assumption) or "exact" (no relaxation).
        eta: step of each sweep, above 0 and at most 2; larger steps diverge in every network.
        n: number of sweeps.
    """

    variant: str = "strict"
    eta: float = 0.1
    n: int = 20

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: if the variant is unknown or a number is out of range.
        """
        name = self.variant.lower() if isinstance(self.variant, str) else self.variant
        if name not in VARIANTS:
            raise unknown_name("variant of predictive coding", str(self.variant), VARIANTS)
        object.__setattr__(self, "variant", name)
        require(
            _is_number(self.eta) and 0 < self.eta <= LARGEST_ETA,
            f"eta of predictive coding must be a number above 0 and at most {LARGEST_ETA:g}, got "
            f"{shown(self.eta)}; write eta=0.1.",
        )
        object.__setattr__(self, "eta", float(self.eta))
        require(
            isinstance(self.n, numbers.Integral)
            and not isinstance(self.n, bool)
            and 1 <= self.n <= MOST_SWEEPS,
            f"n of predictive coding, the number of sweeps, must be a whole number from 1 to "
            f"{MOST_SWEEPS:,}, got {shown(self.n)}; write n=20.",
        )
        object.__setattr__(self, "n", int(self.n))

    @property
    def written(self) -> str:
        """The settings as users write them; `exact` has no numbers."""
        return self.variant if self.variant == "exact" else f"{self.variant},{self.numbers}"

    @property
    def numbers(self) -> str:
        """The step and the number of sweeps."""
        return f"eta={self.eta!r},n={self.n}"

    @classmethod
    def parse(cls, text: str) -> Relaxation:
        """Return the settings written as `VARIANT,eta=NUMBER,n=NUMBER`; the numbers may be omitted.

        Raises:
            UserError: if the variant or a setting is unknown, occurs twice, or is out of range.
        """
        variant, *options = text.split(",")
        found = cls(variant.strip())
        usage = f"predictive-coding:{found.variant},eta=0.1,n=20"
        given = assignments("predictive-coding", options, _NUMBERS, usage)
        require(
            not given or found.variant != "exact",
            "predictive-coding:exact takes neither eta nor n, because nothing relaxes; write "
            "predictive-coding:exact.",
        )
        values: dict[str, Any] = {name: _number(text, name) for name, text in given.items()}
        return replace(found, **values)


_NUMBERS = {"eta": float, "n": int}


def _is_number(value: object) -> bool:
    try:
        return (
            isinstance(value, numbers.Real)
            and not isinstance(value, bool)
            and math.isfinite(float(value))
        )
    except OverflowError:
        return False


def _number(text: str, name: str) -> object:
    """Return a number from text; return other text unchanged, for `Relaxation` to refuse."""
    try:
        return _NUMBERS[name](text)
    except ValueError:
        return text
