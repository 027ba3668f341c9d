"""Discover a plasticity rule: search, prune, refit, test on held-out tasks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from rich.console import Console

from metaplast.base.errors import require
from metaplast.base.settings import Settings
from metaplast.base.workers import Workers
from metaplast.batch_jobs.ray_cluster import ray_workers
from metaplast.commands._config_file import (
    ConfigFile,
    made_from_file,
    save_config,
    settings_in_file,
)
from metaplast.commands._ends import continued_by, resume_command
from metaplast.commands._folders import held, own_folder
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse, parse_early
from metaplast.commands._systems import system_defaults
from metaplast.discovery.config import PRESETS, DiscoveryConfig
from metaplast.discovery.observer import Observer
from metaplast.discovery.result import Result
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_config import write_config
from metaplast.discovery.run_folder import RunFiles
from metaplast.discovery.stages import require_interval
from metaplast.discovery.summary import summary
from metaplast.report.observer import ReportFiles
from metaplast.systems.constraint import all_constraints
from metaplast.systems.feedback import all_feedbacks
from metaplast.systems.kind import DEFAULT, all_systems
from metaplast.terms.library import all_terms, known_rules, pools
from metaplast.watch.console import (
    ProgressBar,
    make_console,
    show_config,
    show_result,
)
from metaplast.watch.library_tables import library_tables, pool_table
from metaplast.watch.tensorboard import FOLDER, TensorBoard

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --hidden, --meta-batch, --refit-batch or --shots"
PresetName = Literal["default", "paper"]


@dataclass(frozen=True)
class _Preset(Settings):
    """The option --preset, which is read first because it changes the defaults of others."""

    GROUP: ClassVar[str] = "search"

    preset: PresetName = "default"
    """paper selects the published outer loop; options given explicitly override it."""


@dataclass(frozen=True)
class DiscoverOptions(JsonOption, ConfigFile, _Preset, DiscoveryConfig):
    """Discover a plasticity rule and test it on held-out tasks."""

    GROUP: ClassVar[str] = "run"
    COMMON: ClassVar[tuple[str, ...]] = (
        *("dataset", "terms", "system", "objective", "ways", "shots", "hidden"),
        *("episodes", "config_file", "out"),
    )

    out: Path | None = None
    """Folder for the results; default: runs/<time>."""
    save_config: Path | None = None
    """Write all settings to this TOML file, for --config, then exit."""
    resume: Path | None = None
    """Folder of an interrupted run to continue; its other options are reused."""
    quiet: bool = False
    """Print only the result."""
    checkpoint_seconds: float = 20.0
    """Longest time between checkpoints, in seconds."""
    ray: str | None = None
    """Address of a Ray cluster that unrolls the tasks; auto finds one."""
    list_terms: bool = False
    """Print the term library, the known rules and the pools, then exit."""


def read_options(arguments: Sequence[str]) -> DiscoverOptions:
    """Return the options of the command line; preset, system and file change the defaults."""
    given = settings_in_file(arguments, "discover", ("preset",))
    filed = _Preset(given.pop("preset", "default"))
    preset = parse_early(_Preset, arguments, "discover", filed).preset
    system = system_defaults(arguments, "discover", given.get("system", DEFAULT))
    own = {**system, **PRESETS[filed.preset], **given}
    if preset != filed.preset:
        own |= PRESETS[preset]
    defaults = made_from_file(DiscoverOptions, arguments, "discover", preset=preset, **own)
    return parse(
        DiscoverOptions, arguments, default=defaults, prog="discover", description=_description()
    )


def _description() -> str:
    """Return the description for the help: what the command does, and the names it takes."""
    parts = [__doc__ or ""]
    listed: tuple[tuple[str, Mapping[str, _Summarised]], ...] = (
        ("Systems", all_systems()),
        ("Feedbacks", all_feedbacks()),
        ("Constraints on weights", all_constraints()),
    )
    for head, found in listed:
        items = "\n".join(f"- {name}: {each.summary}" for name, each in found.items())
        parts.append(f"{head}:\n{items}")
    return "\n\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, the data or a folder is invalid.
    """
    options = read_options(arguments)
    if options.save_config is not None:
        save_config(options.save_config, options.config)
        return
    console = make_console(errors=options.json)
    if options.list_terms:
        tables = library_tables(all_terms().values(), known_rules().values())
        for table in (*tables, pool_table(pools().values())):
            console.print(table)
        return
    require_interval("--checkpoint-seconds", options.checkpoint_seconds)
    resumed, trial = options.resume, None
    require(
        resumed is None or options.config_file is None,
        "--resume continues with the settings of its run, so --config has no effect; leave it out.",
    )
    if resumed is None:
        # Check data, engine and memory first, so that an error leaves no folder behind.
        trial = Discovery(options.config)
        _ = trial.engine
        trial.check_memory()
    with (
        ray_workers(options.ray) as workers,
        held(resumed) if resumed is not None else own_folder(options.out) as folder,
    ):
        _discover(options, console, folder, trial, workers)


def _discover(
    options: DiscoverOptions, console: Console, folder: Path, trial: Discovery | None,
    workers: Workers | None,
) -> None:  # fmt: skip
    """Run a discovery in its folder, new or resumed, and show the result."""
    bar, last = ProgressBar(console, quiet=options.quiet), _LastResult()
    try:
        with continued_by(console, resume_command("discover", folder)):
            try:
                result = _run(options, console, folder, trial, [last, bar], workers)
            finally:
                bar.close()
    except BaseException:
        if last.result is not None:
            # Some files could not be written, so this may be the only copy of the result.
            show_result(console, last.result)
        raise
    if options.json:
        print_json(summary(result) | {"folder": str(folder)})
    else:
        show_result(console, result)
    if not options.quiet:
        logs = shlex.quote(f"{folder}/{FOLDER}")
        console.out(f"Results in {folder}, with report.html; θ over time:  "
                    f"tensorboard --logdir {logs}")  # fmt: skip


def _run(
    options: DiscoverOptions,
    console: Console,
    folder: Path,
    trial: Discovery | None,
    watching: Sequence[Observer],
    workers: Workers | None,
) -> Result:
    """Run the discovery with all its observers."""
    # The report reads what RunFiles writes.
    files = (RunFiles(folder), TensorBoard(folder), ReportFiles(folder, console))
    every = options.checkpoint_seconds
    shared: dict[str, Any] = {
        "observers": (*watching, *files), "checkpoint_seconds": every, "workers": workers,
    }  # fmt: skip
    if trial is None:
        discovery = Discovery.resume(folder, **shared)
    else:
        write_config(folder, options.config)
        discovery = trial.placed(folder, **shared)
    if not options.quiet:
        show_config(console, discovery)
    return discovery.run()


class _Summarised(Protocol):
    """An item that the help lists."""

    @property
    def summary(self) -> str:
        """One line."""


class _LastResult(Observer):
    """Remembers the result, even if its files cannot be written."""

    def __init__(self) -> None:
        self.result: Result | None = None

    def finish(self, result: Result) -> None:
        """Remember the result."""
        self.result = result
