"""The gallery: every experiment with stored results, as a picture with its claims and verdicts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from metaplast.reproduce.experiment import all_experiments
from metaplast.reproduce.page import number

# The style of each verdict, and the verdict on several claims.
OUTCOMES = {"holds": "holds", "does not hold": "fails", "not decided": "open"}
SEVERAL = {"holds": "hold", "does not hold": "do not hold", "not decided": "are not decided"}
HEAD = """\
# Gallery

Each picture is an experiment that metaplast has repeated. Below it are the claims, each with its
verdict, the number that was measured, its band, and the range in which it must lie. A claim *holds*
if the whole band lies in the range, *does not hold* if no part of the band does, and is
*not decided* otherwise. [](reproduce.md) says how experiments are run, and [](results/README.md)
has all tables and settings.

"""


def experiments(results: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Return name, title and stored summary of every experiment with results, in order."""
    return [
        (name, experiment.title, json.loads(path.read_text("utf-8")))
        for name, experiment in all_experiments().items()
        if (path := results / f"{name}.json").exists()
    ]


def verdict(found: dict[str, Any]) -> str:
    """Return one claim as an item of a list."""
    outcome = found["outcome"]
    badge = f"[{outcome}]{{.verdict .{OUTCOMES[outcome]}}}"
    return f"- {badge} {found['claim']}: {number(found)} ({found['criterion']})"


def counted(number: int, outcome: str) -> str:
    """Return how many claims have an outcome, such as "2 hold"."""
    one = outcome if outcome != "not decided" else "is not decided"
    return f"{number} {SEVERAL[outcome] if number > 1 else one}"


def card(name: str, title: str, summary: dict[str, Any]) -> str:
    """Return one experiment: title, picture, how many claims hold, and each claim."""
    picture = summary["figures"][0]
    outcomes = Counter(found["outcome"] for found in summary["verdicts"])
    counts = ", ".join(counted(n, each) for each in OUTCOMES if (n := outcomes[each]))
    claims = "\n".join(verdict(found) for found in summary["verdicts"])
    return f"""\
## {title}

![{title}](results/{picture}.png)

With {summary["seeds"]} seeds, of the claims {counts}.
[All results of `{name}`](results/README.md#{name})

{claims}

"""


def gallery(results: Path) -> str:
    """Return the whole page."""
    return HEAD + "".join(card(*each) for each in experiments(results))


def write(app: Any) -> None:
    """Write the page if it has changed."""
    folder = Path(app.srcdir)
    text, path = gallery(folder / "results"), folder / "gallery.md"
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Write the page before Sphinx reads it."""
    app.connect("builder-inited", write, priority=400)
    return {"parallel_read_safe": True}
