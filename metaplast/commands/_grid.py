"""What commands that run many discoveries share: folder, workers, one display of progress."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from metaplast.device import find_device
from metaplast.errors import UserError, require
from metaplast.jobs import Jobs
from metaplast.progress import Work

# More runs than these are a slip of the finger: each has a folder, and takes seconds or more.
MOST_RUNS = 10_000
MOST_PROCESSES = 1000


def run_all(
    jobs: Jobs, console: Console, *, processes: int, ray: str | None
) -> dict[str, dict[str, Any]]:
    """Run the jobs that are left and return the summaries of all that did not fail, by name.

    Raises:
        UserError: if every job failed, or this machine lacks a device.
    """
    require(processes >= 0, f"--processes must not be negative, got {processes}.")
    if ray is None:
        for device in sorted({config.device for config in jobs.configs.values()}):
            find_device(device)
    count = len(jobs.configs)
    work = Work(console, count, width=len(f"{count}/{count} runs"))
    ended: dict[str, dict[str, Any]] = {}

    def tick() -> None:
        work.settle(sum(1.0 if name in ended else jobs.fraction(name) for name in jobs.configs))
        work.name(f"{len(ended)}/{count} runs")

    try:
        with work:
            tick()
            for name, summary in jobs.run(processes=processes, ray=ray, tick=tick):
                ended[name] = summary
                tick()
                verdict = summary.get("error") or _outcome(summary)
                work.line(f"{len(ended)}/{count}  {name}: {verdict}")
    except KeyboardInterrupt:
        console.out(f"Interrupted. Go on with:  --resume {shlex.quote(str(jobs.folder))}")
        raise
    good = {name: ended[name] for name in jobs.configs if "error" not in ended[name]}
    if not good:
        raise UserError(f"every run failed; the first: {next(iter(ended.values()))['error']}")
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
