"""The figure of a sweep: terms and score against penalty, and how often each term is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from metaplast.base.files import write_atomically
from metaplast.base.paths import AnyPath, as_path
from metaplast.batch_jobs.sweep import Run, frequencies
from metaplast.discovery.result import DISCOVERED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(runs: Sequence[Run], path: AnyPath) -> None:
    """Write the figure as PNG, atomically.

    Args:
        runs: the runs of the sweep.
        path: the path of the file.
    """
    # No pyplot: it keeps global state and may open a window.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    terms, score, heat = figure.subplots(1, 3, width_ratios=[1, 1, 1.35])
    penalties = sorted({run.l1 for run in runs})
    _draw_terms(terms, runs, penalties)
    _draw_score(score, runs, penalties)
    shown = _draw_frequencies(heat, runs, penalties)
    figure.colorbar(shown, ax=heat, label="share of seeds", shrink=0.9)
    for axes in (terms, score, heat):
        # Penalties are evenly spaced, because they differ by factors, and one may be zero.
        axes.set_xticks(range(len(penalties)), [f"{l1:g}" for l1 in penalties])
        axes.set_xlabel("L1 penalty λ")
    figure.supxlabel("dots: one run each; solid lines: medians over seeds", size="small")
    write_atomically(as_path(path), lambda stream: figure.savefig(stream, format="png", dpi=150))


def _scatter(
    axes: Axes,
    runs: Sequence[Run],
    penalties: Sequence[float],
    value: Callable[[Run], float],
    **style: Any,
) -> None:
    """Draw a dot for each run and a line through the medians over seeds."""
    medians = []
    for place, l1 in enumerate(penalties):
        values = sorted(value(run) for run in runs if run.l1 == l1)
        medians.append(median(values))
        # Dots are side by side, so that equal values do not hide each other.
        shifts = [0.03 * (i - (len(values) - 1) / 2) for i in range(len(values))]
        axes.plot(
            [place + shift for shift in shifts], values, "o", ms=4, alpha=0.55, color=style["color"]
        )
    axes.plot(range(len(penalties)), medians, "-", **style)


def _legend_below(axes: Axes) -> None:
    """Put the legend below the axes, where it covers nothing."""
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14))


def _draw_terms(axes: Axes, runs: Sequence[Run], penalties: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    _scatter(
        axes, runs, penalties, lambda run: run.searched, color="0.6", label="not zero after search"
    )
    _scatter(axes, runs, penalties, lambda run: len(run.kept), color="C0", label="kept")
    axes.set_title("Terms in the rule")
    axes.set_ylabel("number of terms")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_below(axes)


def _draw_score(axes: Axes, runs: Sequence[Run], penalties: Sequence[float]) -> None:
    scale = runs[0].scale
    _scatter(
        axes, runs, penalties, lambda run: scale.factor * run.score, color="C0", label=DISCOVERED
    )
    rivals = [name for name in runs[0].summary["heldout"] if name != DISCOVERED]
    for index, rival in enumerate(rivals, start=1):
        means = [scale.factor * run.summary["heldout"][rival]["mean"] for run in runs]
        label = f"{rival.replace('_', ' ')}, mean"
        axes.axhline(sum(means) / len(means), ls="--", color=f"C{index}", label=label)
    axes.set_title(f"Held-out {scale.name}")
    axes.set_ylabel(scale.axis)
    _legend_below(axes)


def _draw_frequencies(axes: Axes, runs: Sequence[Run], penalties: Sequence[float]) -> Any:
    table = frequencies(runs)
    values = [[row[l1] for l1 in penalties] for row in table.values()]
    shown = axes.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for row, shares in enumerate(values):
        for column, share in enumerate(shares):
            colour = "white" if share > 0.6 else "0.25"
            text = f"{share:.0%}" if share else ""
            axes.text(column, row, text, ha="center", va="center", color=colour, size=8)
    axes.set_yticks(range(len(table)), list(table))
    for row in range(1, len(table)):
        axes.axhline(row - 0.5, color="white")
    seeds = len({run.seed for run in runs})
    axes.set_title(f"Kept, share of {seeds} seed{'s' if seeds > 1 else ''}")
    return shown
