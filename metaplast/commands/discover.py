"""Discover a plasticity rule: search, prune, refit, test on held-out tasks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from metaplast.commands._options import parse, parse_known
from metaplast.config import PRESETS, DiscoveryConfig
from metaplast.console import ProgressBar, library_tables, make_console, show_config, show_result
from metaplast.discovery import Discovery
from metaplast.errors import require
from metaplast.files import new_folder
from metaplast.library import all_terms, known_rules
from metaplast.outputs import RunFiles
from metaplast.report.observer import ReportFiles
from metaplast.run_config import write_config
from metaplast.tracking import FOLDER, TensorBoard

PresetName = Literal["default", "paper"]


@dataclass(frozen=True)
class DiscoverOptions(DiscoveryConfig):
    """Discover a plasticity rule and test it on held-out tasks."""

    preset: PresetName = "default"
    """paper pins the published outer loop; options given by hand win."""
    out: Path | None = None
    """Folder for the results; without it runs/<time>."""
    resume: Path | None = None
    """Folder of an interrupted run to go on with; other options are taken from it."""
    checkpoint_seconds: float = 20.0
    """Longest time between checkpoints."""
    quiet: bool = False
    """Print nothing but the result."""
    list_terms: bool = False
    """Print the term library and the known rules, and stop."""


@dataclass(frozen=True)
class _PresetOnly:
    """Reads --preset before all else, since it changes the other options' defaults."""

    preset: PresetName = "default"


def read_options(arguments: Sequence[str]) -> DiscoverOptions:
    """Return the options of the command line, those of the preset where none are given."""
    # Help, and completion for a shell, are about all options.
    wanted = [a for a in arguments if a not in ("-h", "--help")]
    completes = bool(arguments) and arguments[0].startswith("--tyro-")
    early, _ = parse_known(_PresetOnly, [] if completes else wanted, prog="discover")
    defaults = DiscoverOptions(preset=early.preset, **PRESETS[early.preset])
    return parse(DiscoverOptions, arguments, default=defaults, prog="discover", description=__doc__)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, the data or a folder will not do.
    """
    options = read_options(arguments)
    console = make_console()
    if options.list_terms:
        for table in library_tables(all_terms().values(), known_rules().values()):
            console.print(table)
        return
    require(
        options.checkpoint_seconds >= 0,
        f"--checkpoint-seconds must not be negative, got {options.checkpoint_seconds}.",
    )
    discovery, bar = _prepare(options, console)
    if not options.quiet:
        show_config(console, discovery)
    try:
        result = discovery.run()
    except KeyboardInterrupt:
        bar.close()
        resume = f"--resume {shlex.quote(str(discovery.folder))}"
        console.out(f"Interrupted. Go on with:  {resume}")
        raise
    finally:
        bar.close()
    show_result(console, result)
    if not options.quiet:
        folder = discovery.folder
        logs = shlex.quote(f"{folder}/{FOLDER}")
        console.out(f"Results in {folder}, with report.html; θ in detail:  "
                    f"tensorboard --logdir {logs}")  # fmt: skip


def _prepare(options: DiscoverOptions, console: Console) -> tuple[Discovery, ProgressBar]:
    """Return the discovery, new or resumed, with everyone who watches it."""
    bar = ProgressBar(console, quiet=options.quiet)
    resumed = options.resume
    trial = None
    if resumed is None:
        # Data and engine first: a mistake there should leave no folder behind.
        trial = Discovery(options.config)
        _ = trial.engine
    folder = resumed or new_folder(options.out)
    # The report reads what RunFiles writes.
    observers = (bar, RunFiles(folder), TensorBoard(folder), ReportFiles(folder, console))
    every = options.checkpoint_seconds
    if trial is None:
        return Discovery.resume(folder, observers=observers, checkpoint_seconds=every), bar
    write_config(folder, options.config)
    return trial.placed(folder, observers=observers, checkpoint_seconds=every), bar
