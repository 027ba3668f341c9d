"""Infer the plasticity rule that made recordings of activity or choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from rich.console import Console

from metaplast.base.errors import require
from metaplast.base.settings import part
from metaplast.commands._ends import continued_by
from metaplast.commands._folders import own_folder
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse
from metaplast.recordings.files import read_recording, require_format
from metaplast.recordings.inference import infer
from metaplast.recordings.inference_settings import InferenceSettings
from metaplast.recordings.result import Inference
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

# What lowers the memory that this command needs.
LESS_MEMORY = "name fewer candidates with --terms, or cut the files into shorter trials"


@dataclass(frozen=True)
class InferOptions(JsonOption, InferenceSettings):
    """Infer the plasticity rule that made recordings of activity or choices.

    The network is one layer, y = f(W x); docs/recordings.md describes the files.
    """

    GROUP: ClassVar[str] = "run"

    recordings: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FILE ...]")
    ] = ()
    """Recordings: .npz, .h5, .csv or .nwb files, one for each animal or session."""
    out: Path | None = None
    """Folder for the report, the rule and the numbers; default: runs/infer-<time>."""
    quiet: bool = False
    """Print only the results."""

    @property
    def settings(self) -> InferenceSettings:
        """The settings of the inference.

        Raises:
            UserError: if one is invalid.
        """
        return part(InferenceSettings, self)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, a file or the folder is invalid.
    """
    options = parse(InferOptions, arguments, prog="infer", description=__doc__)
    require(
        bool(options.recordings), "infer needs recordings; write metaplast infer FILE [FILE …]."
    )
    settings, console = options.settings, make_console(errors=options.json)
    for path in options.recordings:
        require_format(path)
    _require_different(options.recordings)
    recordings = [read_recording(path) for path in options.recordings]
    with (
        own_folder(options.out, "infer", resumable=False) as folder,
        continued_by(console, "the same command", "Nothing was kept."),
    ):
        with Work(console, 1, quiet=options.quiet) as work:
            found = infer(recordings, settings, told=work.name)
        _finish(found, folder, console, options)


def _require_different(paths: Sequence[str]) -> None:
    """Refuse a file that is given twice: its noise would count as independent of itself."""
    seen: set[Path] = set()
    for path in paths:
        place = Path(path).resolve()
        require(place not in seen, f"the file {path} is given twice; give each file once.")
        seen.add(place)


def _finish(found: Inference, folder: Path, console: Console, options: InferOptions) -> None:
    from metaplast.report.inferred import show, write_files

    page = write_files(found, folder)
    if options.json:
        print_json(found.to_json() | {"folder": str(folder)})
    else:
        show(found, console)
    if not options.quiet:
        console.out(f"Report: {page}")
