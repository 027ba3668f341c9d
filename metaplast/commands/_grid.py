"""Shared by the commands that run many discoveries: limits, checks and the progress bar."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from metaplast.base.device import find_device
from metaplast.base.errors import UserError
from metaplast.batch_jobs.pool import Jobs, cores, require_ray
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.watch.progress import Work

# More runs are a typing error: each has a folder and takes at least seconds.
MOST_RUNS = 10_000
MOST_PROCESSES = 1000


def check_jobs(configs: Mapping[str, DiscoveryConfig], processes: int, ray: str | None) -> None:
    """Check workers, data, device, engine and memory before a folder is made.

    This loads the data once, so that the workers do not all download them.

    Raises:
        UserError: if one of them is missing.
    """
    if ray is not None:
        require_ray()
    # Runs of one command differ only in penalty, seed and planted rule.
    trial = Discovery(next(iter(configs.values())))
    _ = trial.split
    trial.check_memory(1 if ray else min(processes or cores(), len(configs)))


def run_all(
    jobs: Jobs, console: Console, *, processes: int, ray: str | None
) -> dict[str, dict[str, Any]]:
    """Run the remaining jobs and return the summaries of all that did not fail, by name.

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


def require_all(jobs: Jobs, good: Mapping[str, object]) -> None:
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
