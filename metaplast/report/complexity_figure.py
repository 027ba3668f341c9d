"""The figure of complexity: score against number of terms, for every rule that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaplast.base.bands import Band
from metaplast.base.scores import ScoreScale
from metaplast.report.canvas import GREY, look, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Size:
    """A rule in a figure of complexity.

    Attributes:
        terms: its number of terms.
        score: its score.
        is_chosen: whether it is the rule that was chosen.
    """

    terms: int
    score: Band
    is_chosen: bool = False


def complexity(rules: Sequence[Size], *, y: str, scale: ScoreScale) -> Figure:
    """Return a figure of score against number of terms; a line joins the best rule of each number.

    Args:
        rules: the rules that were tried; rules of one size are drawn side by side.
        y: label of the vertical axis, written above it.
        scale: the scale of the scores.
    """
    from matplotlib.ticker import MaxNLocator

    places = _beside(rules)
    sizes = sorted({rule.terms for rule in rules})
    best = [max((r for r in rules if r.terms == n), key=lambda r: r.score.mean) for n in sizes]
    with style():
        figure, (axes,) = new_figure()
        axes.plot(
            [places[rules.index(rule)] for rule in best],
            [scale.factor * rule.score.mean for rule in best],
            color=GREY, linewidth=1.0, zorder=1,
        )  # fmt: skip
        for x, rule in zip(places, rules, strict=True):
            colour, big = (look(0).colour, 5.5) if rule.is_chosen else (GREY, 3.5)
            ends = [scale.factor * end for end in (rule.score.low, rule.score.high)]
            mean = scale.factor * rule.score.mean
            axes.plot([x, x], ends, color=colour, linewidth=1.2, alpha=0.6, zorder=2)
            axes.plot([x], [mean], "o", markersize=big, color=colour, zorder=3)
            if rule.is_chosen:
                axes.annotate(
                    "chosen", (x, mean), color=colour, fontsize=8, ha="left", zorder=4,
                    xytext=(6, 4), textcoords="offset points",
                )  # fmt: skip
        axes.set(xlabel="terms in the rule", title=y, xlim=(sizes[0] - 0.5, sizes[-1] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.6)
    return figure


def _beside(rules: Sequence[Size]) -> list[float]:
    """Return the horizontal position of each rule; rules of one size are side by side, in order."""
    places = []
    for index, rule in enumerate(rules):
        same = sum(other.terms == rule.terms for other in rules)
        before = sum(other.terms == rule.terms for other in rules[:index])
        places.append(rule.terms + 0.4 * (before / max(1, same - 1) - 0.5) * (same > 1))
    return places
