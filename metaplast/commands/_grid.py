"""What commands that run many discoveries share: folder, workers, one display of progress."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from metaplast.config import DiscoveryConfig
from metaplast.device import find_device
from metaplast.discovery import Discovery
from metaplast.errors import UserError, require
from metaplast.jobs import Jobs, cores, require_ray
from metaplast.progress import Work

# More runs than these are a slip of the finger: each has a folder, and takes seconds or more.
MOST_RUNS = 10_000
MOST_PROCESSES = 1000


def check_workers(processes: int, ray: str | None) -> None:
    """Refuse workers that cannot be, before anything is made.

    Raises:
        UserError: if their number is negative, or Ray is not installed.
    """
    require(processes >= 0, f"--processes must not be negative, got {processes}.")
    if ray is not None:
        require_ray()


def check_jobs(configs: Mapping[str, DiscoveryConfig], processes: int, ray: str | None) -> None:
    """Refuse discoveries whose data, engine or memory is not there, before a folder is made.

    The data are loaded here once, so that a download happens once.

    Raises:
        UserError: if one of them is not there.
    """
    # Runs of one command differ in penalty, seed and planted rule.
    trial = Discovery(next(iter(configs.values())))
    _ = trial.split
    trial.check_memory(1 if ray else min(processes or cores(), len(configs)))


def run_all(
    jobs: Jobs, console: Console, *, processes: int, ray: str | None
) -> dict[str, dict[str, Any]]:
    """Run the jobs that are left and return the summaries of all that did not fail, by name.

    Raises:
        UserError: if every job failed, or this machine lacks a device.
    """
    if ray is None:
        for device in sorted({config.device for config in jobs.configs.values()}):
            find_device(device)
    count = len(jobs.configs)
    work = Work(console, count, width=len(f"{count}/{count} runs"))
    ended: dict[str, dict[str, Any]] = {}

    def tick() -> None:
        work.settle(sum(1.0 if name in ended else jobs.fraction(name) for name in jobs.configs))
        work.name(f"{len(ended)}/{count} runs")

    with work:
        tick()
        for name, summary in jobs.run(processes=processes, ray=ray, tick=tick):
            ended[name] = summary
            tick()
            verdict = summary.get("error") or _outcome(summary)
            work.line(f"{len(ended)}/{count}  {name}: {verdict}")
    good = {name: ended[name] for name in jobs.configs if "error" not in ended[name]}
    if not good:
        first = next(iter(ended.values()))["error"].rstrip(".")
        raise UserError(
            f"every run failed, the first with: {first}; --resume "
            f"{shlex.quote(str(jobs.folder))} tries them again."
        )
    return good


def require_all(jobs: Jobs, good: Mapping[str, object]) -> None:
    """Raise `UserError` if a job is not among those that did not fail."""
    bad = [name for name in jobs.configs if name not in good]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(jobs.configs)} runs failed, {bad[0]} first; the reasons stand "
            f"above, and --resume {shlex.quote(str(jobs.folder))} tries them again."
        )


def _outcome(summary: dict[str, Any]) -> str:
    accuracy = 100 * next(iter(summary["heldout"].values()))["mean"]
    kept = ", ".join(summary["kept"]) or "no term"
    return f"{accuracy:.1f} %, {kept} ({summary['seconds']:.0f} s)"
