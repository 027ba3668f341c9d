"""Read everything that a report needs from the folder of a finished discovery."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metaplast.base.bands import Band, Numbers
from metaplast.base.errors import UserError, require
from metaplast.base.files import read_json, read_json_in
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.scores import ScoreScale
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.own import Own, own_terms
from metaplast.discovery.result import (
    DISCOVERED,
    REFIT,
    SEARCH,
    clearest,
    tried_in,
    unsupported,
)
from metaplast.discovery.run_checks import check_origin, check_summary
from metaplast.discovery.run_config import CONFIG, config_digest, read_config
from metaplast.discovery.run_folder import HISTORY, RULE, SUMMARY, theta_columns
from metaplast.meta.signs import sign_of
from metaplast.report.curve import Curve
from metaplast.report.figures import Trajectory
from metaplast.rules.rule import Rule
from metaplast.systems.objective import Objective
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import get_term
from metaplast.terms.term import Term

# A curve is about this many times as long as the window of its running mean.
WINDOWS = 10


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """The contents of a run folder.

    Attributes:
        folder: its path.
        config: the configuration by field name, and the versions.
        rule: the discovered rule.
        summary: the outcome, see `metaplast.discovery.summary.summary`.
        rows: the rows of history.csv.
        terms: all candidates.
        own: data and terms passed from Python; None in folders of earlier versions.
    """

    folder: Path
    config: Mapping[str, Any]
    rule: Rule
    summary: Mapping[str, Any]
    rows: tuple[Mapping[str, str], ...]
    terms: tuple[Term, ...]
    own: Own | None = None

    @cached_property
    def searched(self) -> Coefficients:
        """θ of all candidates after the search."""
        return Coefficients.from_plain(self.summary["before_refit"])

    @cached_property
    def stages(self) -> dict[str, list[Mapping[str, str]]]:
        """The rows of each stage, in order; trials of the selection are left out."""
        found: dict[str, list[Mapping[str, str]]] = {}
        for row in self.rows:
            if not tried_in(row["stage"]):
                found.setdefault(row["stage"], []).append(row)
        return found

    @cached_property
    def rules(self) -> dict[str, list[tuple[float, Mapping[str, str]]]]:
        """The rows of each rule with its number of tasks so far: the refit follows the search."""
        found = {
            name: [(float(row["episodes"]), row) for row in rows]
            for name, rows in self.stages.items()
            if name not in (SEARCH, REFIT)
        }
        search = [(float(row["episodes"]), row) for row in self.stages.get(SEARCH, [])]
        seen = search[-1][0] if search else 0.0
        refit = [(seen + float(row["episodes"]), row) for row in self.stages.get(REFIT, [])]
        return {DISCOVERED: search + refit, **found}

    def final(self, term: Term) -> Term:
        """Return the rule's version of a candidate, with learned time constants."""
        return next((own for own in self.rule.terms if own.name == term.name), term)

    @property
    def refit_at(self) -> float | None:
        """Number of tasks before the refit; None without a refit."""
        if REFIT not in self.stages or SEARCH not in self.stages:
            return None
        return float(self.stages[SEARCH][-1]["episodes"])

    @cached_property
    def asked(self) -> DiscoveryConfig:
        """The configuration as the settings of a discovery."""
        return DiscoveryConfig.from_json(self.config["config"])

    @property
    def objective(self) -> Objective:
        """The objective that the run minimised."""
        return self.asked.score_objective

    @property
    def scale(self) -> ScoreScale:
        """How its scores are named, bounded and shown."""
        return self.objective.score_scale

    def curve(self, rule: str, column: str, factor: float = 1.0) -> Curve:
        """Return a rule's running mean of a column of the history, with its band."""
        places = [place for place, _ in self.rules[rule]]
        values = np.array([_number(row.get(column, "")) for _, row in self.rules[rule]])
        window = max(5, len(values) // WINDOWS)
        return Curve.running(places, factor * values, window)

    def values(self, column: str) -> Curve:
        """Return a column of the discovered rule's history unchanged, without a band."""
        rows = [(place, row[column]) for place, row in self.rules[DISCOVERED] if row.get(column)]
        values = np.array([_number(text) for _, text in rows])
        return Curve(np.array([place for place, _ in rows]), values, values, values)

    def angles(self, rule: str) -> list[Curve]:
        """Return a rule's angles to backprop for each hidden layer, in degrees."""
        columns = [name for name in self.rows[0] if name.startswith("angle_")]
        return [self.curve(rule, name) for name in columns]

    def trajectory(self, term: str) -> Trajectory:
        """Return the path of a term's coefficients during search and refit."""
        layers = theta_columns(term, self.searched.sites)
        found = [
            (place, [_number(row.get(name, "")) for name in layers])
            for place, row in self.rules[DISCOVERED]
            if row.get(layers[0])
        ]
        final = self.rule.named_theta
        return Trajectory(
            np.array([place for place, _ in found]),
            np.array([values for _, values in found]).reshape(len(found), len(layers)),
            np.array(final.values(term)) if term in final.names else None,
        )

    def band(self, group: str, name: str) -> Band:
        """Return a band of the summary: of "heldout", "without" or "added"."""
        return Band.from_json(self.summary[group][name], name)

    def effect(self, term: Term) -> str:
        """Return how the held-out score changes without a kept or with a dropped term, in words."""
        for group, words in (("without", "without it"), ("added", "with it")):
            # Earlier versions did not put dropped terms back.
            if term.name in self.summary.get(group, {}):
                return f"{words} {self.scale.change(self.band(group, term.name))}"
        errors = self.summary.get("errors", {})
        sign = sign_of(term, self.asked.config)
        return unsupported(sign, errors[term.name]) if term.name in errors else ""

    @property
    def shown(self) -> tuple[Term, ...]:
        """The candidates that a table has room for; see `clearest`."""
        first = {*self.rule.named_theta.names}
        first.update(*(self.summary.get(group, {}) for group in ("without", "added")))
        return clearest(self.terms, first, self.summary.get("errors", {}))

    @property
    def command(self) -> str:
        """The command that repeats this run; a call from Python if it has own data or terms."""
        if self.own is not None and (self.own.data is not None or self.own.terms):
            return self._call(self.own)
        words = ["metaplast", "discover"]
        for name, value in self._changed.items():
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                words.append(flag if value else f"--no-{flag[2:]}")
            else:
                listed = isinstance(value, tuple)
                text = ",".join(map(str, value)) or "none" if listed else str(value)
                words += [flag, text]
        return shlex.join(words)

    @property
    def _changed(self) -> dict[str, Any]:
        """The settings that are not the defaults, by field name."""
        pairs = ((field, getattr(self.asked, field.name)) for field in fields(DiscoveryConfig))
        return {field.name: value for field, value in pairs if value != field.default}

    def _call(self, own: Own) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in self._changed.items())
        lines = [f"DiscoveryConfig({changed}),"]
        if own.terms:
            lines.append(f"terms=[{own.names}],")
        if own.data is not None:
            lines.append(f"split=…  # {own.data.line}")
        return "\n    ".join(["discover(", *lines]) + "\n)"


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def read_run(folder: AnyPath, terms: Iterable[Term] = ()) -> FinishedRun:
    """Return the contents of the folder of a finished run.

    Args:
        folder: the folder of the run.
        terms: your own terms that no installed package offers.

    Raises:
        UserError: if files are missing or damaged, or a term is unknown.
    """
    folder = as_path(folder, "folder")
    give = (
        f"the folder of a run, or continue an interrupted one: discover --resume "
        f"{shlex.quote(str(folder))}"
    )
    summary = read_json_in(folder, SUMMARY, "the summary of a run", "finished run", give)
    config = read_json(folder / CONFIG, "the configuration of a run")
    asked = read_config(folder)
    own = own_terms(asked.own, terms)
    rule = Rule.load(folder / RULE, terms, to_print=True)
    try:
        require(
            summary.get("config") in (None, config_digest(asked.config)),
            f"{folder / CONFIG} was changed after the run; put it back, or start a new run.",
        )
        check_summary(summary)
        check_origin(config, rule)
        rows = _rows((folder / HISTORY).read_text(encoding="utf-8"))
        names = list(summary["before_refit"])
        candidates = tuple(own[name] if name in own else get_term(name) for name in names)
        run = FinishedRun(folder, config, rule, summary, rows, candidates, asked.own)
        _ = run.rules, run.command, run.searched
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder} is damaged or was written by another version of metaplast ({error}); do "
            f"the run again."
        ) from None
    require(bool(run.stages), f"{folder / HISTORY} has no rows; do the run again.")
    return run


def _rows(text: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a history.

    Raises:
        ValueError: if the text was cut short.
    """
    rows = tuple(csv.DictReader(text.splitlines()))
    # Every line ends with a line break, and every row has a cell for each column.
    if not text.endswith("\n") or any(None in (*row, *row.values()) for row in rows):
        raise ValueError(f"{HISTORY} is cut short")
    return rows


def finite(values: Numbers) -> bool:
    """Return whether at least one value is finite, so that a figure shows something."""
    return bool(np.isfinite(values).any())
