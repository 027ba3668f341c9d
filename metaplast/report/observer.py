"""Write the report when a discovery ends; a report that fails never costs the run."""

from __future__ import annotations

import shlex

from rich.console import Console

from metaplast.discovery import Discovery
from metaplast.outer_loop import OuterLoop, Record
from metaplast.paths import AnyPath, as_path
from metaplast.result import Result


class ReportFiles:
    """Writes report.html and figures at the end of a discovery, from the files of its folder.

    It must come after those who write these files.

    Args:
        folder: of the discovery.
        console: where a warning goes.
    """

    def __init__(self, folder: AnyPath, console: Console) -> None:
        self._folder = as_path(folder, "folder")
        self._console = console

    def begin(self, discovery: Discovery) -> None:
        """See the beginning; there is nothing to do."""

    def record(self, loop: OuterLoop, record: Record) -> None:
        """See one outer step; the history is read from its file at the end."""

    def tested(self, name: str, episodes: int) -> None:
        """See progress of the held-out test; there is nothing to do."""

    def finish(self, result: Result) -> None:
        """Write the report, or say why there is none."""
        try:
            from metaplast.report.page import write_report

            write_report(self._folder, result.searched.terms)
        except Exception as error:  # The run is finished and must be shown.
            again = f"metaplast report {shlex.quote(str(self._folder))}"
            self._console.out(
                f"warning: the report could not be written ({type(error).__name__}: {error}); the "
                f"results are whole. Try again with:  {again}",
            )
