"""The page of a results folder: every experiment in it, and one table of all claims."""

from __future__ import annotations

from collections import Counter
from typing import Any

from metaplast.base.bands import EARLIER, LEVEL
from metaplast.base.files import read_json, write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.reproduce.experiment import Experiment, all_experiments
from metaplast.reproduce.verdict import LEAST_SEEDS

PAGE = "README.md"


def write_page(folder: AnyPath) -> None:
    """Write README.md about all experiments whose results are in the folder."""
    write_text(as_path(folder, "folder") / PAGE, page(folder))


def page(folder: AnyPath) -> str:
    """Return the text of README.md, about all experiments whose results are in the folder."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    folder = as_path(folder, "folder")
    parts = [
        (experiment, read_json(path, "the results of an experiment"))
        for experiment in all_experiments().values()
        if (path := folder / f"{experiment.name}.json").exists()
    ]
    environment = Environment(
        loader=PackageLoader("metaplast.reproduce", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["cell"] = cell
    template = environment.get_template("page.md.jinja")
    return template.render(parts=[_part(*part) for part in parts], **_whole(parts))


def cell(text: object) -> str:
    """Return a text escaped for a cell of a Markdown table: a bar would end the cell."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def _part(experiment: Experiment, summary: dict[str, Any]) -> dict[str, Any]:
    diverged = {
        name: f"{bad} of {rows}" for name, (bad, rows) in summary["diverged"].items() if bad
    }
    return {
        "experiment": experiment,
        **summary,
        "verdicts": [{**v, "number": number(v)} for v in summary["verdicts"]],
        "minutes": f"{summary['core_seconds'] / 60:.1f}",
        "bad": diverged,
        "found": {
            name: found["theta"]
            for name, found in summary["prepared"].items()
            if found.get("theta")
        },
        "loops": {n: found for n, found in summary["prepared"].items() if found.get("loop")},
        "edges": {n: f["at_edge"] for n, f in summary["prepared"].items() if f.get("at_edge")},
    }


def number(verdict: dict[str, Any]) -> str:
    """Return a verdict's mean with its band."""
    if verdict["mean"] is None:
        return "not measured"
    low, high = (
        "open" if end is None else f"{end:.3g}" for end in (verdict["low"], verdict["high"])
    )
    return f"{verdict['mean']:.3g} [{low}, {high}] {verdict['unit']}".strip().replace("-", "−")


def _whole(parts: list[tuple[Experiment, dict[str, Any]]]) -> dict[str, Any]:
    outcomes = Counter(v["outcome"] for _, summary in parts for v in summary["verdicts"])
    machines = dict.fromkeys(summary["machine"] for _, summary in parts)
    made = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in summary["versions"].items())
        for _, summary in parts
    )
    bands = dict.fromkeys(summary.get("bands", EARLIER) for _, summary in parts)
    seeds = {summary["seeds"] for _, summary in parts}
    usual = all(summary["seeds"] == summary["usual_seeds"] for _, summary in parts)
    every = len(parts) == len(all_experiments())
    return {
        "names": "all" if every else " ".join(summary["name"] for _, summary in parts),
        "seeds_option": f" --seeds {seeds.pop()}" if len(seeds) == 1 and not usual else "",
        "whole": every and usual,
        "outcomes": outcomes,
        "machines": list(machines),
        "made_with": list(made),
        "bands": list(bands),
        "least_seeds": LEAST_SEEDS,
        "risk": f"{100 * (1 - LEVEL):.3g} %",
        "quick": any(summary["quick"] for _, summary in parts),
    }
