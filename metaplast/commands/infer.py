"""Infer the plasticity rule that made recordings of activity or choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from metaplast.base.errors import UserError, require
from metaplast.base.settings import part
from metaplast.commands._ends import continued_by, resume_command
from metaplast.commands._folders import held, own_folder
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse
from metaplast.recordings.files import read_recording, require_format
from metaplast.recordings.inference import infer
from metaplast.recordings.inference_settings import InferenceSettings
from metaplast.recordings.journal import KeptJournal, digest, unfinished
from metaplast.recordings.recording import Recording
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
    resume: Path | None = None
    """Folder of an interrupted inference to continue; its files and options are reused."""
    quiet: bool = False
    """Print only the results."""

    @property
    def settings(self) -> InferenceSettings:
        """The settings of the inference.

        Raises:
            UserError: if a setting is invalid.
        """
        return part(InferenceSettings, self)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, a file or the folder is invalid.
    """
    options = parse(InferOptions, arguments, prog="infer", description=__doc__)
    if options.resume is not None:
        _resume(options, options.resume)
        return
    require(
        bool(options.recordings), "infer needs recordings; write metaplast infer FILE [FILE …]."
    )
    settings = options.settings
    recordings = _read(options.recordings)
    with own_folder(options.out, "infer") as folder:
        begun = KeptJournal.begin(folder, options.recordings, recordings, asdict(settings))
        _infer(recordings, settings, begun, folder, options)


def _resume(options: InferOptions, resumed: Path) -> None:
    """Continue an interrupted inference."""
    require(
        not options.recordings and options.out is None,
        "--resume continues with the files and in the folder of its inference; leave out other "
        "files and --out.",
    )
    with held(resumed) as folder:
        known, given = unfinished(folder)
        recordings = _read([path for path, _ in known])
        for (path, before), recording in zip(known, recordings, strict=True):
            require(
                digest(recording) == before,
                f"{path} has changed since the inference began; begin again without --resume.",
            )
        _infer(recordings, _settings(given, folder), KeptJournal(folder), folder, options)


def _settings(given: dict[str, Any], folder: Path) -> InferenceSettings:
    try:
        return InferenceSettings(**given)
    except TypeError:
        raise UserError(
            f"the inference in {folder} was begun by another version of metaplast; begin again "
            f"without --resume."
        ) from None


def _read(paths: Sequence[str]) -> list[Recording]:
    for path in paths:
        require_format(path)
    _require_different(paths)
    return [read_recording(path) for path in paths]


def _infer(
    recordings: Sequence[Recording], settings: InferenceSettings, journal: KeptJournal,
    folder: Path, options: InferOptions,
) -> None:  # fmt: skip
    """Make an inference in its folder, new or resumed, and show the result."""
    console = make_console(errors=options.json)
    with continued_by(console, resume_command("infer", folder)):
        try:
            with Work(console, 1, quiet=options.quiet) as work:
                found = infer(recordings, settings, told=work.name, journal=journal)
        except UserError:
            # A resumed inference would fail again.
            journal.remove()
            raise
        _finish(found, folder, console, options)
        journal.remove()


def _require_different(paths: Sequence[str]) -> None:
    """Refuse a file that is given twice: its noise would count as two independent samples."""
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
