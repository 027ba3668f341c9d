"""Figures of several panels, like those in publications."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaplast.report.canvas import COLOURS, GREY, Look, label_ends, look, looks, style
from metaplast.report.curve import Curve, last_of
from metaplast.report.figures import FADED, draw_curve, layer_look, plain_log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Width over which the points of a category are spread; categories are 1 apart.
_SPREAD = 0.55


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what the lines show, written above them.
        x: label of the horizontal axis.
        lines: by name; a name that occurs in several panels looks the same in all.
        limits: the limits of the vertical axis.
        log: whether that axis is logarithmic.
        level: height and name of a level to mark.
        marks: whether each point has a dot.
        layered: whether the lines are layers, coloured from the input to the output.
        faded: names of lines that matter less; they have no band.
        categories: names of the places if they are not numbers, such as data sets. Their points are
            not joined, because nothing lies between them.
    """

    title: str
    x: str
    lines: Mapping[str, Curve]
    limits: tuple[float | None, float | None] = (None, None)
    log: bool = False
    level: tuple[float, str] | None = None
    marks: bool = False
    layered: bool = False
    faded: Sequence[str] = ()
    categories: Sequence[str] = ()


def figure_of(panels: Sequence[Panel], *, columns: int = 2, first: Sequence[str] = ()) -> Figure:
    """Return the panels as one figure, row by row.

    Args:
        panels: in reading order.
        columns: most panels in a row.
        first: names that get the first colours even if they do not occur, so that figures agree.
            Any other name gets a colour that no line beside it has, if one is left.
    """
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    with style():
        figure = Figure(figsize=(4.6 * columns, 2.75 * rows + 0.3), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        shared = _shared_looks(panels, first)
        for each, panel in zip(axes, panels, strict=False):
            layers = list(panel.lines)
            how = (
                {name: layer_look(i, len(layers)) for i, name in enumerate(layers)}
                if panel.layered
                else shared
            )
            _draw(each, panel, how, rows)
        for empty in axes[len(panels) :]:
            empty.set_axis_off()
    return figure


def _shared_looks(panels: Sequence[Panel], first: Sequence[str]) -> dict[str, Look]:
    """Return a style for each line that is neither a layer nor faded, the same in all panels."""
    beside = [[n for n in p.lines if n not in p.faded] for p in panels if not p.layered]
    shared = looks(first)
    for name in dict.fromkeys(n for names in beside for n in names if n not in first):
        near = {shared[n].colour for names in beside if name in names for n in names if n in shared}
        choices = map(look, range(len(COLOURS)))
        free = (choice for choice in choices if choice.colour not in near)
        shared[name] = next(free, look(len(shared)))
    return shared


def _draw_points(axes: Axes, curve: Curve, shift: float, how: Look) -> None:
    """Draw each point with its band, beside those of the other lines."""
    x = curve.x + shift
    axes.vlines(x, curve.low, curve.high, color=how.colour, linewidth=1.4, alpha=0.6)
    axes.plot(x, curve.mean, "o", markersize=4.5, color=how.colour)


def _draw(axes: Axes, panel: Panel, how: Mapping[str, Look], rows: int) -> None:
    from matplotlib.ticker import MaxNLocator

    lines = {n: c.positive() if panel.log else c for n, c in panel.lines.items()}
    how = {name: Look(GREY) if name in panel.faded else how[name] for name in lines}
    for place, (name, curve) in enumerate(lines.items()):
        if panel.categories:
            shift = _SPREAD * ((place + 0.5) / len(lines) - 0.5)
            _draw_points(axes, curve, shift, how[name])
            continue
        if name in panel.faded:
            axes.plot(curve.x, curve.mean, color=GREY, alpha=FADED, linewidth=1.0)
            continue
        draw_curve(axes, curve, how[name])
        if panel.marks:
            colour = how[name].colour
            axes.plot(curve.x, curve.mean, "o", markersize=3.5, color=colour)
    if panel.log:
        plain_log_axis(axes)
    if panel.level is not None:
        axes.axhline(panel.level[0], color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
    axes.set(xlabel=panel.x, title=panel.title, ylim=panel.limits)
    if panel.categories:
        axes.set_xticks(range(1, 1 + len(panel.categories)), panel.categories)
        axes.set_xlim(0.5, len(panel.categories) + 0.5)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.margins(x=0.02 if panel.marks else 0)
    # A line that leaves the panel is named at the edge where it leaves.
    low, high = axes.get_ylim()
    ends = [
        (min(max(last_of(c.mean), low), high), name, how[name], 0.6 if name in panel.faded else 1.0)
        for name, c in lines.items()
    ]
    if panel.level is not None and panel.level[1]:
        ends.append((*panel.level, Look(GREY), 0.8))
    label_ends(axes, ends, rows=rows)
