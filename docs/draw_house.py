"""Draw how the folders of metaplast stand on each other, from their imports.

python docs/draw_house.py           write docs/images/house.svg
python docs/draw_house.py --check   exit with 1 if the drawing is not up to date
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
DRAWING = ROOT / "docs" / "images" / "house.svg"

# From the ground up, with a short description: a folder imports only folders listed before it.
FLOORS: dict[str, str] = {
    "base": "errors, files, seeds, threads",
    "scans": "loops over time, compiled, with their adjoints",
    "reservoirs": "tasks, algorithms and the simulation of reservoirs",
    "terms": "the algebra, and terms written in it",
    "systems": "what learns: systems, feedbacks, objectives",
    "rules": "terms with coefficients",
    "recordings": "rules inferred from activity and choices",
    "tasks": "episodes, streams and their sources",
    "engines": "the unroll and its exact gradient",
    "meta": "the outer loop that learns theta",
    "discovery": "search, selection, comparison, test, run folder",
    "watch": "terminal, progress bar, TensorBoard",
    "online": "fresh systems that learn by a rule",
    "batch_jobs": "many runs at once",
    "export": "a rule as code, equation, data",
    "report": "figures and pages",
    "reproduce": "published experiments",
    "commands": "what users call",
}


def imports_of(path: Path) -> Iterator[str]:
    """Yield the dotted names of the modules that a file imports, anywhere in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def folder_imports() -> dict[str, set[str]]:
    """Return which folders of metaplast each folder imports."""
    found: dict[str, set[str]] = {folder: set() for folder in FLOORS}
    for folder, imported in found.items():
        for path in (ROOT / "metaplast" / folder).rglob("*.py"):
            parts = (name.split(".") for name in imports_of(path))
            inside = {p[1] for p in parts if p[0] == "metaplast" and len(p) > 1}
            imported |= (inside & set(FLOORS)) - {folder}
    return found


def drawing() -> str:
    """Return the drawing as SVG: one floor per folder, with its imports beside it."""
    height, width, left = 34, 880, 150
    floors = list(FLOORS)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height * len(floors) + 8}" '
        f'font-family="system-ui, sans-serif" font-size="13">',
        "<style>.room{fill:#e8f1fa;stroke:#0072b2}.small{fill:#555;font-size:11px}"
        "@media (prefers-color-scheme:dark){.room{fill:#123}text{fill:#eee}.small{fill:#aaa}}"
        "</style>",
    ]
    imported = folder_imports()
    for index, folder in enumerate(reversed(floors)):
        y = 4 + index * height
        below = ", ".join(name for name in reversed(floors) if name in imported[folder])
        lines += [
            f'<rect class="room" x="4" y="{y + 2}" width="{left - 20}" height="{height - 6}" '
            f'rx="4"/>',
            f'<text x="14" y="{y + 20}" font-weight="600">{folder}</text>',
            f'<text x="{left}" y="{y + 14}">{FLOORS[folder]}</text>',
            f'<text class="small" x="{left}" y="{y + 28}">imports {below or "nothing"}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def main(arguments: Sequence[str]) -> int:
    """Write the drawing, or check it; return the exit code."""
    if list(arguments) == ["--check"]:
        current = DRAWING.exists() and DRAWING.read_text(encoding="utf-8") == drawing()
        if not current:
            print("docs/images/house.svg is out of date; run python docs/draw_house.py")
        return 0 if current else 1
    DRAWING.write_text(drawing(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
