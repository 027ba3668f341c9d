"""Tables of a discovery's result for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from metaplast.base.bands import BAND, Band
from metaplast.base.tables import add_broken_column, add_whole_column, first_that_fits, new_table
from metaplast.discovery.config import all_constrained
from metaplast.discovery.result import DISCOVERED, Result, clearest, left_out, unsupported
from metaplast.meta.signs import sign_of
from metaplast.rules.recovery import Recovery
from metaplast.terms.term import Term

# In narrower terminals, the table of terms has only the most important columns.
WIDE = 130
_FEW = ("term", "θ", "change of {score}")
_ALL = ("term", "formula", "θ searched", "θ", "", "change of {score}", "locality")
# The choices of columns for the table of terms, from all columns to the fewest.
_CHOICES = (
    _ALL,
    tuple(name for name in _ALL if name != "θ searched"),
    tuple(name for name in _ALL if name not in ("θ searched", "locality")),
    _FEW,
)


def growth_table(result: Result) -> Table:
    """Return a table of the candidates that the search tried, in order."""
    table = new_table("How the rule grew")
    columns = ("candidate", "found by", "gradient / s.e.", f"change of {result.score.name}", "")
    for column in columns:
        right = column.startswith(("gradient", "change"))
        table.add_column(column, justify="right" if right else "left")
    for trial in result.trials:
        change = result.score.change(Band(trial.change, trial.low, trial.high))
        table.add_row(
            trial.term,
            "its value" if trial.start else "its gradient",
            f"{trial.errors:.1f}",
            f"with {trial.tried_with}" if trial.tried_with else change,
            "entered" if trial.entered else "did not help",
            style=None if trial.entered else "dim",
        )
    return table


def terms_table(result: Result, width: int = WIDE) -> Table:
    """Return a table of the candidates: θ, kept or dropped, effect on the held-out score.

    Of a large pool it has the terms that were kept or refitted, and of the others those with the
    largest gradients; see `clearest`.

    Args:
        result: the result of a discovery.
        width: the width of the terminal. If it is below `WIDE`, or the other columns do not fit,
            the table shows only names, θ and effects.
    """
    pool, first = result.searched.terms, {*result.kept, *result.without, *result.added}
    rows = [_term_row(result, term) for term in clearest(pool, first, result.errors)]
    choices = _CHOICES if width >= WIDE else (_FEW,)
    caption = left_out(len(pool) - len(rows))
    return first_that_fits(
        (_table_of(rows, each, result.score.name, caption) for each in choices), width
    )


def _table_of(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], score: str, caption: str | None
) -> Table:
    """Return some columns of the table of terms."""
    table = new_table("Terms", caption)
    for column in columns:
        if column == "formula":
            add_broken_column(table, column, [row[column] for row in rows])
        else:
            right = column.startswith(("θ", "change"))
            add_whole_column(table, column.format(score=score), right=right)
    for row in rows:
        style = "dim" if row[""] == "dropped" else None
        table.add_row(*(row[column] for column in columns), style=style)
    return table


def _term_row(result: Result, term: Term) -> dict[str, str]:
    """Return the cells of a term by column."""
    kept = term.name in result.kept
    # The term with the time constants that the refits learned, if the rule has it.
    final = next((each for each in result.rule.terms if each.name == term.name), term)
    return {
        "term": term.name,
        "formula": final.spell(),
        "θ searched": result.searched.named_theta.range_text(term.name),
        "θ": result.rule.named_theta.range_text(term.name) if kept else "–",
        "": "kept" if kept else "dropped",
        "change of {score}": _ablation(result, term),
        "locality": term.locality,
    }


def _ablation(result: Result, term: Term) -> str:
    """Return the change of the held-out score without a kept term or with a dropped one."""
    name = term.name
    if name in result.without:
        return f"without it {result.score.change(result.loss_without(name))}"
    if name in result.added:
        return f"with it {result.score.change(result.gain_with(name))}"
    if name in result.errors:
        return unsupported(sign_of(term, result.config), result.errors[name])
    return ""


def taus_table(result: Result) -> Table:
    """Return a table of the rule's learned time constants."""
    table = new_table("Time constants", "in examples or time steps, shared by all layers")
    for column in ("of", "initial τ", "τ", "terms"):
        table.add_column(column, justify="right" if "τ" in column else "left", overflow="fold")
    for each in result.taus:
        table.add_row(each.of.spell(), f"{each.start:g}", f"{each.tau:.4g}", ", ".join(each.terms))
    return table


def heldout_table(result: Result) -> Table:
    """Return a table of scores on the same held-out episodes."""
    table = new_table(
        f"{result.score.title} on {result.config.test_episodes} held-out episodes",
        f"{result.held_out_word} never seen in meta-training{all_constrained(result.config)}",
    )
    for column in ("rule", result.score.name, BAND, "diverged"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for name, evaluation in result.heldout.items():
        band = evaluation.band
        table.add_row(
            name,
            result.score.text(band.mean),
            result.score.interval(band),
            str(evaluation.non_finite),
            style="bold" if name == DISCOVERED else None,
        )
    return table


def lengths_table(result: Result) -> Table | None:
    """Return a table of scores by the number of support examples; None if there is only one."""
    rules = {name: found.by_steps for name, found in result.heldout.items() if found.by_steps}
    if not rules:
        return None
    table = new_table(f"{result.score.title} by the number of support examples", BAND)
    table.add_column("examples", justify="right")
    for name in rules:
        table.add_column(name, justify="right")
    for steps in rules[DISCOVERED]:
        bands = [found[steps] for found in rules.values()]
        table.add_row(
            str(steps),
            *(f"{result.score.text(band.mean)}\n{result.score.interval(band)}" for band in bands),
        )
    return table


def recovery_table(recovery: Recovery) -> Table:
    """Return a table of planted and recovered coefficients."""
    table = new_table("The planted rule", str(recovery))
    for column in ("term", "planted θ", "recovered θ", "error"):
        table.add_column(column, justify="left" if column == "term" else "right", no_wrap=True)
    planted, found = recovery.planted.named_theta, recovery.found.named_theta
    for name in dict.fromkeys([*planted.names, *found.names]):
        table.add_row(
            name,
            planted.range_text(name) if name in planted.names else "–",
            found.range_text(name) if name in found.names else "–",
            f"{recovery.errors[name]:.1%}" if name in planted.names else "not planted",
        )
    return table
