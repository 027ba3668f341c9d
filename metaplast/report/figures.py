"""The kinds of figures in reports and comparisons, as functions of plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Band, Numbers
from metaplast.base.scores import ScoreScale
from metaplast.report.canvas import DASHES, GREY, Look, label_ends, look, looks, new_figure, style
from metaplast.report.curve import Curve, last_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FADED = 0.35
# From input to output, all of medium lightness.
LAYER_COLOURS = ("#1f78c8", "#1a9c8c", "#a8952a", "#d9602b")


def draw_curve(axes: Axes, curve: Curve, how: Look) -> None:
    """Draw a line with its band."""
    axes.plot(curve.x, curve.mean, color=how.colour, linestyle=how.dashes)
    axes.fill_between(curve.x, curve.low, curve.high, color=how.colour, alpha=0.18, linewidth=0)


def curves(
    series: Mapping[str, Curve],
    *,
    x: str,
    y: str,
    limits: tuple[float | None, float | None] = (None, None),
    floor: tuple[float, str] | None = None,
) -> Figure:
    """Return a figure of lines with bands, their names beside their ends.

    Args:
        series: the lines by name, in the order of their colours.
        x: label of the horizontal axis.
        y: label of the vertical axis, written above it.
        limits: the limits of the vertical axis.
        floor: height and name of a level to mark, such as chance.
    """
    with style():
        figure, (axes,) = new_figure()
        how = looks(list(series))
        for name, curve in series.items():
            draw_curve(axes, curve, how[name])
        if floor is not None:
            axes.axhline(floor[0], color=GREY, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set(xlabel=x, title=y, ylim=limits)
        axes.margins(x=0)
        ends = [(last_of(c.mean), name, how[name], 1.0) for name, c in series.items()]
        if floor is not None:
            ends.append((floor[0], floor[1], Look(GREY), 0.8))
        label_ends(axes, ends)
    return figure


@dataclass(frozen=True)
class Trajectory:
    """The path of one term's coefficients.

    Attributes:
        x: number of tasks so far.
        values: coefficients, [place, layer]; one layer if they are shared.
        final: the coefficients in the final rule, [layer]; None if the term was dropped.
    """

    x: Numbers
    values: Numbers
    final: Numbers | None = None


def trajectories(
    terms: Mapping[str, Trajectory], *, x: str, y: str, marks: Mapping[str, float] | None = None
) -> Figure:
    """Return a figure of coefficients over meta-training; dropped terms are faded.

    Args:
        terms: the paths by name.
        x: label of the horizontal axis.
        y: label of the vertical axis, written above it.
        marks: names of places to mark with a thin vertical line, such as the refit.
    """
    with style():
        figure, (axes,) = new_figure(height=3.8)
        how = looks([name for name, t in terms.items() if t.final is not None])
        end = max((float(t.x[-1]) for t in terms.values() if len(t.x)), default=1.0)
        ends = []
        for name, line in terms.items():
            kept = line.final is not None
            if not kept and not line.values.any():
                continue  # Never tried: in a large pool, hundreds of such lines lie on the axis.
            style_of = how.get(name, Look(GREY))
            opacity = 1.0 if kept else FADED
            axes.plot(
                line.x, line.values, color=style_of.colour, linestyle=style_of.dashes,
                alpha=opacity, linewidth=1.6 if kept else 1.0, zorder=3 if kept else 2,
            )  # fmt: skip
            if line.final is not None:
                axes.plot(
                    np.full(len(line.final), end), line.final, marker="o", markersize=4.5,
                    linestyle="none", color=style_of.colour, clip_on=False, zorder=4,
                )  # fmt: skip
                largest = line.final[np.abs(line.final).argmax()]
                ends.append((float(largest), name, style_of, 1.0))
            elif len(line.x):
                ends.append((float(line.values[-1].mean()), name, style_of, 0.6))
        axes.axhline(0, color=GREY, linewidth=0.7, zorder=1)
        for text, place in (marks or {}).items():
            _mark(axes, text, place)
        axes.set(xlabel=x, title=y, xlim=(0, end))
        label_ends(axes, ends)
    return figure


def _mark(axes: Axes, text: str, place: float) -> None:
    """Mark a place on the horizontal axis with a thin vertical line and its name."""
    axes.axvline(place, color=GREY, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.annotate(
        text, (place, 1), xycoords=("data", "axes fraction"), fontsize=8, ha="left", va="top",
        xytext=(3, 0), textcoords="offset points",
    )  # fmt: skip


def whiskers(
    bands: Mapping[str, Band], *, x: str, scale: ScoreScale, mark: str = "", zero: bool = False
) -> Figure:
    """Return a figure with a dot and its band for each name, the first at the top.

    Args:
        bands: the bands by name.
        x: label of the horizontal axis.
        scale: the scale of the values, or of their differences; shares are drawn in percent.
        mark: the name to draw in colour; "" for all.
        zero: whether a line marks zero; otherwise the axis of shares begins at zero.
    """
    with style():
        figure, (axes,) = new_figure(height=0.75 + 0.3 * max(2, len(bands)))
        places = range(len(bands))[::-1]
        for place, (name, band) in zip(places, bands.items(), strict=True):
            colour = look(0).colour if name == mark or not mark else GREY
            low, mean, high = (scale.factor * x for x in (band.low, band.mean, band.high))
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot([mean], [place], marker="o", markersize=5.5, color=colour)
            axes.annotate(
                scale.number(band.mean).replace("-", "−"), (mean, place), fontsize=8,
                ha="center", xytext=(0, 5), textcoords="offset points",
            )  # fmt: skip
        axes.set_yticks(list(places), [name.replace("_", " ") for name in bands])
        axes.set(xlabel=x, ylim=(-0.6, len(bands) - 0.2))
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.6)
        if zero:
            axes.axvline(0, color=GREY, linewidth=0.9)
        elif scale.percent:
            axes.set_xlim(left=0)
    return figure


def by_layer(
    panels: Mapping[str, Sequence[Curve]], *, x: str, y: str, first: int = 1,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:  # fmt: skip
    """Return panels side by side, each with one line per layer.

    Args:
        panels: curves of layers first, first + 1, …, by the panel's name.
        x: label of the horizontal axes.
        y: label of the vertical axis, written above the first panel.
        first: number of the first layer.
        limits: the limits of the vertical axis.
    """
    with style():
        figure, axes = new_figure(len(panels), width=4.8)
        most = max(map(len, panels.values()), default=1)
        how = [layer_look(i, most) for i in range(most)]
        for place, (each, (name, lines)) in enumerate(zip(axes, panels.items(), strict=True)):
            for index, curve in enumerate(lines):
                draw_curve(each, curve, how[index])
            each.set(xlabel=x, title=f"{'' if place else y}\n{name}".replace("_", " "))
            each.margins(x=0)
        # The panels share their vertical axis, so limits set too early would cut later panels.
        axes[-1].set(ylim=limits)
        last = list(panels.values())[-1:]
        ends = [
            (last_of(c.mean), f"layer {first + i}", how[i], 1.0)
            for lines in last
            for i, c in enumerate(lines)
        ]
        label_ends(axes[-1], ends)
    return figure


def layer_look(index: int, layers: int) -> Look:
    """Return the style of a layer: blue at the input to red, all visible on black and white."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    scale = LinearSegmentedColormap.from_list("layers", LAYER_COLOURS)
    return Look(to_hex(scale(index / max(1, layers - 1))), DASHES[index % len(DASHES)])


def profiles(
    series: Mapping[str, Curve], *, x: str, y: str, log: bool = False,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:  # fmt: skip
    """Return a figure of a quantity per layer, a line with marks for each name."""
    from matplotlib.ticker import MaxNLocator

    with style():
        figure, (axes,) = new_figure()
        how = looks(list(series))
        if log:
            series = {name: curve.positive() for name, curve in series.items()}
        for name, curve in series.items():
            draw_curve(axes, curve, how[name])
            axes.plot(
                curve.x, curve.mean, marker="o", markersize=3.5, linestyle="none",
                color=how[name].colour,
            )  # fmt: skip
        if log:
            plain_log_axis(axes)
        axes.set(xlabel=x, title=y, ylim=limits)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        ends = [(last_of(c.mean), name, how[name], 1.0) for name, c in series.items()]
        label_ends(axes, ends)
    return figure


def plain_log_axis(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers, and more of them in a short range."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    if high > 100 * low:
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_minor_formatter("{x:g}")
