"""Rewrite the report of a finished discovery from the files in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from metaplast.base.errors import UserError
from metaplast.commands._folders import held
from metaplast.commands._options import parse
from metaplast.watch.console import make_console


@dataclass(frozen=True)
class ReportOptions:
    """Write report.html and figures into the folder of a finished discovery."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if the folder holds no finished run, or cannot be written to.
    """
    options = parse(ReportOptions, arguments, prog="report", description=__doc__)
    from metaplast.report.page import write_report

    try:
        with held(options.run):
            page = write_report(options.run)
    except OSError as error:
        raise UserError(
            f"cannot write a report into {options.run}: {error.strerror}; check the "
            f"folder and its permissions."
        ) from None
    make_console().out(f"Report in {page}")
