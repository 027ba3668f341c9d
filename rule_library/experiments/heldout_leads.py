"""Measures and the figure of experiments that test rules once on held-out tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.curve import Curve
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def accuracy(table: Table, variant: str, column: str) -> Numbers:
    """Return the held-out accuracy of each seed on some data, %."""
    return 100 * table.series(variant, f"accuracy_{column}").last()


def lead(variant: str, other: str, column: str = "emnist") -> Callable[[Table], Numbers]:
    """Return the measure of one variant's lead over another on the same tasks, points."""
    return lambda table: accuracy(table, variant, column) - accuracy(table, other, column)


def drawn(
    labels: Mapping[str, str], data: Mapping[str, str]
) -> Callable[[Table], Mapping[str, Figure]]:
    """Return a function that draws accuracies by data set.

    Args:
        labels: the label of each variant.
        data: the name of each column of accuracies.
    """

    def draw(table: Table) -> Mapping[str, Figure]:
        places = range(1, len(data) + 1)
        lines = {
            label: Curve.over_networks(
                places, np.stack([accuracy(table, name, column) for column in data], 1)
            )
            for name, label in labels.items()
        }
        names = tuple(data.values())
        panel = Panel("held-out accuracy, %", "", lines, (0, 100), categories=names)
        return {"": figure_of([panel])}

    return draw
