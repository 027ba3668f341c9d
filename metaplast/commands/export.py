"""Export a rule: as code that stands alone, as LaTeX, Markdown or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metaplast.commands._options import parse
from metaplast.errors import UserError, require
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
from metaplast.files import write_text


@dataclass(frozen=True)
class ExportOptions:
    """Export a rule; code is run and compared with the engine before it is written."""

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_RULE")]
    """Folder of a finished run, or a rule.json."""
    to: tuple[str, ...] = ()
    """One or several formats, by name; all stands for all of them."""
    output: Path | None = None
    """File, or with several formats a folder; without it standard output."""
    widths: tuple[int, ...] = ()
    """Inputs, hidden layers, classes; without it the network the rule was found in."""
    activation: str | None = None
    """Of the hidden layers; without it that of the network the rule was found in."""
    init: str | None = None
    """How the weights of the demonstration are drawn; without it as where the rule was found."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option or the rule will not do, or code differs from the engine.
    """
    options = parse(ExportOptions, arguments, prog="export", description=_description())
    exporters = _exporters(options.to)
    targets = _targets(options, exporters)
    rule = open_rule(options.source)
    network = network_of(rule, Wanted(options.widths, options.activation, options.init))
    # All are made and checked before the first is written.
    exports = [export_rule(rule, network, exporter) for exporter in exporters]
    for export, target in zip(exports, targets, strict=True):
        _write(export, target)


def _description() -> str:
    formats = "\n".join(f"- {e.name}: {e.summary}" for e in all_exporters().values())
    return f"{__doc__}\n\n{formats}"


def _exporters(names: Sequence[str]) -> list[Exporter]:
    wanted = [name.strip() for text in names for name in text.split(",") if name.strip()]
    require(
        bool(wanted),
        f"--to names no format; choose from {', '.join(all_exporters())}, or all.",
    )
    if "all" in wanted:
        return list(all_exporters().values())
    return list(dict.fromkeys(get_exporter(name) for name in wanted))


def _targets(options: ExportOptions, exporters: Sequence[Exporter]) -> list[Path | None]:
    """Return the file of each export; None stands for standard output."""
    output = options.output
    if output is None:
        return [None] * len(exporters)
    if len(exporters) == 1 and not output.is_dir():
        require(
            output.parent.is_dir(),
            f"cannot write {output}, as there is no folder {output.parent}; make it first.",
        )
        return [output]
    require(
        not output.exists() or output.is_dir(),
        f"several formats need a folder, {output} is a file; give --output a folder.",
    )
    return [output / f"rule_{exporter.name}{exporter.suffix}" for exporter in exporters]


def _write(export: Export, target: Path | None) -> None:
    name = export.exporter.name
    if export.check is not None:
        print(f"{name}: {export.check}", file=sys.stderr)
    if target is None:
        # As in a file: what is redirected must be what --output would have written.
        sys.stdout.flush()
        sys.stdout.buffer.write(export.text.encode())
        sys.stdout.buffer.flush()
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, export.text)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}; give --output a place that is writable."
        ) from None
    print(f"{name}: written to {target}", file=sys.stderr)
