"""The terminal output: configuration, progress, the rule, tables."""

from __future__ import annotations

import os
import sys
from collections import Counter

from rich.console import Console
from rich.progress import MofNCompleteColumn, ProgressColumn, TaskID, TextColumn
from rich.table import Table

from metaplast.base.plain_text import AsciiConsole, make_streams_safe, shows_formulas
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.loops import PROBE
from metaplast.discovery.observer import Observer
from metaplast.discovery.result import Result, tried_in
from metaplast.discovery.run import Discovery
from metaplast.meta.growth import Growth
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.tasks.source import held_out_word
from metaplast.terms.faded import fades
from metaplast.watch.estimate import TimeLeft, in_words
from metaplast.watch.progress import make_bar
from metaplast.watch.result_tables import (
    growth_table,
    heldout_table,
    lengths_table,
    recovery_table,
    taus_table,
    terms_table,
)
from metaplast.watch.stages_in_words import testing, training

# Narrower terminals show the progress without a bar.
_WIDE = 110


def make_console(*, errors: bool = False) -> Console:
    """Return the console to print on.

    In a file or a pipe, lines have the width of the variable COLUMNS, or 140 columns. If the
    encoding lacks the characters of formulas, they are written in ASCII.

    Args:
        errors: whether to print on standard error, for when a program reads standard output.
    """
    make_streams_safe()
    encoding = getattr(sys.stderr if errors else sys.stdout, "encoding", None)
    kind = Console if shows_formulas(encoding) else AsciiConsole
    console = kind(highlight=False, stderr=errors)
    if console.is_terminal or os.environ.get("COLUMNS"):
        return console
    return kind(highlight=False, stderr=errors, width=140)


class ProgressBar(Observer):
    """Shows the progress of a discovery, with loss, score and the number of active terms.

    Args:
        console: where to print.
        quiet: whether to show nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        amount: tuple[ProgressColumn, ...] = (TextColumn("{task.percentage:.0f} %"),)
        if console.width >= _WIDE:
            status = TextColumn("episodes  {task.fields[status]}")
            amount = (MofNCompleteColumn(), status)
        self._bar = make_bar(console, *amount, width=28, quiet=quiet, bar=console.width >= _WIDE)
        self._plain = not quiet and not console.is_terminal
        self._task: TaskID | None = None
        self._left = TimeLeft()
        # The name of the last evaluation; "" if an outer step has been taken since.
        self._testing = ""

    def begin(self, discovery: Discovery) -> None:
        """Start the bar at the progress that earlier parts of the run have made."""
        self._left.begin(discovery)
        self._task = self._bar.add_task(
            "starting", total=self._left.total, completed=self._left.done, status="", seconds=None
        )
        self._bar.start()

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Advance the bar by one outer step."""
        self._left.record(loop, record)
        self._testing = ""
        name = training(record.stage, self._left.refits)
        scale = loop.learner.system.objective.score_scale
        score = f"{scale.name} {scale.text(record.score)}"
        status = f"loss {record.loss:.3f}  {score}  terms {record.active}"
        self._move(name, status)
        # A bar can be redrawn only in a terminal. Elsewhere, print a line now and then.
        growth = loop.growth
        if growth is None:
            is_time = (record.step + 1) % max(1, loop.steps // 5) == 0
        else:
            is_time = record.step == growth.looked
        if self._plain and (loop.is_done or is_time):
            step = f"step {record.step + 1}"
            place = (
                f"{step}/{loop.steps}" if growth is None else f"{step}{_decision(growth, record)}"
            )
            self._console.out(f"{name}: {place}, {status}, {in_words(self._left.seconds)}")

    def tested(self, name: str, episodes: int) -> None:
        """Advance the bar by some evaluated tasks."""
        self._left.tested(name, episodes)
        self._move(testing(name), "")
        if self._plain and name == PROBE != self._testing:
            self._console.out(f"{testing(name)}, because the gradient supports none")
        self._testing = name

    def finish(self, result: Result) -> None:
        """Remove the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar, also after an interrupt."""
        self._bar.stop()

    def _move(self, name: str, status: str) -> None:
        if self._task is not None:
            self._bar.update(
                self._task, completed=self._left.done, total=self._left.total, description=name,
                status=status, seconds=self._left.seconds,
            )  # fmt: skip


def _decision(growth: Growth, record: Record) -> str:
    """Return what a search has just decided about candidates, in words."""
    tried = [trial for trial in growth.trials if trial.step == record.step]
    if not tried:
        again = record.step >= growth.settings.cycle
        return ", measured again with all candidates" if again else ""
    entered = [trial.term for trial in tried if trial.entered]
    names = ", ".join(entered or [trial.term for trial in tried])
    return f", {names} {'entered' if entered else 'did not help'}"


def show_config(console: Console, discovery: Discovery) -> None:
    """Print the configuration of the run."""
    config = discovery.config
    system = discovery.learner.system
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    rows = {
        "data": discovery.description,
        "episodes": f"{config.request.described(discovery.split.targets, config.lengths)}; "
        f"held out: "
        f"{held_out_word(discovery.split.held_out, discovery.split.targets)}",
        "network": system.description,
        "feedback": config.feedback_name,
        "terms": f"{discovery.terms_line} ({len(discovery.learner.terms)} candidates), "
        f"θ {config.theta}",
        "outer loop": _outer_line(config),
        "engine": f"{discovery.engine.name}, {config.device}, {config.dtype}, seed {config.seed}",
    }
    if discovery.folder is not None:
        rows["folder"] = str(discovery.folder)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table, highlight=False)
    console.print()


def _outer_line(config: DiscoveryConfig) -> str:
    outer, growth = config.outer, config.growth
    clip = f"clip {outer.clip:g}" if outer.clip else "no clipping"
    taus = f", τ learned ({outer.tau_lr:g})" if config.learn_tau else ""
    steps = f"{outer.steps} steps" if growth is None else f"{growth.cycle} steps for each entry"
    return (
        f"{steps} of {outer.meta_batch} episodes, {outer.optimizer} "
        f"{outer.meta_lr:g} ({outer.schedule}), L1 {outer.l1:g} ({outer.penalty}), {clip}{taus}"
    )


def show_result(console: Console, result: Result) -> None:
    """Print the rule, which terms were kept or dropped, and the held-out comparison."""
    console.print("[bold]Discovered rule[/bold]")
    console.out(result.rule)
    if any(map(fades, result.rule.terms)):
        console.out("n is the number of examples that a task has had before")
    console.print()
    if result.trials:
        console.print(growth_table(result))
    console.print(terms_table(result, console.width))
    if result.taus:
        console.print(taus_table(result))
    console.print(heldout_table(result))
    by_length = lengths_table(result)
    if by_length is not None:
        console.print()
        console.print(by_length)
    if result.recovery is not None:
        console.print(recovery_table(result.recovery))
    show_divergences(console, result)
    for line in result.notices:
        console.out(line)


def show_divergences(console: Console, result: Result, most: int = 3) -> None:
    """Print how many episodes diverged in training, and where the first of them diverged."""
    counts = Counter[bool]()
    for record in result.history:
        counts[bool(tried_in(record.stage))] += record.non_finite
    if counts[False]:
        several = "episodes diverged and were left out; the first:"
        what = "episode diverged and was left out:" if counts[False] == 1 else several
        console.out(f"{counts[False]} training {what}")
        trained = [text for text in result.divergences if not tried_in(text)]
        for text in trained[:most]:
            console.out(f"  {text}")
    if counts[True]:
        console.out(f"{counts[True]} diverged while selection tried other rules.")
