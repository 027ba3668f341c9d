"""Export a rule as stand-alone code, LaTeX, Markdown or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metaplast.base.errors import UserError, require
from metaplast.base.files import write_text
from metaplast.base.words import words
from metaplast.commands._options import parse
from metaplast.commands._places import require_folder, require_writable
from metaplast.discovery.run_config import CONFIG
from metaplast.discovery.run_folder import HISTORY, RULE, SUMMARY
from metaplast.discovery.stages import CHECKPOINT
from metaplast.export import (
    Export,
    Exporter,
    Wanted,
    all_exporters,
    export_rule,
    get_exporter,
    network_of,
    open_rule,
)
from metaplast.rules.rule import Rule

ALL = "all"


@dataclass(frozen=True)
class ExportOptions:
    """Export a rule; code is run and compared with the engine before it is written."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_RULE")]
    """Folder of a finished run, or a rule.json."""
    to: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME,NAME,…")] = ()
    """Names of one or more formats; all means every format."""
    output: Path | None = None
    """File, or a folder for several formats; default: standard output."""
    widths: tuple[int, ...] = ()
    """Inputs, hidden layers, outputs; default: the network in which the rule was found."""
    activation: str | None = None
    """Activation of the hidden layers; default: as in the network in which the rule was found."""
    init: str | None = None
    """How the demonstration draws its weights; default: as in the network of the rule."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option or the rule is invalid, or code differs from the engine.
    """
    options = parse(ExportOptions, arguments, prog="export", description=_description())
    exporters = _exporters(options.to)
    targets = _targets(options, exporters)
    _spare(options.source, targets)
    rule = _open(options.source)
    network = network_of(rule, Wanted(options.widths, options.activation, options.init))
    # Make and check all exports before writing the first.
    exports = [export_rule(rule, network, exporter) for exporter in exporters]
    for export, target in zip(exports, targets, strict=True):
        _write(export, target)


def _open(source: Path) -> Rule:
    try:
        return open_rule(source)
    except OSError as error:
        raise UserError(
            f"cannot read a rule from {source}: {error.strerror}; check the path and its "
            f"permissions."
        ) from None


def _description() -> str:
    formats = "\n".join(f"- {e.name}: {e.summary}" for e in all_exporters().values())
    return f"{__doc__} Formats:\n{formats}"


def _exporters(names: Sequence[str]) -> list[Exporter]:
    require(
        bool(names),
        f"--to names no format; choose from {', '.join(all_exporters())}, or all.",
    )
    wanted = [name for text in names for name in words("--to", text, "format")]
    # Look up every name, even if "all" is among them.
    chosen = dict.fromkeys(get_exporter(name) for name in wanted if name.lower() != ALL)
    is_all = any(name.lower() == ALL for name in wanted)
    return list(all_exporters().values()) if is_all else list(chosen)


def _targets(options: ExportOptions, exporters: Sequence[Exporter]) -> list[Path | None]:
    """Return the file of each export; None means standard output."""
    output = options.output
    if output is None:
        return [None] * len(exporters)
    if len(exporters) == 1 and not output.is_dir():
        require_writable("--output", output)
        return [output]
    require_folder("--output", output)
    files = [output / f"rule_{exporter.name}{exporter.suffix}" for exporter in exporters]
    if output.is_dir():
        for file in files:
            require_writable("--output", file)
    return list(files)


def _spare(source: Path, targets: Sequence[Path | None]) -> None:
    """Raise `UserError` if a file would replace the rule's own source, or another export."""
    own = [source, *(source / name for name in (RULE, CONFIG, CHECKPOINT, HISTORY, SUMMARY))]
    written: list[Path] = []
    for target in targets:
        if target is None:
            continue
        require(
            not any(_is_same(target, file) for file in own),
            f"{target} is the rule's own file or belongs to its run, and would be overwritten; "
            f"give --output another place.",
        )
        require(
            not any(_is_same(target, other) for other in written),
            f"{target} is the same file as that of another format; give --output another folder.",
        )
        written.append(target)


def _is_same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and one.samefile(other)


def _write(export: Export, target: Path | None) -> None:
    name = export.exporter.name
    if export.check is not None:
        print(f"{name}: {export.check}", file=sys.stderr)
    if target is None:
        # Write bytes, so that redirected output equals the file that --output would write.
        sys.stdout.flush()
        sys.stdout.buffer.write(export.text.encode())
        sys.stdout.buffer.flush()
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, export.text)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}; give --output a writable place."
        ) from None
    print(f"{name}: written to {target}", file=sys.stderr)
