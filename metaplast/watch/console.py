"""The terminal output: configuration, progress, the rule, tables."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.progress import MofNCompleteColumn, TaskID, TextColumn
from rich.table import Table

from metaplast.base.bands import BAND, Band
from metaplast.base.plain_text import AsciiConsole, make_streams_safe, shows_formulas
from metaplast.base.tables import new_table
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.result import DISCOVERED, REFIT, SEARCH, Result, tried_in, unsupported
from metaplast.discovery.run import Discovery
from metaplast.meta.growth import Growth
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.rules.recovery import Recovery
from metaplast.tasks.source import held_out_word
from metaplast.terms.algebra import post, pre
from metaplast.terms.library import KnownRule, pool_terms
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term
from metaplast.watch.estimate import TimeLeft, in_words
from metaplast.watch.progress import make_bar

SHORT_ALIAS = 8
# What terms read in every system.
USUAL = frozenset({pre.activity, pre.error, post.activity, post.error})
_STAGES = {SEARCH: "searching", REFIT: "refitting"}


def _stage_name(stage: str) -> str:
    """Return the human-readable name of a stage."""
    return tried_in(stage) or _STAGES.get(stage, stage)


def make_console() -> Console:
    """Return the console to print on; in a file or pipe, COLUMNS or 140 columns wide.

    If its encoding lacks the characters of formulas, they are written in ASCII.
    """
    make_streams_safe()
    encoding = getattr(sys.stdout, "encoding", None)
    kind = Console if shows_formulas(encoding) else AsciiConsole
    console = kind(highlight=False)
    if console.is_terminal or os.environ.get("COLUMNS"):
        return console
    return kind(highlight=False, width=140)


class ProgressBar:
    """Shows the progress of a discovery, with loss, score and the number of active terms.

    Args:
        console: where to print.
        quiet: whether to show nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        status = TextColumn("episodes  {task.fields[status]}")
        self._bar = make_bar(console, MofNCompleteColumn(), status, width=28, quiet=quiet)
        self._plain = not quiet and not console.is_terminal
        self._task: TaskID | None = None
        self._left = TimeLeft()

    def begin(self, discovery: Discovery) -> None:
        """Start the bar at the progress of earlier parts of the run."""
        self._left.begin(discovery)
        self._task = self._bar.add_task(
            "starting", total=self._left.total, completed=self._left.done, status="", seconds=None
        )
        self._bar.start()

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Advance the bar by one outer step."""
        name = _stage_name(record.stage)
        scale = loop.learner.system.objective.score_scale
        score = f"{scale.name} {scale.text(record.score)}"
        status = f"loss {record.loss:.3f}  {score}  terms {record.active}"
        self._left.record(loop, record)
        self._move(name, status)
        # A bar can be redrawn only in a terminal; elsewhere, print a line now and then.
        growth = loop.growth
        every = max(1, loop.steps // 5) if growth is None else growth.settings.cycle
        if self._plain and (loop.is_done or (record.step + 1) % every == 0):
            step = f"step {record.step + 1}"
            place = f"{step}/{loop.steps}" if growth is None else f"{step}{_decision(growth)}"
            self._console.out(f"{name}: {place}, {status}, {in_words(self._left.seconds)}")

    def tested(self, name: str, episodes: int) -> None:
        """Advance the bar by some held-out tasks."""
        self._left.tested(name, episodes)
        self._move(f"testing {_stage_name(name)}", "")

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


def _decision(growth: Growth) -> str:
    """Return what a search has just decided about a candidate, in words."""
    if not growth.trials:
        return ""
    last = growth.trials[-1]
    return f", {last.term} {'entered' if last.entered else 'did not help'}"


def show_config(console: Console, discovery: Discovery) -> None:
    """Print the configuration of the run."""
    config = discovery.config
    system = discovery.learner.system
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    rows = {
        "data": discovery.description,
        "episodes": f"{config.request.described(discovery.split.targets)}; held out: "
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
    steps = f"{outer.steps} steps" if growth is None else f"{growth.cycle} steps a candidate"
    return (
        f"{steps} of {outer.meta_batch} episodes, {outer.optimizer} "
        f"{outer.meta_lr:g} ({outer.schedule}), L1 {outer.l1:g} ({outer.penalty}), {clip}"
    )


def show_result(console: Console, result: Result) -> None:
    """Print the rule, which terms were kept or dropped, and the held-out comparison."""
    console.print("[bold]Discovered rule[/bold]")
    console.out(result.rule)
    console.print()
    if result.trials:
        console.print(growth_table(result))
    console.print(terms_table(result))
    console.print(heldout_table(result))
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
        console.out(f"{counts[False]} training episodes diverged and were left out; the first:")
        trained = [text for text in result.divergences if not tried_in(text)]
        for text in trained[:most]:
            console.out(f"  {text}")
    if counts[True]:
        console.out(f"{counts[True]} diverged while selection tried other rules.")


def growth_table(result: Result) -> Table:
    """Return a table of the candidates that the search tried, in order."""
    table = new_table("How the rule grew")
    for column in ("candidate", "gradient / s.e.", f"change of {result.score.name}", ""):
        right = column.startswith(("gradient", "change"))
        table.add_column(column, justify="right" if right else "left")
    for trial in result.trials:
        table.add_row(
            trial.term,
            f"{trial.errors:.1f}",
            result.score.change(Band(trial.change, trial.low, trial.high)),
            "entered" if trial.entered else "did not help",
            style=None if trial.entered else "dim",
        )
    return table


def terms_table(result: Result) -> Table:
    """Return a table of all candidates: θ, kept or dropped, effect on the held-out score."""
    table = new_table("Terms")
    table.add_column("term", overflow="fold")
    table.add_column("formula", overflow="fold")
    table.add_column("θ searched", justify="right")
    table.add_column("θ", justify="right")
    table.add_column("")
    table.add_column(f"change of {result.score.name}", justify="right")
    table.add_column("locality")
    found, final = result.searched.named_theta, result.rule.named_theta
    for term in result.searched.terms:
        kept = term.name in result.kept
        table.add_row(
            term.name,
            term.spell(),
            found.range_text(term.name),
            final.range_text(term.name) if kept else "–",
            "kept" if kept else "dropped",
            _ablation(result, term),
            term.locality,
            style=None if kept else "dim",
        )
    return table


def _ablation(result: Result, term: Term) -> str:
    """Return the change of the held-out score without a kept or with a dropped term."""
    name = term.name
    if name in result.without:
        return f"without it {result.score.change(result.loss_without(name))}"
    if name in result.added:
        return f"with it {result.score.change(result.gain_with(name))}"
    if name in result.errors:
        return unsupported(term, result.errors[name])
    return ""


def heldout_table(result: Result) -> Table:
    """Return a table of scores on the same held-out episodes."""
    table = new_table(
        f"{result.score.title} on {result.config.test_episodes} held-out episodes",
        f"{result.held_out_word} never seen in meta-training",
    )
    for column in ("rule", result.score.name, BAND, "diverged"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for name, evaluation in result.heldout.items():
        band = evaluation.band
        table.add_row(
            name,
            result.score.text(band.mean),
            result.score.interval(band),
            str(evaluation.non_finite),
            style="bold" if name == DISCOVERED else None,
        )
    return table


def recovery_table(recovery: Recovery) -> Table:
    """Return a table of planted and recovered coefficients."""
    table = new_table("The planted rule", str(recovery))
    for column in ("term", "planted θ", "recovered θ", "error"):
        table.add_column(column, justify="left" if column == "term" else "right", no_wrap=True)
    planted, found = recovery.planted.named_theta, recovery.found.named_theta
    for name in dict.fromkeys([*planted.names, *found.names]):
        table.add_row(
            name,
            planted.range_text(name) if name in planted.names else "–",
            found.range_text(name) if name in found.names else "–",
            f"{recovery.errors[name]:.1%}" if name in planted.names else "not planted",
        )
    return table


def library_tables(terms: Iterable[Term], rules: Iterable[KnownRule]) -> list[Table]:
    """Return the term library, the known rules and their sources as tables for 80 columns."""
    terms, rules = sorted(terms, key=lambda t: t.is_backward), list(rules)
    known = new_table("Known rules")
    for column in ("name", "terms", "feedback"):
        known.add_column(column, overflow="fold", no_wrap=column == "name")
    for rule in rules:
        known.add_row(rule.name, ", ".join(rule.terms), rule.feedback[0])
    sources = new_table("Sources")
    for column in ("name", "source"):
        sources.add_column(column, overflow="fold", no_wrap=column == "name")
    for name, citation in [(t.name, t.citation) for t in terms] + [
        (r.name, r.citation) for r in rules
    ]:
        sources.add_row(name, citation)
    usual = [term for term in terms if term.signals <= USUAL]
    changes = {matrix: [t for t in usual if t.matrix.name == matrix] for matrix in ("W", "B")}
    found = [_term_table(matrix, some) for matrix, some in changes.items() if some]
    special = [term for term in terms if not term.signals <= USUAL]
    if special:
        found.append(_special_table(special))
    return [*found, known, sources]


def _term_table(matrix: str, terms: Iterable[Term]) -> Table:
    table = new_table(f"Terms that change {matrix}")
    for column in ("name", "alias", f"Δ{matrix}ₗ", "locality"):
        # A name or a formula in two lines is hard to read.
        table.add_column(column, overflow="fold", no_wrap=column != "alias")
    for term in terms:
        # The longest aliases are those of generated terms, which follow from the formula.
        short = [alias for alias in term.aliases if len(alias) <= SHORT_ALIAS]
        table.add_row(term.name, ", ".join(short), term.spell(), term.locality)
    return table


def _special_table(terms: Iterable[Term]) -> Table:
    """Return the terms that read signals of particular systems, such as a recurrent drive."""
    table = new_table("Terms for systems that offer further signals")
    table.add_column("name", no_wrap=True)
    for column in ("change", "locality"):
        table.add_column(column, overflow="fold")
    for term in terms:
        table.add_row(term.name, term.spell(), term.locality)
    return table


def pool_table(pools: Iterable[Pool]) -> Table:
    """Return the pools of candidate terms with their sizes, as a table."""
    table = new_table("Pools")
    for column in ("name", "terms", "local", "feedback", "candidates"):
        right = column in ("terms", "local")
        table.add_column(column, overflow="fold", justify="right" if right else "left")
    for pool in sorted(pools, key=lambda p: len(pool_terms(p))):
        terms = pool_terms(pool)
        local = sum(term.is_local for term in terms)
        table.add_row(pool.name, str(len(terms)), str(local), *pool.feedback[:1] or ("any",),
                      pool.summary)  # fmt: skip
    return table
