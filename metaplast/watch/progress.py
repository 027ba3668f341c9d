"""A progress bar for an amount of work that is known, or estimated and corrected later."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from metaplast.watch.estimate import in_words

# In seconds. Parts of the work differ in length, so the time left is computed from the mean speed
# since the start.
_PERIOD = 1e9


class _Left(ProgressColumn):
    """Shows the time left: the task's field "seconds", or an estimate from the bar's own speed."""

    max_refresh = 1.0

    def render(self, task: Task) -> Text:
        """Return the text."""
        return Text(in_words(task.fields.get("seconds", task.time_remaining)))


def make_bar(
    console: Console, *amount: ProgressColumn, width: int, quiet: bool, bar: bool = True
) -> Progress:
    """Return a bar with the current task, the amount done, time elapsed and time left.

    Args:
        console: where to print; the bar is shown only in a terminal.
        amount: columns that show the amount done.
        width: the width of the text to the left of the bar.
        quiet: whether to print nothing.
        bar: whether there is room for the bar and the time elapsed.
    """
    # Text is never cut off; if it does not fit, it continues on a second line.
    words = TextColumn(
        f"{{task.description:<{width}}}", table_column=Column(no_wrap=False, overflow="fold")
    )
    wide = (BarColumn(bar_width=None), *amount, TimeElapsedColumn()) if bar else amount
    return Progress(
        words,
        *wide,
        _Left(table_column=Column(no_wrap=True)),
        console=console,
        disable=quiet or not console.is_terminal,
        speed_estimate_period=_PERIOD,
    )


class Work:
    """Shows how much work is done and how long the rest will take; use it in a `with` statement.

    Args:
        console: where to print.
        total: units of work in total.
        width: the width of the text that describes the current work.
        quiet: whether to print nothing.
    """

    def __init__(
        self, console: Console, total: float, *, width: int = 34, quiet: bool = False
    ) -> None:
        self._console, self._quiet = console, quiet
        share = TextColumn("{task.percentage:3.0f} %")
        self._bar = make_bar(console, share, width=width, quiet=quiet)
        self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> Work:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar, also after an interrupt."""
        self._bar.stop()

    def name(self, text: str) -> None:
        """Show what is being done."""
        self._bar.update(self._task, description=text)

    def advance(self, amount: float) -> None:
        """Add finished work."""
        self._bar.update(self._task, advance=amount)

    def set_done(self, done: float) -> None:
        """Set the amount of finished work; this corrects earlier estimates."""
        self._bar.update(self._task, completed=done)

    def line(self, text: str) -> None:
        """Print a line; if no bar is shown, with the time left."""
        if self._quiet:
            return
        remaining = self._bar.tasks[self._task].time_remaining
        left = "" if self._console.is_terminal or not remaining else f"; {in_words(remaining)}"
        self._console.out(text + left)
