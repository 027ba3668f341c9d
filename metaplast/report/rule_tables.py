"""A rule or a finished run in the terminal: equation, terms, held-out scores, origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from metaplast.base.bands import BAND
from metaplast.base.tables import add_broken_column, add_whole_column, first_that_fits, new_table
from metaplast.discovery.config import all_constrained
from metaplast.discovery.result import DISCOVERED, left_out
from metaplast.report.run import FinishedRun
from metaplast.rules.equation import wrapped_equation
from metaplast.rules.rule import Rule
from metaplast.tasks.source import held_out_word
from metaplast.terms.term import Term

# The narrowest terminal in which a table of terms has every column, if they fit.
WIDE = 130


@dataclass(frozen=True)
class _Column:
    """A column of a table of terms: its header, and whether narrow terminals show it."""

    head: str
    narrow: bool = True
    right: bool = False
    fold: bool = False


def equation_text(rule: Rule, width: int) -> str:
    """Return the equation in lines that fit a terminal, with coefficients that differ by layer."""
    whole = str(rule).removeprefix(rule.equation())
    return wrapped_equation(rule, width) + whole


def rule_terms_table(rule: Rule, width: int, *, with_theta: bool = True) -> Table:
    """Return the terms of a rule: θ, formula, locality, and the source if there is room.

    Args:
        rule: the rule.
        width: the width of the terminal.
        with_theta: whether to show the coefficients; False if they are not learned yet.
    """
    columns = [_Column("term")]
    columns += [_Column("θ", right=True)] if with_theta else []
    columns += [_Column("formula", fold=True), _Column("locality")]
    columns += [_Column("source", narrow=False, fold=True)]
    theta = rule.named_theta
    rows = {
        term: {
            "term": term.name,
            "θ": theta.range_text(term.name),
            "formula": term.spell(),
            "locality": term.locality,
            "source": term.citation,
        }
        for term in rule.terms
    }
    return _terms_table(columns, rows, width)


def run_terms_table(run: FinishedRun, width: int) -> Table:
    """Return the candidates of a run, kept ones first: θ, and the effect on the held-out score."""
    theta = run.rule.named_theta
    columns = [
        _Column("term"),
        _Column("formula", narrow=False, fold=True),
        _Column("θ", right=True),
        _Column(f"change of {run.scale.name}", right=True),
        _Column("locality", narrow=False),
    ]
    kept = [term for term in run.terms if term.name in theta.names]
    rows = {
        term: {
            "term": term.name,
            "formula": run.final(term).spell(),
            "θ": theta.range_text(term.name) if term in kept else "dropped",
            f"change of {run.scale.name}": run.effect(term),
            "locality": term.locality,
        }
        for term in (*kept, *(term for term in run.shown if term not in kept))
    }
    return _terms_table(columns, rows, width, left_out(len(run.terms) - len(rows)))


def _terms_table(
    columns: list[_Column],
    rows: Mapping[Term, Mapping[str, str]],
    width: int,
    caption: str | None = None,
) -> Table:
    narrow = [column for column in columns if column.narrow]
    choices = (columns, narrow) if width >= WIDE else (narrow,)
    return first_that_fits((_table_of(shown, rows, caption) for shown in choices), width)


def _table_of(
    columns: list[_Column], rows: Mapping[Term, Mapping[str, str]], caption: str | None
) -> Table:
    table = new_table("Terms", caption)
    for column in columns:
        if column.fold:
            add_broken_column(table, column.head, [row[column.head] for row in rows.values()])
        else:
            add_whole_column(table, column.head, right=column.right)
    for row in rows.values():
        style = "dim" if row["θ"] == "dropped" else None
        table.add_row(*(row[column.head] for column in columns), style=style)
    return table


def run_scores_table(run: FinishedRun) -> Table:
    """Return the scores of a run's rule and its baselines on the same held-out tasks."""
    held_out = held_out_word(run.summary["held_out"], run.objective.target_kind)
    table = new_table(
        f"{run.scale.title} on {run.summary['test_episodes']} held-out tasks",
        f"{held_out} never seen in meta-training{all_constrained(run.asked)}",
    )
    for column in ("rule", run.scale.name, BAND, "diverged"):
        table.add_column(column, justify="left" if column == "rule" else "right", no_wrap=True)
    for name, entry in run.summary["heldout"].items():
        band = run.band("heldout", name)
        table.add_row(
            name,
            run.scale.text(band.mean),
            run.scale.interval(band),
            str(entry["non_finite"]),
            style="bold" if name == DISCOVERED else None,
        )
    return table


def show_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Print facts by name, in two columns."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts.items():
        table.add_row(name, text)
    console.print(table, highlight=False)
