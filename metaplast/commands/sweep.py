"""Discover over a grid of penalties and seeds, in parallel, and recommend a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console
from rich.table import Table

from metaplast.base.bands import BAND
from metaplast.base.errors import require, require_seed, require_within, shown
from metaplast.base.files import write_text
from metaplast.base.settings import Settings
from metaplast.base.tables import new_table
from metaplast.base.words import amount
from metaplast.batch_jobs.jobs import Jobs
from metaplast.batch_jobs.over_seeds import Range, over_seeds
from metaplast.batch_jobs.sweep import (
    Candidate,
    Run,
    candidates,
    frequencies,
    judge,
    recommend,
    runs_csv,
    terms_csv,
)
from metaplast.commands._config_file import ConfigFile, made_from_file, settings_in_file
from metaplast.commands._folders import held, own_folder
from metaplast.commands._grid import FIRST_SEED, MOST_RUNS, Done, GridOptions, check_jobs, run_grid
from metaplast.commands._options import parse
from metaplast.commands._systems import system_defaults
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run_folder import RULE
from metaplast.meta.settings import OuterSettings
from metaplast.rules.rule import Rule
from metaplast.systems.kind import DEFAULT

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --hidden, --meta-batch, --refit-batch, --shots or --processes"
RUNS, TERMS, FIGURE = "runs.csv", "terms.csv", "sweep.png"


@dataclass(frozen=True)
class _EachRun(DiscoveryConfig):
    """The options shared by all runs of the grid."""

    # These are options of the grid, not of a single run.
    l1: Annotated[float | None, tyro.conf.Suppress] = None
    seed: Annotated[int, tyro.conf.Suppress] = 0


@dataclass(frozen=True)
class _Grid(Settings):
    """The runs of the grid."""

    GROUP: ClassVar[str] = "sweep"

    l1: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """Penalties, separated by commas."""
    seeds: int = 5
    """Number of seeds for each penalty."""
    first_seed: int = 0
    """The first seed; the others follow it."""

    def __post_init__(self) -> None:
        """Check the grid.

        Raises:
            UserError: if the grid is empty or too large, or a penalty occurs twice or is out of
                range.
        """
        super().__post_init__()
        require(
            0 < len(set(self.l1)) == len(self.l1),
            f"--l1 takes different penalties with commas, such as 0.03,0.1, got "
            f"{shown(','.join(map(str, self.l1)))}.",
        )
        for l1 in self.l1:
            OuterSettings(l1=l1)
        require_within("--seeds", self.seeds, 1, MOST_RUNS // len(self.l1))
        require_seed("--first-seed", self.first_seed)
        require_seed("--first-seed and --seeds: the last seed", self.first_seed + self.seeds - 1)


@dataclass(frozen=True)
class SweepOptions(ConfigFile, _Grid, GridOptions):
    """Discover over a grid of penalties and seeds, in parallel, and recommend a rule.

    All other options are those of a discovery.
    """

    GROUP: ClassVar[str] = "run"
    COMMON: ClassVar[tuple[str, ...]] = (
        *("l1", "seeds", "dataset", "terms", "ways", "shots", "hidden", "episodes"),
        *("processes", "out"),
    )

    out: Path | None = None
    """Folder for the runs, tables and figure; default: runs/sweep-<time>."""
    resume: Path | None = None
    """Folder of an interrupted sweep to continue; its other options are reused."""
    run: _EachRun = field(default_factory=_EachRun)
    """Every run."""

    def configs(self) -> dict[str, DiscoveryConfig]:
        """Return one discovery for each penalty and seed; each key is a valid folder name.

        Raises:
            UserError: if a penalty or a seed is invalid.
        """
        seeds = range(self.first_seed, self.first_seed + self.seeds)
        return {
            f"l1={str(l1).removesuffix('.0')}_seed={seed}": replace(
                self.run.config, l1=l1, seed=seed
            )
            for l1 in self.l1
            for seed in seeds
        }


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option or the data are invalid.
    """
    given = settings_in_file(arguments, "sweep")
    system = system_defaults(arguments, "sweep", given.get("system", DEFAULT))
    # Penalties and seeds come from the grid.
    shared = {name: value for name, value in given.items() if name not in ("l1", "seed")}
    run = made_from_file(_EachRun, arguments, "sweep", **{**system, **shared})
    options = parse(
        SweepOptions, arguments, SweepOptions(run=run), prog="sweep", description=__doc__
    )
    queue = options.queue
    if options.resume is not None:
        with held(options.resume) as folder:
            jobs, saved = Jobs.load(folder)
            seed: Any = saved.get(FIRST_SEED)
            require(
                isinstance(seed, int),
                f"{folder} is not the folder of a sweep; give --resume the folder that metaplast "
                f"sweep wrote.",
            )
            jobs = replace(jobs, extra=partial(judge, seed=seed))
            run_grid("sweep", jobs, queue, _show, data=options.json)
        return
    configs = options.configs()
    check_jobs(configs, queue)
    with own_folder(options.out, "sweep") as folder:
        jobs = Jobs(folder, configs, partial(judge, seed=options.first_seed))
        jobs.save(**{FIRST_SEED: options.first_seed})
        run_grid("sweep", jobs, queue, _show, data=options.json)


def _show(jobs: Jobs, console: Console, done: Done) -> None:
    runs = [Run.of(name, jobs.configs[name], summary) for name, summary in done.items()]
    show(console, runs, jobs.folder)


def show(console: Console, runs: Sequence[Run], folder: Path) -> None:
    """Print and write the tables, the figure and the recommended rule."""
    # Imported here, because matplotlib is slow to load.
    from metaplast.report.sweep_figure import draw

    found = candidates(runs)
    pick = recommend(found)
    console.print()
    console.print(frequency_table(runs))
    console.print(seeds_table(runs))
    console.print(candidate_table(found, pick, len(runs)))
    rule = None if pick is None else Rule.load(folder / pick.best.name / RULE)
    if pick is None:
        console.print("No rule is recommended, because every rule diverged on some task.")
    else:
        console.print("[bold]Recommended[/bold]")
        console.out(rule)
        console.out(reason(found, pick))
    # Write the files last, so that the results are shown even if writing fails.
    if rule is not None:
        rule.save(folder / RULE)
    else:
        # An earlier part of the sweep may have recommended a rule.
        (folder / RULE).unlink(missing_ok=True)
    write_text(folder / RUNS, runs_csv(runs))
    write_text(folder / TERMS, terms_csv(runs))
    draw(runs, folder / FIGURE)
    last = "" if rule is None else f", and the rule as {RULE}"
    console.out(f"\nResults in {folder}: {RUNS}, {TERMS}, {FIGURE}{last}")


def frequency_table(runs: Sequence[Run]) -> Table:
    """Return how often each term is kept, for each penalty."""
    table = new_table("Seeds that keep a term")
    table.add_column("term", no_wrap=True)
    penalties = sorted({run.l1 for run in runs})
    for l1 in penalties:
        table.add_column(f"λ {l1:g}", justify="right")
    for name, shares in frequencies(runs).items():
        style = None if any(shares.values()) else "dim"
        table.add_row(name, *(f"{shares[l1]:.0%}" for l1 in penalties), style=style)
    return table


def seeds_table(runs: Sequence[Run]) -> Table:
    """Return a table of held-out scores, one row for each penalty."""
    scale = runs[0].scale
    groups = over_seeds(runs)
    table = new_table(
        "Held-out tasks, over seeds: median, and lowest to highest",
        caption="missed: terms whose removal lowers the score, of those that were left out",
        padding=(0, 1, 0, 0),
    )
    unit = f"\n{scale.name}, %" if scale.percent else f"\n{scale.name}"
    above = ("\n".join(["above", *name.split("_")]) for name in groups[0].above)
    for head in ("λ", f"rule{unit}", *above, "terms", "missed", "diverged\ntasks"):
        table.add_column(head, justify="right", no_wrap=True)
    for each in groups:
        table.add_row(
            f"{each.l1:g}\n{amount(each.runs, 'seeds', 'seed')}",
            _range(each.score, scale.number),
            *(_range(change, scale.number) for change in each.above.values()),
            _range(each.terms, "{:g}".format),
            f"{each.missed}/{each.tested}" if each.tested else "–",
            f"{each.diverged}",
        )
    return table


def _range(numbers: Range, number: Callable[[float], str]) -> str:
    ends = f"{number(numbers.lowest)} to {number(numbers.highest)}"
    return f"{number(numbers.median)}\n{ends}"


def candidate_table(found: Sequence[Candidate], pick: Candidate | None, total: int) -> Table:
    """Return a table of complexity and loss, one row for each set of terms."""
    # Keep these columns narrow, to leave room for the terms in 80 columns.
    table = new_table("Rules by complexity", padding=(0, 1, 0, 0))
    heads = ("com-\nplexity", "loss", f"above the\nlowest, {BAND}", "held out", "runs")
    for column in heads:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("terms", overflow="fold")
    for each in found:
        excess = "diverged"
        if each.excess is not None:
            band = each.excess
            excess = f"{band.mean:+.4f}\n[{band.low:+.4f}, {band.high:+.4f}]"
        terms = ", ".join(each.best.kept) or "none"
        table.add_row(
            f"{each.best.complexity}",
            f"{each.best.loss:.4f}",
            excess,
            each.best.scale.text(each.best.score),
            f"{each.runs}/{total}",
            f"{terms} (recommended)" if each is pick else terms,
            style="bold" if each is pick else None,
        )
    return table


def reason(found: Sequence[Candidate], pick: Candidate) -> str:
    """Return why this rule is recommended."""
    tasks = len(pick.best.losses)
    equal = sum(each.is_equal for each in found)
    least = min(found, key=lambda each: each.best.loss)
    run = (
        f"run {pick.best.name}; {pick.runs} run{'s' if pick.runs > 1 else ''} ended with its terms"
    )
    if pick is least:
        simpler = "no simpler one is as good" if found.index(pick) else "it is the simplest found"
        return f"It has the lowest loss of all on {tasks} common tasks, and {simpler} ({run})."
    return (
        f"It is the simplest of the {equal} rules whose loss on {tasks} common tasks is not above "
        f"the least by the {BAND} of the paired difference ({run})."
    )
