"""Variants that a function of the seed computes, without meta-learning or online training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.table import Row

# (seed, the variant's settings, the command's settings) → rows.
Compute = Callable[[int, Mapping[str, Any], Setting], Sequence[Row]]
# (The variant's settings, the command's settings) → functions that open the data, by name.
Open = Callable[[Mapping[str, Any], Setting], Mapping[str, Callable[[], object]]]


def no_data(*_: object) -> Mapping[str, Callable[[], object]]:
    """Return no data to open, for variants that draw their own."""
    return {}


class TwoSizes:
    """Base of variants that have settings for the full version and changes for the quick one."""

    full: Mapping[str, Any]
    quick: Mapping[str, Any]

    def chosen(self, setting: Setting) -> dict[str, Any]:
        """Return the settings of the full or of the quick version."""
        return {**self.full, **(self.quick if setting.quick else {})}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return {}: nothing is chosen on separate data."""
        return {}


@dataclass(frozen=True, eq=False)
class DirectVariant(TwoSizes):
    """A variant that a module-level function computes.

    Attributes:
        name: the name of the variant.
        compute: returns the rows of a seed.
        full: the settings that `compute` receives.
        quick: the settings that differ in the quick version.
        opens: returns functions that open the data, by name.
    """

    name: str
    compute: Compute
    full: Mapping[str, Any]
    quick: Mapping[str, Any] = field(default_factory=dict)
    opens: Open = no_data

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return plain(self.chosen(setting)) | {"computed": self.compute.__name__}

    def data(self, setting: Setting) -> Mapping[str, Callable[[], object]]:
        """Return functions that open the data."""
        return self.opens(self.chosen(setting), setting)

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return the rows of a seed."""
        return list(self.compute(seed, self.chosen(setting), setting))
