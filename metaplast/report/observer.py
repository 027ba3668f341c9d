"""Write the report when a discovery ends; a failing report never ends the run."""

from __future__ import annotations

import shlex

from rich.console import Console

from metaplast.base.paths import AnyPath, as_path
from metaplast.discovery.observer import Observer
from metaplast.discovery.result import Result


class ReportFiles(Observer):
    """Writes report.html and figures at the end of a discovery, from the files of its folder.

    It must come after the observers that write these files.

    Args:
        folder: the folder of the discovery.
        console: where to print a warning.
    """

    def __init__(self, folder: AnyPath, console: Console) -> None:
        self._folder = as_path(folder, "folder")
        self._console = console

    def finish(self, result: Result) -> None:
        """Write the report, or print why it cannot be written."""
        try:
            from metaplast.report.page import write_report

            write_report(self._folder, result.searched.terms)
        except Exception as error:  # The run is finished and its result must be shown.
            again = f"metaplast report {shlex.quote(str(self._folder))}"
            self._console.out(
                f"warning: the report could not be written ({type(error).__name__}: {error}); the "
                f"results are complete. Try again with:  {again}",
            )
