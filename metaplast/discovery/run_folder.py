"""The files of a run folder: history, rule and summary."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from metaplast.base.errors import require
from metaplast.base.files import csv_text, write_json, write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.discovery.observer import Observer
from metaplast.discovery.result import Result
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_config import CONFIG
from metaplast.discovery.summary import summary
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.rules.rule import Rule
from metaplast.terms.coefficients import site_names

HISTORY = "history.csv"
RULE = "rule.json"
SUMMARY = "summary.json"


def load_rule(folder: AnyPath) -> Rule:
    """Return the rule of a finished run.

    Raises:
        UserError: if the run is not finished, there is no rule, or its file is damaged.
    """
    folder = as_path(folder, "folder")
    require(
        (folder / RULE).exists() or not (folder / CONFIG).exists(),
        f"the run in {folder} is not finished; continue it with discover --resume {folder}.",
    )
    require(
        (folder / RULE).exists(),
        f"{folder} has no {RULE}; give the folder of a run, or a rule file.",
    )
    return Rule.load(folder / RULE)


class RunFiles(Observer):
    """Writes history.csv after every stage, and rule.json and summary.json at the end.

    Args:
        folder: the folder of the discovery.
    """

    def __init__(self, folder: AnyPath) -> None:
        self._folder = as_path(folder, "folder")
        self._discovery: Discovery | None = None

    def begin(self, discovery: Discovery) -> None:
        """Store the discovery whose history is written."""
        self._discovery = discovery

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Write the history at the end of a stage."""
        if loop.is_done and self._discovery is not None:
            key = self._discovery.config.score_objective.score_scale.key
            write_text(self._folder / HISTORY, history_csv(self._discovery.stages.history(), key))

    def finish(self, result: Result) -> None:
        """Write history, rule and summary."""
        write_text(self._folder / HISTORY, history_csv(result.history, result.score.key))
        result.rule.save(self._folder / RULE)
        write_json(self._folder / SUMMARY, summary(result))


def history_csv(records: Iterable[Record], score: str) -> str:
    """Return the records as CSV: one row per outer step, one column per coefficient.

    Args:
        records: the records of all stages.
        score: name of the column of scores.
    """
    return csv_text(_row(record, score) for record in records)


def _row(record: Record, score: str) -> dict[str, Any]:
    plain = {k: v for k, v in vars(record).items() if k not in ("theta", "angles", "taus")}
    row = {score if k == "score" else k: v for k, v in plain.items()}
    row |= {f"angle_{layer}": value for layer, value in enumerate(record.angles, start=1)}
    for term, values in record.theta.items():
        row |= zip(theta_columns(term, len(values)), values, strict=True)
    row |= {f"tau_{name}": value for name, value in record.taus.items()}
    return row


def theta_columns(term: str, sites: int) -> list[str]:
    """Return the names of the columns of history.csv with a term's θ: one, or one per site."""
    return site_names(f"theta_{term}", sites)
