"""A rule as one picture for a talk or a README: its equation, and its score beside the baselines.

Formulas are outlines, so that the picture looks the same wherever it is pasted.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from metaplast.base.bands import BAND, Band
from metaplast.base.scores import ScoreScale
from metaplast.rules.equation import MATRICES, printed_terms, summands
from metaplast.rules.notebook import typographic
from metaplast.terms.notation import LATEX

if TYPE_CHECKING:
    from metaplast.rules.rule import Rule

WIDTH, _MARGIN = 860, 12
_SIZE, _LINE, _GAP = 21.0, 62, 14.0
_BAR, _LEFT = 34, 160
_STYLE = (
    "text,.f{fill:#1b1b1b}.small{font-size:12px;fill:#5c6166}.found{fill:#0072b2}"
    ".known{fill:#9aa5ad}.band{stroke:#1b1b1b;stroke-width:1.5}.axis{stroke:#bbb}"
    "@media (prefers-color-scheme:dark){text,.f{fill:#e9eaeb}.small{fill:#a3a9af}"
    ".found{fill:#56b4e9}.known{fill:#6b757d}.band{stroke:#e9eaeb}.axis{stroke:#555}}"
)


# LaTeX that matplotlib cannot read, or sets too wide.
_DRAWN = {r"\text{": r"\mathrm{", r"\top": r"\mathsf{T}", r"\ell-1": r"\ell{-}1"}


@dataclass(frozen=True)
class _Outline:
    """A formula as the data of an SVG path, with its width."""

    path: str
    width: float
    scale: float = 1.0

    def within(self, width: float) -> _Outline:
        """Return the formula, shrunk to at most this width."""
        scale = min(1.0, width / self.width) if self.width > 0 else 1.0
        return replace(self, width=scale * self.width, scale=scale)


def rule_svg(rule: Rule, scores: Mapping[str, Band], scale: ScoreScale, caption: str) -> str:
    """Return the picture as SVG.

    Args:
        rule: the rule.
        scores: the scores by name, first of the rule, then of the baselines.
        scale: how scores are shown; bars are drawn for shares, such as accuracy.
        caption: what was measured.
    """
    parts, y = _equations(rule)
    shown = _bars(scores, scale, y) if scale.percent else _numbers(scores, scale, y)
    y += _BAR * len(scores)
    parts += [*shown, f'<text class="small" x="{_MARGIN}" y="{y + 18}">{_text(caption)}</text>']
    label = html.escape(f"{rule.equation()}; {caption}", quote=True)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 30}" role="img" '
        f'aria-label="{label}" font-family="system-ui, sans-serif" font-size="14">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _equations(rule: Rule) -> tuple[list[str], int]:
    """Return the equation's parts, each with the term's name below it, and the height so far."""
    parts: list[str] = []
    y = 36
    for matrix in MATRICES:
        found = summands(rule, matrix, LATEX)
        if not found:
            continue
        head = _outline(rf"\Delta {LATEX.matrix[matrix]} =")
        parts.append(_placed(head, _MARGIN, y))
        start = x = _MARGIN + head.width + _GAP
        names = printed_terms(rule, matrix)
        for place, ((sign, text), name) in enumerate(zip(found, names, strict=True)):
            first = place == 0 and sign == "+"
            sign_shape, body = _outline("{}" + sign), _formula(text)
            lead = 0.0 if first else sign_shape.width + 0.5 * _GAP
            if x > start and x + lead + body.width > WIDTH - _MARGIN:
                x, y = start, y + _LINE
            if not first:
                parts.append(_placed(sign_shape, x, y))
            # A formula that is wider than a line is drawn smaller.
            body = body.within(WIDTH - _MARGIN - x - lead)
            parts += [
                _placed(body, x + lead, y),
                f'<text class="small" x="{x + lead:.1f}" y="{y + 25}">{html.escape(name)}</text>',
            ]
            # A long name below a short formula needs room too.
            x += lead + max(body.width, 6.5 * len(name)) + _GAP
        y += _LINE
    return parts, y


def _formula(latex: str) -> _Outline:
    """Return the outline of a formula, or of its LaTeX source if matplotlib cannot read it."""
    try:
        return _outline(latex)
    except ValueError:
        # A user's own LaTeX, such as \begin{cases}; backslashes and dollars are shown as they are.
        return _shape(latex.replace("$", r"\$"))


@cache
def _outline(latex: str) -> _Outline:
    for written, drawn in _DRAWN.items():
        latex = latex.replace(written, drawn)
    return _shape(f"${latex}$")


def _shape(text: str) -> _Outline:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", math_fontfamily="cm")
    shape = TextPath((0, 0), text, size=_SIZE, prop=font)
    words = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    found = []
    for points, code in shape.iter_segments(simplify=False, curves=True):
        pairs = points.reshape(-1, 2) * (1, -1) if code != 79 else ()
        found.append(words[int(code)] + " ".join(f"{a:.2f} {b:.2f}" for a, b in pairs))
    box = shape.get_extents()
    return _Outline("".join(found), float(box.x1))


def _placed(shape: _Outline, x: float, y: float) -> str:
    scale = f" scale({shape.scale:.3f})" if shape.scale < 1 else ""
    return f'<path class="f" transform="translate({x:.1f} {y}){scale}" d="{shape.path}"/>'


def _bars(scores: Mapping[str, Band], scale: ScoreScale, top: int) -> list[str]:
    """Return a bar with its band for each rule."""
    unit = WIDTH - _LEFT - 110
    lines = []
    for index, (name, band) in enumerate(scores.items()):
        y = top + _BAR * index
        mean, low, high = (_LEFT + unit * value for value in (band.mean, band.low, band.high))
        kind = "known" if index else "found"
        lines += [
            f'<text x="{_LEFT - 10}" y="{y + 17}" text-anchor="end">{_text(name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{mean - _LEFT:.1f}" height="24" '
            f'rx="2"/>',
            f'<path class="band" d="M{low:.1f} {y + 12}H{high:.1f}"/>',
            f'<text x="{max(high, mean) + 10:.1f}" y="{y + 17}" font-weight="600">'
            f"{typographic(scale.text(band.mean))}</text>",
        ]
    lines.append(f'<path class="axis" d="M{_LEFT} {top - 6}V{top + _BAR * len(scores) - 4}"/>')
    return lines


def _numbers(scores: Mapping[str, Band], scale: ScoreScale, top: int) -> list[str]:
    """Return a line of text for each rule: scores without a natural zero have no bars."""
    return [
        f'<text x="{_MARGIN}" y="{top + _BAR * index + 17}">{_text(name)}: '
        f"{typographic(scale.text(band.mean))}, {BAND} {typographic(scale.interval(band))}</text>"
        for index, (name, band) in enumerate(scores.items())
    ]


def _text(words: str) -> str:
    return html.escape(words.replace("_", " "), quote=False)
