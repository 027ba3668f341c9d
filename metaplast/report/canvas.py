"""The style of figures, and their conversion to files and parts of a page.

Each figure is drawn once, with two reserved colours for ink and paper. In the finished SVG, the
page's own colour (`currentColor`) replaces them, so that the figure is readable in light mode, dark
mode and print.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metaplast.base.files import write_atomically, write_text
from metaplast.base.paths import AnyPath, as_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PAPER = "#010203", "#fdfefd"
_INK_IN_FILES, _PAPER_IN_FILES = "#1b1b1b", "#ffffff"
_DPI = 200

# Okabe & Ito 2008, without black (the ink) and yellow (invisible on white).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# For levels, zero lines and other marks that are not results.
GREY = "#888888"
# Lines also differ in dashes, because colours look alike when printed in grey.
DASHES: tuple[Any, ...] = ("-", (0, (6, 1.5)), (0, (3, 1.2)), (0, (6, 1.2, 1, 1.2)), (0, (1, 1)))

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "axes.linewidth": 0.7,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Look:
    """Colour and dashes of a line."""

    colour: str
    dashes: Any = "-"


def look(index: int) -> Look:
    """Return the style of the index-th line of a figure; repeats after 30."""
    return Look(COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)])


def looks(names: Sequence[str]) -> dict[str, Look]:
    """Return a style for each name; the same names always get the same styles."""
    return {name: look(index) for index, name in enumerate(names)}


@contextmanager
def style() -> Iterator[None]:
    """Use our style for everything drawn inside the block."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def new_figure(
    panels: int = 1, *, width: float = 4.8, height: float = 3.1
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side that share their vertical axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)
    return figure, list(axes[0])


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, Look, float]], rows: int = 1) -> None:
    """Write names beside the ends of lines; names that would overlap are moved apart.

    If there is no room for all, the faintest ones are left out, those nearest to zero first.

    Args:
        axes: the axes whose lines end at the right side; limits are final.
        ends: height, name, style and opacity of each; those without a finite height are left out.
        rows: number of rows of panels in the figure.
    """
    # The axes are about this share of their row's height; a line of text takes 10.5 points.
    height = axes.get_figure(root=True).get_size_inches()[1] / rows  # type: ignore[union-attr]
    gap = 10.5 / (height * 72 * 0.72)
    ends = [end for end in ends if math.isfinite(end[0])]
    clearest = sorted(ends, key=lambda end: (end[3], abs(end[0])), reverse=True)
    fitting = {end[1] for end in clearest[: 1 + int(1 / gap)]}
    ends = [end for end in ends if end[1] in fitting]
    if not ends:
        return
    right = axes.get_xlim()[1], axes.get_ylim()[1]  # Reading the limits completes autoscaling.
    scale, limits = axes.transScale, axes.transLimits
    heights = [float(limits.transform(scale.transform((right[0], e[0])))[1]) for e in ends]
    order = sorted(zip(heights, ends, strict=True), key=lambda pair: pair[0])
    places = _spread([height for height, _ in order], gap, 0, 1)
    for (height, (_, name, how, opacity)), place in zip(order, places, strict=True):
        axes.annotate(
            name.replace("_", " "), xy=(1.0, height), xytext=(1.06, place),
            xycoords="axes fraction", va="center", fontsize=8, alpha=opacity, annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": how.colour, "alpha": opacity,
                "linewidth": 1.2, "shrinkA": 2, "shrinkB": 1, "relpos": (0, 0.5),
            },
        )  # fmt: skip


def _spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return increasing positions at least `gap` apart, near the values.

    They are within the limits if they fit. Values that are too close form a block around their
    mean; blocks that touch are joined.
    """
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value])
        while len(blocks) > 1 and _start(blocks[-1], gap) < _end(blocks[-2], gap) + gap:
            last = blocks.pop()
            blocks[-1] += last
    places = [_start(block, gap) + i * gap for block in blocks for i in range(len(block))]
    # Move positions above the top down, then those that are now below the bottom up.
    places = [min(place, high - (len(places) - 1 - i) * gap) for i, place in enumerate(places)]
    return [max(place, low + i * gap) for i, place in enumerate(places)]


def _start(block: Sequence[float], gap: float) -> float:
    return sum(block) / len(block) - gap * (len(block) - 1) / 2


def _end(block: Sequence[float], gap: float) -> float:
    return _start(block, gap) + gap * (len(block) - 1)


def svg(figure: Figure, name: str) -> str:
    """Return the figure as SVG with placeholders for ink and paper.

    Args:
        figure: the figure.
        name: makes ids unique on a page with several figures.
    """
    import matplotlib as mpl

    stream = io.StringIO()
    with style(), mpl.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return text.replace("DejaVu Sans", "system-ui")


def inlined(text: str, description: str) -> str:
    """Return a drawing of `svg` for a page: in the page's colours and as wide as its column.

    The page may set the CSS variables --c0, --c1, … to lighter or darker versions of `COLOURS`.
    """
    text = text.replace(INK, "currentColor").replace(PAPER, "none")
    for index, colour in enumerate(COLOURS):
        text = text.replace(colour.lower(), f"var(--c{index}, {colour})")
    head, _, rest = text.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    label = f'role="img" aria-label="{html.escape(description, quote=True)}"'
    return f"{head.replace('<svg', f'<svg {label}', 1)}>{rest}"


def save_figure(figure: Figure, stem: AnyPath, text: str | None = None) -> None:
    """Write the figure as `stem`.png and `stem`.svg, dark on white.

    Args:
        figure: the figure.
        stem: path of both files without their suffix.
        text: what `svg` returned for this figure; None to draw it.
    """
    stem = as_path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    text = svg(figure, stem.name) if text is None else text
    text = text.replace(INK, _INK_IN_FILES).replace(PAPER, _PAPER_IN_FILES)
    write_text(stem.with_suffix(".svg"), '<?xml version="1.0" encoding="utf-8"?>\n' + text)
    # The first drawing already placed all parts; placing them again takes as long as drawing.
    figure.set_layout_engine("none")
    with style():
        write_atomically(
            stem.with_suffix(".png"), lambda out: figure.savefig(out, format="png", dpi=_DPI)
        )
