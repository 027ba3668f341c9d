"""Compare rules side by side: equations, terms, and scores on the same held-out tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from rich.console import Console

from metaplast.base.errors import require, require_within
from metaplast.commands._ends import continued_by
from metaplast.commands._folders import own_folder
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run_config import CONFIG, read_config
from metaplast.discovery.same_tasks import HeldoutTasks, tasks_of
from metaplast.online.comparison import Entrant, read_entrant
from metaplast.report.rule_tables import equation_text, show_facts
from metaplast.report.rules_side_by_side import (
    Compared,
    SideBySide,
    difference_table,
    plain,
    score_table,
    term_tables,
    write_files,
)
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

# The settings that decide which samples a run holds out.
_DECISIVE = ("dataset_name", "seed", "ways", "shots", "queries", "held_out")


@dataclass(frozen=True)
class CompareOptions(JsonOption):
    """Compare rules side by side, on the same held-out tasks."""

    GROUP: ClassVar[str] = "run"

    rules: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUN_OR_RULE ...]")
    ] = ()
    """Folders of finished runs, or rule.json files; all others are compared with the first."""
    on: Path | None = None
    """Run whose held-out tasks and network are used; default: the first run among the rules."""
    test_episodes: int | None = None
    """Held-out tasks; default: as many as in that run's own test."""
    out: Path | None = None
    """Folder for the page and the numbers; default: runs/compare-<time>."""
    quiet: bool = False
    """Print only the results."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: if a number is out of range.
        """
        super().__post_init__()
        if self.test_episodes is not None:
            require_within("--test-episodes", self.test_episodes, 2)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if a rule, the data or a folder is invalid, or a rule does not fit the tasks.
    """
    options = parse(CompareOptions, arguments, prog="compare", description=__doc__)
    require(
        len(options.rules) > 1,
        f"compare needs two rules or more, got {len(options.rules)}; write metaplast compare RUN "
        f"RUN.",
    )
    console = make_console(errors=options.json)
    entrants = _entrants(options.rules)
    tasks = tasks_of(_tasks_folder(options), options.test_episodes)
    notes = _notes(options.rules, entrants, tasks)
    own, again = own_folder(options.out, "compare", resumable=False), "the same command"
    with own as folder, continued_by(console, again):
        found = _compare(console, entrants, tasks, notes, quiet=options.quiet)
        # Show the result before writing it, because writing may fail.
        if not options.json:
            _show(console, found)
        page = write_files(folder, found)
    if options.json:
        print_json(plain(found) | {"page": str(page)})
    if not options.quiet:
        console.out(f"Page: {page}")


def _entrants(rules: Sequence[str]) -> list[Entrant]:
    """Return the rules with distinct names."""
    found: dict[str, Entrant] = {}
    for text in rules:
        entrant = read_entrant(text)
        require(
            not entrant.is_tuned,
            f"the known rule {entrant.name} has no coefficients yet; use metaplast evaluate, which "
            f"tunes them, or name the run that learned them.",
        )
        name, number = entrant.name, 2
        while name in found:
            name, number = f"{entrant.name} ({number})", number + 1
        found[name] = replace(entrant, name=name)
    return list(found.values())


def _tasks_folder(options: CompareOptions) -> Path:
    """Return the run whose tasks are used."""
    if options.on is not None:
        return options.on
    runs = [folder for text in options.rules if (folder := _run_of(text)) is not None]
    require(
        bool(runs),
        "compare takes its held-out tasks from a run, got only rule files; name a run with --on "
        "RUN.",
    )
    return runs[0]


def _run_of(text: str) -> Path | None:
    """Return the run folder that a rule comes from; None for a rule file elsewhere."""
    path = Path(text)
    folder = path if path.is_dir() else path.parent
    return folder if (folder / CONFIG).exists() else None


def _notes(
    rules: Sequence[str], entrants: Sequence[Entrant], tasks: HeldoutTasks
) -> tuple[str, ...]:
    """Return warnings about rules that may have seen the tasks, or were found with another
    objective or constraint."""
    notes = []
    objective = tasks.config.score_objective.name
    for text, entrant in zip(rules, entrants, strict=True):
        folder = _run_of(text)
        if folder is not None and _may_have_seen(read_config(folder).config, tasks.config):
            notes.append(
                f"{entrant.name} was found on the same data set with another seed or other sizes "
                f"of tasks, so its meta-training may have included samples that are held out here."
            )
        if entrant.rule.provenance and entrant.rule.objective_name != objective:
            notes.append(
                f"{entrant.name} was found with the objective {entrant.rule.objective_name}, but "
                f"these tasks are learned with {objective}."
            )
        if entrant.rule.provenance and entrant.rule.weights != tasks.config.weights:
            notes.append(
                f"{entrant.name} was found with --weights {entrant.rule.weights}, but these tasks "
                f"are learned with --weights {tasks.config.weights}."
            )
    return tuple(notes)


def _may_have_seen(config: DiscoveryConfig, tasks: DiscoveryConfig) -> bool:
    if config.dataset_name != tasks.dataset_name:
        return False
    first, other = (
        [getattr(each if name == "dataset_name" else each.request, name) for name in _DECISIVE]
        for each in (config, tasks)
    )
    return first != other


def _compare(
    console: Console,
    entrants: Sequence[Entrant],
    tasks: HeldoutTasks,
    notes: tuple[str, ...],
    *,
    quiet: bool,
) -> SideBySide:
    """Test every rule on the tasks, after checking that all rules fit."""
    learners = [tasks.learner(each.rule, each.name) for each in entrants]
    found = []
    with Work(console, len(entrants) * tasks.episodes, quiet=quiet) as work:
        for entrant, learner in zip(entrants, learners, strict=True):
            work.name(f"testing {entrant.name}")
            evaluation = tasks.test(learner, entrant.rule, work.advance)
            found.append(Compared(entrant.name, entrant.rule, evaluation))
    return SideBySide(tuple(found), tasks.description, notes)


def _show(console: Console, found: SideBySide) -> None:
    show_facts(console, {"tasks": found.tasks})
    console.print()
    for each in found.rules:
        console.out(f"{each.name}, {each.rule.feedback} feedback")
        lines = equation_text(each.rule, console.width - 2).splitlines()
        console.out("\n".join(f"  {line}" for line in lines))
    console.print()
    for table in (*term_tables(found, console.width), score_table(found), difference_table(found)):
        console.print(table)
    for note in found.notes:
        console.out(f"warning: {note}")
