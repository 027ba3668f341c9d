"""Many discoveries at once, each in its own folder: on this machine's cores or on Ray.

A folder of jobs holds `jobs.json` and one run folder per job. A finished job has a `job.json`. An
interrupted job continues from its checkpoint, so a command that is restarted in the same folder
does only the remaining work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaplast.base.errors import UserError, require
from metaplast.base.files import read_json, read_json_in, write_json
from metaplast.base.locks import locked
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.plain_data import DataError, check
from metaplast.batch_jobs.queue import Answer, Answers, ProgressFile, Queue, Tick, no_tick
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.observer import Observer
from metaplast.discovery.result import Result
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_checks import check_summary
from metaplast.discovery.run_config import config_digest
from metaplast.discovery.run_folder import SUMMARY, RunFiles
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.tasks.digest import SHOWN, plain_digest
from metaplast.watch.estimate import TimeLeft

JOBS = "jobs.json"
# A job's summary and the entries of `Jobs.extra`; written last, so it marks the job as finished.
DONE = "job.json"
# The entry of `DONE` that shows whether the file was changed.
SEAL = "seal"

# Returns entries to add to a job's summary.
Extra = Callable[[Result], dict[str, Any]]


@dataclass(frozen=True)
class Jobs:
    """Discoveries to run, and their folder.

    Attributes:
        folder: holds one run folder for each job.
        configs: the discoveries to run, by name; the name becomes the folder's.
        extra: a module-level function of a result, whose entries are added to the job's summary.
    """

    folder: Path
    configs: Mapping[str, DiscoveryConfig]
    extra: Extra | None = None

    def __post_init__(self) -> None:
        """Accept the folder as text too."""
        object.__setattr__(self, "folder", as_path(self.folder, "folder"))

    def save(self, **options: Any) -> None:
        """Write `jobs.json`, with the options of the command beside the configurations."""
        data = {name: config.to_json() for name, config in self.configs.items()}
        write_json(self.folder / JOBS, {"options": options, "jobs": data})

    @classmethod
    def load(cls, folder: AnyPath, extra: Extra | None = None) -> tuple[Jobs, dict[str, Any]]:
        """Return the jobs in a folder, and the options that `save` wrote.

        Raises:
            UserError: if the folder holds no jobs, or its file is damaged.
        """
        folder = as_path(folder, "folder")
        give = "--resume the folder that an earlier command wrote"
        data = read_json_in(folder, JOBS, "the jobs of a command", "jobs", give)
        try:
            configs = {
                name: DiscoveryConfig.from_json(config) for name, config in data["jobs"].items()
            }
            options = dict(data["options"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder / JOBS} is damaged ({error}); start the command again in a new folder."
            ) from None
        require(
            bool(configs),
            f"{folder / JOBS} is damaged (it has no jobs); start the command again in a new "
            f"folder.",
        )
        for name in configs:
            require(
                Path(name).name == name and name not in ("", ".."),
                f"{folder / JOBS} is damaged (a job cannot have a folder called {name!r}); start "
                f"the command again in a new folder.",
            )
        return cls(folder, configs, extra), options

    def fraction(self, name: str) -> float:
        """Return how much of a job is done, from 0 to 1, according to its folder."""
        if (self.folder / name / DONE).exists():
            return 1.0  # A quick job may end between two reports of its progress.
        return ProgressFile(self.folder / name).fraction()

    def run(self, *, processes: int = 0, ray: str | None = None, tick: Tick = no_tick) -> Answers:
        """Yield each job's name and summary as it ends; a job that failed has an "error".

        The summaries of jobs that an earlier command finished come first.

        Args:
            processes: how many in parallel; 0 for one per core. Each uses one thread.
            ray: address of a Ray cluster to run on instead; "auto" finds one.
            tick: called now and then while jobs run.

        Raises:
            UserError: if a worker dies, or Ray is not available.
        """
        calls = {}
        for name, config in self.configs.items():
            place = self.folder / name
            if (place / DONE).exists():
                yield name, self._finished(name)
            else:
                calls[name] = (config.to_json(), str(place.resolve()), self.extra)
        yield from Queue(processes, ray).run(run_job, calls, tick)

    def _finished(self, name: str) -> Answer:
        """Return the summary of a finished job."""
        done = self.folder / name / DONE
        summary = read_json(done, "the summary of a job")
        try:
            check_summary(summary)
            seal = summary.pop(SEAL, None)  # Earlier versions wrote none.
            check(seal in (None, _seal(summary)), "it was changed")
        except DataError as error:
            raise UserError(f"{done} is damaged ({error}); delete it to repeat the job.") from None
        require(
            summary.get("config") in (None, config_digest(self.configs[name])),
            f"{self.folder / JOBS} was changed after {name} was done; put it back, or start the "
            f"command again in a new folder.",
        )
        found: Answer = summary
        return found


class Heartbeat(Observer):
    """Writes the progress of a discovery to its folder, for the process that waits for it.

    Args:
        folder: the folder of the discovery.
        seconds: least time between two writes.
    """

    def __init__(self, folder: AnyPath, seconds: float = 2.0) -> None:
        self._file = ProgressFile(folder, seconds)
        self._left = TimeLeft()

    def begin(self, discovery: Discovery) -> None:
        """Count the episodes that earlier parts of the run have done."""
        self._left.begin(discovery)
        self._beat()

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Count the episodes of one outer step."""
        self._left.record(loop, record)
        self._beat()

    def tested(self, name: str, episodes: int) -> None:
        """Count some tested episodes."""
        self._left.tested(name, episodes)
        self._beat()

    def _beat(self) -> None:
        self._file.write(self._left.done, self._left.total)


def run_job(config: dict[str, Any], folder: str, extra: Extra | None) -> dict[str, Any]:
    """Run or continue a discovery, and return its summary.

    Args:
        config: as `DiscoveryConfig.to_json` gives it.
        folder: the folder of the run.
        extra: see `Jobs`.
    """
    place = Path(folder)
    observers: list[Observer] = [RunFiles(place), Heartbeat(place)]
    # A worker of a command that was just killed may still hold the lock.
    with locked(place, patience=10.0, make=True):
        begun = Discovery.in_folder(DiscoveryConfig.from_json(config), place, observers=observers)
        result = begun.run()
        done: dict[str, Any] = read_json(place / SUMMARY, "the summary of a run")
        done |= {} if extra is None else extra(result)
        write_json(place / DONE, done | {SEAL: _seal(done)})
    return done


def _seal(summary: Mapping[str, Any]) -> str:
    """Return a digest of a job's summary, which shows changes of the file."""
    return plain_digest("job", summary)[:SHOWN]
