"""Rules side by side on the same held-out tasks: tables for the terminal, files, and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from metaplast.base.bands import BAND, Band
from metaplast.base.files import csv_text, write_json, write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.scores import ScoreScale
from metaplast.base.tables import new_table
from metaplast.discovery.result import versions
from metaplast.meta.evaluation import Evaluation
from metaplast.report.canvas import inlined, svg
from metaplast.report.facts import rule_facts
from metaplast.report.figures import whiskers
from metaplast.report.template import filled_page
from metaplast.rules.notebook import equation_html, mathml, typographic
from metaplast.rules.rule import Rule
from metaplast.terms.faded import fades
from metaplast.terms.notation import LATEX
from metaplast.terms.term import Term

PAGE, SCORES, SUMMARY = "compare.html", "scores.csv", "compare.json"
# The coefficient of a term that a rule does not have.
NONE = "–"
# Width of the space between two columns of a table.
_GAP = 3


@dataclass(frozen=True)
class Compared:
    """A rule and its scores.

    Attributes:
        name: its name in tables and figures.
        rule: the rule.
        evaluation: its test on the tasks that all rules share.
    """

    name: str
    rule: Rule
    evaluation: Evaluation


@dataclass(frozen=True)
class SideBySide:
    """Several rules on the same held-out tasks.

    Attributes:
        rules: the rules; the others are compared with the first.
        tasks: a description of the tasks in one line.
        notes: sentences about what limits the comparison.
    """

    rules: tuple[Compared, ...]
    tasks: str
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Compared:
        """The rule with which the others are compared."""
        return self.rules[0]

    @property
    def scale(self) -> ScoreScale:
        """How scores are named, bounded and shown."""
        return self.first.evaluation.scale

    @property
    def episodes(self) -> int:
        """Number of held-out tasks."""
        return len(self.first.evaluation.score)

    @property
    def differences(self) -> dict[str, Band]:
        """The first rule's score minus each other rule's, paired by task."""
        first = self.first.evaluation
        return {other.name: other.evaluation.change(first) for other in self.rules[1:]}

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of all rules, those of the first rule first."""
        return tuple(dict.fromkeys(term for each in self.rules for term in each.rule.terms))


def theta_text(rule: Rule, term: Term) -> str:
    """Return a rule's coefficient of a term, or a dash."""
    theta = rule.named_theta
    return theta.range_text(term.name) if term in rule.terms else NONE


def term_tables(found: SideBySide, width: int) -> list[Table]:
    """Return the coefficients of all rules, term by term: several tables if one is too wide."""
    label = max((len(term.name) for term in found.terms), default=0) + 2 * _GAP
    groups: list[list[Compared]] = []
    room = 0
    for each in found.rules:
        needs = _GAP + max(
            [len(theta_text(each.rule, term)) for term in found.terms] + [len(each.name)]
        )
        if not groups or needs > room:
            groups.append([])
            room = width - label
        groups[-1].append(each)
        room -= needs
    return [_term_table(found.terms, group, first=group is groups[0]) for group in groups]


def _term_table(terms: Sequence[Term], rules: Sequence[Compared], *, first: bool) -> Table:
    table = new_table("Coefficients θ" if first else "Coefficients θ, continued")
    table.add_column("term", no_wrap=True)
    for each in rules:
        table.add_column(each.name, justify="right", overflow="fold")
    for term in terms:
        table.add_row(term.name, *(theta_text(each.rule, term) for each in rules))
    return table


def score_table(found: SideBySide) -> Table:
    """Return the score of each rule with its band."""
    table = new_table(f"{found.scale.title} on {found.episodes} held-out tasks")
    table.add_column("rule", overflow="fold")
    for column in (found.scale.name, BAND, "diverged"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in found.rules:
        band = each.evaluation.band
        cells = found.scale.text(band.mean), found.scale.interval(band)
        table.add_row(each.name, *cells, str(each.evaluation.non_finite))
    return table


def difference_table(found: SideBySide) -> Table:
    """Return the first rule's score minus each other rule's, paired by task."""
    unit = "points" if found.scale.percent else found.scale.name
    table = new_table(
        f"{found.first.name} minus each other rule, {unit}", "same tasks and initial weights"
    )
    table.add_column("rule", overflow="fold")
    table.add_column(f"difference [{BAND}]", justify="right", no_wrap=True)
    for name, band in found.differences.items():
        table.add_row(name, found.scale.change(band))
    return table


def plain(found: SideBySide) -> dict[str, Any]:
    """Return the comparison as plain data."""
    return {
        "tasks": found.tasks,
        "held_out_tasks": found.episodes,
        "score": {"name": found.scale.name, "key": found.scale.key},
        "rules": {
            each.name: {
                "equation": str(each.rule),
                "theta": each.rule.coefficients,
                "feedback": each.rule.feedback,
                found.scale.key: each.evaluation.band.to_json(),
                "diverged": each.evaluation.non_finite,
            }
            for each in found.rules
        },
        f"{found.first.name} minus": {n: b.to_json() for n, b in found.differences.items()},
        "notes": list(found.notes),
        "versions": versions(),
    }


def write_files(folder: AnyPath, found: SideBySide) -> Path:
    """Write compare.json, scores.csv with each task's scores, and compare.html; return its path."""
    folder = as_path(folder, "folder")
    write_json(folder / SUMMARY, plain(found))
    columns = {each.name: each.evaluation.score.tolist() for each in found.rules}
    rows = ({"task": i} | {n: c[i] for n, c in columns.items()} for i in range(found.episodes))
    write_text(folder / SCORES, csv_text(rows))
    write_text(folder / PAGE, page(found))
    return folder / PAGE


def page(found: SideBySide) -> str:
    """Return the page: equations, coefficients, scores, differences, origins."""
    from markupsafe import Markup

    scale = found.scale
    bands = {each.name: each.evaluation.band for each in found.rules}
    figures = {
        "scores": whiskers(bands, x=f"held-out {scale.axis}", scale=scale, mark=found.first.name),
        "differences": whiskers(
            found.differences,
            x=f"{found.first.name} minus the rule, {'points' if scale.percent else scale.name}",
            scale=scale,
            zero=True,
        ),
    }
    captions = {
        "scores": f"{scale.title} on {found.episodes} held-out tasks: mean and {BAND}.",
        "differences": f"How far {found.first.name} is above each other rule, paired by task, "
        f"with the {BAND}.",
    }
    return filled_page(
        "rules_page.html.j2",
        rules=[_rule_entry(each, scale) for each in found.rules],
        terms=[_term_entry(found, term) for term in found.terms],
        fades=any(fades(term) for rule in found.rules for term in rule.rule.terms),
        differences={
            name: typographic(scale.change(band)) for name, band in found.differences.items()
        },
        figures={
            name: Markup(inlined(svg(figure, name), captions[name]))
            for name, figure in figures.items()
        },
        captions=captions,
        first=found.first.name,
        tasks=found.tasks,
        episodes=found.episodes,
        score=scale.name,
        band=BAND,
        notes=found.notes,
    )


def _rule_entry(each: Compared, scale: ScoreScale) -> Mapping[str, Any]:
    from markupsafe import Markup

    band = each.evaluation.band
    return {
        "name": each.name,
        "equation": Markup(equation_html(each.rule)),
        "mean": typographic(scale.text(band.mean)),
        "band": typographic(scale.interval(band)),
        "diverged": each.evaluation.non_finite,
        "facts": rule_facts(each.rule),
    }


def _term_entry(found: SideBySide, term: Term) -> Mapping[str, Any]:
    from markupsafe import Markup

    return {
        "name": term.name,
        "formula": Markup(mathml(term.spell(LATEX))),
        "locality": term.locality,
        "theta": [typographic(theta_text(each.rule, term)) for each in found.rules],
    }
