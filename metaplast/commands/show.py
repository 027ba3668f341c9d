"""Show a rule in the terminal: its equation, terms, scores and origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from metaplast.base.errors import UserError, require, unknown_name
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse
from metaplast.discovery.run_config import CONFIG
from metaplast.discovery.run_folder import RULE, SUMMARY, load_rule
from metaplast.report.facts import facts, rule_facts
from metaplast.report.rule_tables import (
    equation_text,
    rule_terms_table,
    run_scores_table,
    run_terms_table,
    show_facts,
)
from metaplast.report.run import FinishedRun, read_run
from metaplast.rules.rule import Rule
from metaplast.terms.library import KnownRule, find_known_rule, get_term, known_rules
from metaplast.watch.console import make_console


@dataclass(frozen=True)
class ShowOptions(JsonOption):
    """Show the rule of a run, of a file, or of the library."""

    rule: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_RULE")] = ""
    """Folder of a finished run, a rule.json, or the name of a known rule."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if there is no such run or rule, or its files are damaged.
    """
    options = parse(ShowOptions, arguments, prog="show", description=__doc__)
    try:
        found = _open(options.rule)
    except OSError as error:
        raise UserError(
            f"cannot read {options.rule}: {error.strerror}; check the path and its permissions."
        ) from None
    if options.json:
        print_json(_data(found))
        return
    console = make_console()
    if isinstance(found, FinishedRun):
        _show_run(console, found)
    elif isinstance(found, KnownRule):
        _show_known(console, found)
    else:
        _show_rule(console, found)


def _open(text: str) -> FinishedRun | Rule | KnownRule:
    """Return the run or rule that the user named."""
    require(bool(text.strip()), "show needs a run or a rule; write metaplast show RUN.")
    path = Path(text)
    known = find_known_rule(text)
    if known is not None and not path.exists():
        return known
    if path.is_dir():
        if (path / SUMMARY).exists():
            return read_run(path)
        if (path / CONFIG).exists() or not (path / RULE).exists():
            return load_rule(path)
        path = path / RULE
    if path.exists() or path.suffix:
        return Rule.load(path, to_print=True)
    raise unknown_name("rule (no file or folder either)", text, known_rules())


def _show_run(console: Console, run: FinishedRun) -> None:
    console.out(equation_text(run.rule, console.width), "\n")
    console.print(run_terms_table(run, console.width), "\n")
    console.print(run_scores_table(run))
    console.print("[bold]Where it comes from[/bold]")
    show_facts(console, {**facts(run), "folder": str(run.folder), "again": run.command})


def _show_rule(console: Console, rule: Rule) -> None:
    console.out(equation_text(rule, console.width), "\n")
    console.print(rule_terms_table(rule, console.width))
    console.print("[bold]Where it comes from[/bold]")
    show_facts(console, rule_facts(rule))


def _show_known(console: Console, known: KnownRule) -> None:
    rule = _symbolic(known)
    console.out(
        equation_text(replace(rule, per_layer=True), console.width).partition("\nwith")[0], "\n"
    )
    console.print(rule_terms_table(rule, console.width, with_theta=False))
    show_facts(console, {"feedback": " or ".join(known.feedback), "source": known.citation})


def _symbolic(known: KnownRule) -> Rule:
    """Return a known rule as a `Rule`, with initial values instead of learned coefficients."""
    terms = tuple(map(get_term, known.terms))
    return Rule(terms, (tuple(term.initial for term in terms),), known.feedback[0])


def _data(found: FinishedRun | Rule | KnownRule) -> dict[str, Any]:
    """Return plain data about what is shown."""
    if isinstance(found, FinishedRun):
        return {"rule": found.rule.to_json(), "run": dict(found.summary)}
    if isinstance(found, Rule):
        return {"rule": found.to_json()}
    return {
        "known_rule": found.name,
        "terms": {name: get_term(name).spell() for name in found.terms},
        "feedback": list(found.feedback),
        "citation": found.citation,
    }
