"""Plant random rules and see whether discovery recovers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from rich.table import Table

from metaplast.base.errors import require, require_seed, require_within
from metaplast.base.files import csv_text, write_text
from metaplast.base.seeds import generator
from metaplast.base.settings import Settings
from metaplast.base.tables import new_table
from metaplast.batch_jobs.jobs import Jobs
from metaplast.commands._config_file import ConfigFile, made_from_file, settings_in_file
from metaplast.commands._ends import resume_command
from metaplast.commands._folders import held, own_folder
from metaplast.commands._grid import FIRST_SEED, MOST_RUNS, Done, GridOptions, check_jobs, run_grid
from metaplast.commands._options import parse
from metaplast.commands._systems import system_defaults
from metaplast.discovery.config import DiscoveryConfig
from metaplast.systems.kind import DEFAULT
from metaplast.tasks.library import all_sources
from metaplast.tasks.request import HeldOut, LabelKind
from metaplast.terms.term import Term

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --hidden, --meta-batch, --refit-batch, --shots or --processes"
TABLE = "recovery.csv"


@dataclass(frozen=True)
class _Planting(Settings):
    """The number and size of the planted rules."""

    GROUP: ClassVar[str] = "recover"

    rules: int = 20
    """How many rules to plant; rule i has seed --seed + i."""
    most_terms: int = 4
    """Each rule has between 1 and this many terms."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: if a number is out of range.
        """
        super().__post_init__()
        require_within("--rules", self.rules, 1, MOST_RUNS)
        require_within("--most-terms", self.most_terms, 1)


@dataclass(frozen=True)
class RecoverOptions(ConfigFile, _Planting, GridOptions, DiscoveryConfig):
    """Plant random rules and see whether discovery recovers their terms and coefficients.

    The options are those of a discovery, with defaults so small that a rule takes only seconds.
    """

    GROUP: ClassVar[str] = "run"
    COMMON: ClassVar[tuple[str, ...]] = (
        *("rules", "most_terms", "dataset", "terms", "system", "hidden", "episodes", "seed"),
        *("processes", "out"),
    )

    out: Path | None = None
    """Folder for the runs and the table; default: runs/recover-<time>."""
    resume: Path | None = None
    """Folder of an interrupted command to continue; its other options are reused."""
    hidden: tuple[int, ...] = (16, 12)
    """Widths of the hidden layers."""
    dataset: str = ""
    """Source of images and support labels; if empty, small synthetic classes."""
    shots: int = 10
    """Support images of each class."""
    labels: LabelKind = "remapped"
    """global: each class has its own output neuron; remapped: renumbered in each episode."""
    held_out: HeldOut = "images"
    """What the held-out test does not share with meta-training: classes or images."""
    test_episodes: int = 50
    """Held-out tasks."""
    episodes: int = 800
    """Tasks in the search."""
    meta_batch: int = 2
    """Tasks per outer step; a few suffice, because the planted rule solves every task."""
    refit: int = 400
    """Tasks in each refit without penalty; with 0, only the threshold selects terms."""
    refit_batch: int = 2
    """Tasks per outer step of a refit."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            UserError: if a value is out of range or a name unknown.
        """
        super().__post_init__()
        require_seed("--seed and --rules: the last seed", self.seed + self.rules - 1)


def supports(terms: Sequence[Term], rules: int, most: int, seed: int) -> list[tuple[str, ...]]:
    """Return the terms of random rules of 1 to `most` terms, with equally many rules of each size.

    Terms are dealt from shuffled decks of the whole pool, so every term is used before any term is
    used again. If a rule would get a term twice, that term is left for the next rule. Small rules
    come first, so that rules of one term differ.
    """
    draw = generator(seed, "supports")
    deck: list[int] = []
    chosen = []
    for size in sorted(1 + rule % most for rule in range(rules)):
        hand: list[int] = []
        while len(hand) < min(size, len(terms)):
            fresh = [k for k in deck if k not in hand]
            if not fresh:
                deck += torch.randperm(
                    len(terms), generator=draw, dtype=torch.int64, device="cpu"
                ).tolist()
                continue
            deck.remove(fresh[0])
            hand.append(fresh[0])
        chosen.append(tuple(terms[k].name for k in sorted(hand)))
    return chosen


def make_jobs(options: RecoverOptions, folder: Path) -> Jobs:
    """Return one discovery for each rule."""
    source = next(name for name, source in all_sources().items() if source.is_planting)
    base = f"@{options.dataset}" if options.dataset else ""
    rules = supports(options.choice.terms, options.rules, options.most_terms, options.seed)
    configs, entry = {}, options.entry
    if entry is None and options.choice.grows:
        # A rule grows from the error-Hebbian term, which a planted rule need not have.
        entry = 0
    for index, names in enumerate(rules):
        # The comma makes it a list of terms: a single name might be a known rule.
        config = replace(
            options.config,
            dataset=f"{source}:{','.join(names)},{base}",
            seed=options.seed + index,
            entry=entry,
        )
        configs[f"{index:02d}_{'+'.join(names)}"] = config
    return Jobs(folder, configs)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option is invalid.
    """
    given = settings_in_file(arguments, "recover")
    system = system_defaults(arguments, "recover", given.get("system", DEFAULT))
    defaults = made_from_file(RecoverOptions, arguments, "recover", **{**system, **given})
    options = parse(RecoverOptions, arguments, defaults, prog="recover", description=__doc__)
    queue = options.queue
    if options.resume is not None:
        with held(options.resume) as folder:
            jobs, saved = Jobs.load(folder)
            # A sweep plants no rules, and its results are shown differently.
            require(
                FIRST_SEED not in saved,
                f"{folder} is the folder of a sweep; continue it with "
                f"{resume_command('sweep', folder)}.",
            )
            run_grid("recover", jobs, queue, _show, data=options.json)
        return
    jobs = make_jobs(options, Path())
    check_jobs(jobs.configs, queue)
    with own_folder(options.out, "recover") as folder:
        jobs = replace(jobs, folder=folder)
        jobs.save()
        run_grid("recover", jobs, queue, _show, data=options.json)


def _show(jobs: Jobs, console: Console, done: Done) -> None:
    """Print what was recovered, and write the table."""
    console.print(recovery_overview(done))
    planted = {term for summary in done.values() for term in summary["recovery"]["rule"]}
    exact = sum(is_exact(summary) for summary in done.values())
    whole = sum(summary["recovery"]["recovered"] for summary in done.values())
    console.out(
        f"support exact: {exact} of {len(jobs.configs)}; with coefficients within 5 %: {whole}; "
        f"{len(planted)} different terms planted",
    )
    # Write the file last, so that the table is shown even if writing fails.
    write_text(jobs.folder / TABLE, table_csv(done))
    console.out(f"Results in {jobs.folder}")


def is_exact(summary: dict[str, Any]) -> bool:
    """Return whether the terms in a run's summary are exactly the planted terms."""
    return not (summary["recovery"]["missing"] or summary["recovery"]["extra"])


def recovery_overview(done: Done) -> Table:
    """Return a table of the planted rules and of how well they were recovered."""
    table = new_table("Planted rules")
    table.add_column("rule")
    table.add_column("recovered", no_wrap=True)
    table.add_column("not planted, or missing", overflow="fold")
    table.add_column("worst error", justify="right", no_wrap=True)
    for summary in done.values():
        recovery = summary["recovery"]
        wrong = [f"+{name}" for name in recovery["extra"]]
        wrong += [f"−{name}" for name in recovery["missing"]]
        table.add_row(
            recovery["equation"],
            "yes" if recovery["recovered"] else "terms" if is_exact(summary) else "no",
            ", ".join(wrong),
            f"{max(recovery['errors'].values()):.1%}",
        )
    return table


def table_csv(done: Done) -> str:
    """Return one row for each planted or found coefficient."""
    rows = []
    for name, summary in done.items():
        recovery, found = summary["recovery"], summary["rule"]
        for term in dict.fromkeys([*recovery["rule"], *found]):
            row = {"run": name, "seed": summary["seed"], "term": term}
            row |= {"theta_planted": recovery["rule"].get(term, 0.0)}
            row |= {"theta_found": found.get(term, 0.0), "error": recovery["errors"].get(term, "")}
            rows.append(row)
    return csv_text(rows)
