"""Draw the README's picture: a discovered rule, and its accuracy beside two baselines.

python docs/draw_rule.py           write docs/images/rule.svg
python docs/draw_rule.py --check   exit with 1 if the drawing is not up to date
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

DRAWING = Path(__file__).parent / "images" / "rule.svg"

# What `discover --terms all --dataset emnist-bymerge` found: each part of the rule, its meaning,
# and held-out accuracy in % with its 98 % band (docs/findings.md).
PARTS = (
    ("− 0.0094 eₗ yₗ₋₁ᵀ", "error × activity"),
    ("+ 0.0405 eₗ eₗ₋₁ᵀ", "error × error"),
    ("− 0.0263 1 eₗ₋₁ᵀ", "presynaptic error"),
    ("+ 0.0040 (yₗ yₗ₋₁ᵀ − yₗ yₗᵀ Wₗ)", "Oja’s rule"),
)
BARS = (
    ("discovered rule", 72.9, 71.8, 74.0, "found"),
    ("backprop", 67.0, 65.5, 68.4, "known"),
    ("feedback alignment", 21.7, 21.3, 22.3, "known"),
)
STYLE = (
    "text{fill:#1a1a1a}.maths{font-family:Georgia,'Times New Roman',serif;font-size:19px;"
    "font-style:italic}.small{font-size:12px;fill:#555}.found{fill:#0072b2}.known{fill:#9aa5ad}"
    ".band{stroke:#1a1a1a;stroke-width:1.5}.axis{stroke:#bbb}"
    "@media (prefers-color-scheme:dark){text{fill:#eee}.small{fill:#aaa}.found{fill:#56b4e9}"
    ".known{fill:#6b757d}.band{stroke:#eee}.axis{stroke:#555}}"
)
WIDTH, LEFT, SCALE = 860, 150, 5.6


def equation() -> list[str]:
    """Return the rule, one part after the other, each with its meaning below it."""
    lines = ['<text class="maths" x="4" y="30">ΔWₗ =</text>']
    x = 72.0
    for formula, meaning in PARTS:
        lines.append(f'<text class="maths" x="{x:g}" y="30">{formula}</text>')
        lines.append(f'<text class="small" x="{x + 16:g}" y="50">{meaning}</text>')
        x += (
            18
            + 8.9 * sum(1 for sign in formula if sign not in "ₗ₋₁ᵀ")
            + 5 * sum(1 for sign in formula if sign in "ₗ₋₁ᵀ")
        )
    return lines


def bars() -> list[str]:
    """Return a bar with its band for each rule."""
    lines = []
    for index, (name, mean, low, high, kind) in enumerate(BARS):
        y = 78 + 34 * index
        ends = [LEFT + SCALE * value for value in (mean, low, high)]
        lines += [
            f'<text x="{LEFT - 10}" y="{y + 17}" text-anchor="end">{name}</text>',
            f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{SCALE * mean:.1f}" height="24" '
            'rx="2"/>',
            f'<path class="band" d="M{ends[1]:.1f} {y + 12}H{ends[2]:.1f}"/>',
            f'<text x="{ends[2] + 10:.1f}" y="{y + 17}" font-weight="600">{mean:.1f} %</text>',
        ]
    bottom = 78 + 34 * len(BARS)
    lines.append(f'<path class="axis" d="M{LEFT} 72V{bottom}"/>')
    lines.append(
        f'<text class="small" x="{LEFT}" y="{bottom + 16}">accuracy on handwritten characters of '
        "classes that meta-training never saw, with 98 % bands</text>"
    )
    return lines


def drawing() -> str:
    """Return the drawing as SVG."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {78 + 34 * len(BARS) + 26}" '
        f'font-family="system-ui, sans-serif" font-size="14">'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", *equation(), *bars(), "</svg>", ""])


def main(arguments: Sequence[str]) -> int:
    """Write the drawing, or check it; return the exit code."""
    if list(arguments) == ["--check"]:
        current = DRAWING.exists() and DRAWING.read_text(encoding="utf-8") == drawing()
        if not current:
            print("docs/images/rule.svg is out of date; run python docs/draw_rule.py")
        return 0 if current else 1
    DRAWING.write_text(drawing(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
