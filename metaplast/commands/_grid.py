"""Limits, checks and the progress bar of the commands that run many discoveries."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.console import Console

from metaplast.base.device import find_device
from metaplast.base.errors import UserError, require_within
from metaplast.batch_jobs.jobs import Jobs
from metaplast.batch_jobs.queue import Queue
from metaplast.commands._ends import continued_by, resume_command
from metaplast.commands._json import JsonOption, print_json
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_folder import RULE
from metaplast.rules.rule import Rule
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

# More runs are probably a typo: each has its own folder and takes at least seconds.
MOST_RUNS = 10_000
MOST_PROCESSES = 1000
# The option that a sweep saves with its jobs.
FIRST_SEED = "first_seed"

# The summaries of the jobs that did not fail, by name.
Done = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class GridOptions(JsonOption):
    """The options of commands that run many discoveries."""

    GROUP: ClassVar[str] = "run"

    processes: int = 0
    """Number of parallel runs, one thread each; 0 for one per core."""
    ray: str | None = None
    """Address of a Ray cluster to run on; auto finds one."""

    def __post_init__(self) -> None:
        """Check the number of processes.

        Raises:
            UserError: if the number is out of range.
        """
        super().__post_init__()
        require_within("--processes", self.processes, 0, MOST_PROCESSES)

    @property
    def queue(self) -> Queue:
        """The queue that computes the runs."""
        return Queue(self.processes, self.ray)


def check_jobs(configs: Mapping[str, DiscoveryConfig], queue: Queue) -> None:
    """Check workers, data, device, engine and memory before a folder is made.

    This loads the data once, so that the workers do not all download them.

    Raises:
        UserError: if one of these is missing, or there is not enough memory.
    """
    queue.check()
    # Runs of one command differ only in penalty, seed and planted rule.
    trial = Discovery(next(iter(configs.values())))
    _ = trial.split
    trial.check_memory(queue.at_once(len(configs)))


def run_grid(
    command: str,
    jobs: Jobs,
    queue: Queue,
    show: Callable[[Jobs, Console, Done], None],
    *,
    data: bool = False,
) -> None:
    """Run the remaining jobs of a command, and show those that did not fail.

    Args:
        command: the name of the command, for the message that says how to continue.
        jobs: all jobs of the command.
        queue: computes the jobs.
        show: prints the results and writes the tables.
        data: whether to print the results as JSON too, and everything else on standard error.

    Raises:
        UserError: if a job failed, or this machine lacks a device.
    """
    console = make_console(errors=data)
    with continued_by(console, resume_command(command, jobs.folder)):
        done = _run_all(jobs, console, queue)
        show(jobs, console, done)
    if data:
        rule = jobs.folder / RULE
        chosen = {"rule": Rule.load(rule).to_json()} if rule.exists() else {}
        print_json({"folder": str(jobs.folder), "runs": done, **chosen})
    _require_all(jobs, done)


def _run_all(jobs: Jobs, console: Console, queue: Queue) -> Done:
    """Run the remaining jobs; raise `UserError` if every job failed."""
    if queue.ray is None:
        for device in sorted({config.device for config in jobs.configs.values()}):
            find_device(device)
    count = len(jobs.configs)
    work = Work(console, count, width=len(f"{count}/{count} runs"))
    ended: Done = {}

    def tick() -> None:
        work.set_done(sum(1.0 if name in ended else jobs.fraction(name) for name in jobs.configs))
        work.name(f"{len(ended)}/{count} runs")

    with work:
        tick()
        for name, summary in jobs.run(processes=queue.processes, ray=queue.ray, tick=tick):
            ended[name] = summary
            tick()
            verdict = summary.get("error") or _outcome(summary, jobs.configs[name])
            work.line(f"{len(ended)}/{count}  {name}: {verdict}")
    good = {name: ended[name] for name in jobs.configs if "error" not in ended[name]}
    if not good:
        first = next(iter(ended.values()))["error"].rstrip(".")
        raise UserError(
            f"every run failed, the first with: {first}; --resume "
            f"{shlex.quote(str(jobs.folder))} tries them again."
        )
    return good


def _require_all(jobs: Jobs, good: Mapping[str, object]) -> None:
    """Raise `UserError` if a job is not in `good`, the jobs that did not fail."""
    bad = [name for name in jobs.configs if name not in good]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(jobs.configs)} runs failed, the first being {bad[0]}; the reasons "
            f"are shown above, and --resume {shlex.quote(str(jobs.folder))} tries them again."
        )


def _outcome(summary: dict[str, Any], config: DiscoveryConfig) -> str:
    score = next(iter(summary["heldout"].values()))["mean"]
    kept = ", ".join(summary["kept"]) or "no term"
    return f"{config.score_objective.score_scale.text(score)}, {kept} ({summary['seconds']:.0f} s)"
