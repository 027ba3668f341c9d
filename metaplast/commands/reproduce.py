"""Rerun published experiments: numbers, figures, and a verdict on each claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console
from rich.table import Table

from metaplast.base.bands import BAND
from metaplast.base.device import parse_device
from metaplast.base.errors import UserError, require, require_within
from metaplast.base.tables import new_table
from metaplast.base.words import amount
from metaplast.batch_jobs.queue import Queue
from metaplast.commands._ends import continued_by
from metaplast.commands._folders import common_folder
from metaplast.commands._grid import MOST_PROCESSES, MOST_RUNS
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse
from metaplast.reproduce.experiment import Experiment, Setting, all_experiments, get_experiment
from metaplast.reproduce.page import PAGE, number, write_page
from metaplast.reproduce.runner import Plan, Results
from metaplast.rules.rule import Rule
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --processes"
ALL = "all"
QUICK_SEEDS = 2


@dataclass(frozen=True)
class ReproduceOptions(JsonOption):
    """Rerun published experiments, and report which claims are confirmed.

    Results that are already in the folder are kept: an interrupted command continues, and more
    seeds are added to the existing ones.
    """

    GROUP: ClassVar[str] = "run"

    names: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME ...]")
    ] = ()
    """Names of experiments, or all; without a name, list them."""
    quick: bool = False
    """Run a tiny version on data that needs no files, to see in seconds that all of it works."""
    seeds: int = 0
    """Seeds of each experiment; 0 for the published number (2 with --quick)."""
    processes: int = 0
    """Number of parallel runs, one thread each; 0 for one per core."""
    ray: str | None = None
    """Address of a Ray cluster to run on; auto finds one. Its nodes share the folder."""
    data_root: Path | None = None
    """Folder with data sets; default: METAPLAST_DATA, then a cache folder."""
    device: str = "cpu"
    """cpu, or cuda for experiments that can use a GPU, which all processes then share."""
    rule: Path | None = None
    """A rule.json, for experiments on a discovered rule."""
    out: Path | None = None
    """Folder for the results; default: runs/reproduce, or runs/reproduce-quick."""

    def __post_init__(self) -> None:
        """Check the numbers and the rule.

        Raises:
            UserError: if a number is negative, or the device or the rule's file is invalid.
        """
        super().__post_init__()
        if self.rule is not None:
            Rule.load(self.rule)
        device = parse_device(self.device)
        require(
            self.ray is None or device.type == "cpu",
            f"--ray spreads runs over CPU cores, got --device {device} too; leave one of them out.",
        )
        require_within("--seeds", self.seeds, 0, MOST_RUNS)
        require_within("--processes", self.processes, 0, MOST_PROCESSES)

    @property
    def experiments(self) -> list[Experiment]:
        """The named experiments, without repetitions."""
        if ALL in self.names:
            return list(all_experiments().values())
        return list(dict.fromkeys(map(get_experiment, self.names)))

    @property
    def plan(self) -> Plan:
        """The work to do."""
        folder = self.out or Path("runs") / ("reproduce-quick" if self.quick else "reproduce")
        places = folder, self.data_root, self.rule
        if self.ray is not None:
            # The workers of a cluster start in folders of their own.
            places = folder.absolute(), _absolute(self.data_root), _absolute(self.rule)
        folder, data_root, rule = places
        setting = Setting(self.quick, data_root, rule, parse_device(self.device))
        seeds = self.seeds or (QUICK_SEEDS if self.quick else 0)
        return Plan(Results(folder, setting), self.experiments, seeds)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, the data or the folder is invalid, or a part failed.
    """
    options = parse(ReproduceOptions, arguments, prog="reproduce", description=__doc__)
    console = make_console(errors=options.json)
    if not options.names:
        if options.json:
            print_json({"experiments": _plain_list()})
        else:
            console.print(_list())
        return
    plan = options.plan
    Queue(ray=options.ray).check()
    plan.check()
    with common_folder(plan.results.folder), continued_by(console, "the same command"):
        failed = _run(console, plan, options)
        _conclude(console, plan, failed, json=options.json)
    if failed:
        name, sentence = next(iter(failed.items()))
        count = amount(len(failed), "parts")
        raise UserError(f"{count} failed, the first being {name}: {sentence}")


def _conclude(console: Console, plan: Plan, failed: dict[str, str], *, json: bool) -> None:
    """Write and show the verdicts of all experiments that are complete."""
    folder = plan.results.folder
    whole = {e.name: plan.conclude(e) for e in plan.experiments if plan.is_whole(e)}
    for experiment in plan.experiments:
        if experiment.name in whole and not json:
            console.print(_verdicts(experiment, whole[experiment.name]))
    write_page(folder)
    if json:
        print_json({"experiments": whole, "failed": failed, "folder": str(folder)})
    console.out(f"Tables, figures and {PAGE} in {folder}")


def _run(console: Console, plan: Plan, options: ReproduceOptions) -> dict[str, str]:
    unprepared, seeds = plan.missing()
    total = len(unprepared) + len(seeds)
    done = 0
    with Work(console, total) as work:
        work.name(f"0/{total} parts")

        def observe(name: str, error: str | None) -> None:
            nonlocal done
            done += 1
            work.advance(1)
            work.name(f"{done}/{total} parts")
            work.line(f"{done}/{total}  {name}{': ' + error if error else ''}")

        return plan.run(processes=options.processes, ray=options.ray, observe=observe)


def _plain_list() -> list[dict[str, str]]:
    return [
        {"name": e.name, "title": e.title, "source": e.source} for e in all_experiments().values()
    ]


def _list() -> Table:
    table = new_table("Experiments")
    for column in ("name", "what", "published in"):
        table.add_column(column, overflow="fold")
    for experiment in all_experiments().values():
        table.add_row(experiment.name, experiment.title, experiment.source)
    return table


def _verdicts(experiment: Experiment, summary: dict[str, Any]) -> Table:
    table = new_table(
        f"{experiment.name}: {experiment.title} ({experiment.source}), {summary['seeds']} seeds"
    )
    table.add_column("claim", overflow="fold")
    for column in ("true if", f"measured [{BAND}]", "agree", "verdict"):
        table.add_column(column)
    for verdict in summary["verdicts"]:
        agree = f"{verdict['agree']} of {verdict['seeds']}"
        table.add_row(
            verdict["claim"], verdict["criterion"], number(verdict), agree, verdict["outcome"]
        )
    return table
