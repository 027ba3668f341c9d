"""How much of a discovery is left to do, and how long that will take.

Three things are unknown before the end: how many refits selection will need, how many terms will be
tested, and how long a task of each kind of work takes on this machine. The first two are guessed
from the stages so far. The third is measured as one price for each kind of work: tasks of the
search, of the baselines and of refits differ in batch size and in the number of terms, and a task
without gradient takes about a third of the time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

from metaplast.discovery.refits import AGAIN, CONFIRMATION, WITHOUT
from metaplast.discovery.result import REFIT, SEARCH, Result, tried_in
from metaplast.discovery.run import Discovery
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record

Kind = Literal["search", "baseline", "refit", "evaluation"]

# Prices relative to each other, for kinds of work that have not been measured yet.
USUAL: Mapping[Kind, float] = {"search": 1.0, "baseline": 1.0, "refit": 1.0, "evaluation": 1 / 3}
# Candidates that a growing rule usually tries, and terms that it then has.
TRIALS, GROWN = 7, 5
# Each measurement multiplies the weight of the earlier ones of its kind by this.
_MEMORY = 0.98


def kind_of(stage: str) -> Kind:
    """Return the kind of work of an outer loop."""
    if stage == SEARCH:
        return "search"
    return "refit" if _is_refit(stage) else "baseline"


def _is_refit(stage: str) -> bool:
    return stage == REFIT or tried_in(stage) != ""


def steps_left(loop: OuterLoop) -> int:
    """Return the number of outer steps that a loop still takes; a guess while a rule grows."""
    growth, step = loop.growth, loop.progress.step
    if loop.is_done:
        return 0
    if growth is None:
        return loop.steps - step
    usual = min(TRIALS, len(loop.learner.terms))
    # At least the candidate that is tried now, and perhaps another.
    tried = max(usual, len(growth.trials) + 2)
    return (1 + tried) * growth.settings.cycle - step


def refits_left(discovery: Discovery) -> int:
    """Return the number of refits that selection will still begin; a guess until it has ended.

    The guess is for one round of selection, unless another has begun.
    """
    loops = discovery.stages.loops
    if not _selects(discovery) or any(rule.name in loops for rule in discovery.rivals):
        return 0
    pool, search = len(discovery.choice.terms), loops.get(SEARCH)
    grown = search is not None and search.growth is not None
    course, first = Course(min(pool, GROWN) if grown else pool, pool, grown=grown), 1
    # Terms still to put back, after the rule as it is.
    back: int | None = None
    for name, loop in loops.items():
        if not _is_refit(name):
            continue
        count, what = len(loop.learner.terms), tried_in(name)
        if name == REFIT:
            course, first = Course(count, pool, grown=grown), 0
        elif what == AGAIN:
            back = course.put_back(count)
        elif what.startswith(f"{WITHOUT} "):
            if back is not None:
                # After the rule as it is, another round has begun.
                course, back = Course(count + 1, pool, grown=grown), None
            course.leave_out(count + 1)
        elif back is not None:
            back -= 1
    return first + course.left if back is None else max(0, back)


def _selects(discovery: Discovery) -> bool:
    """Return whether this run has a selection that has not ended yet."""
    wanted = discovery.choice.is_pool and discovery.config.refit > 0
    return wanted and discovery.selection is None


class Course:
    """The course of one round of selection, as far as its refits show it.

    Selection leaves out each term of the rule once. If it drops a term, it leaves out again those
    that were missed before. Then it refits the rule as it is, and puts back each other term of the
    pool.

    Args:
        size: number of terms at the start of the round.
        pool: number of terms of the pool.
        grown: whether the rule grew in the search; then the gradient chooses which terms are put
            back, seldom more than one.
    """

    def __init__(self, size: int, pool: int, *, grown: bool = False) -> None:
        self._size, self._pool, self._grown = size, pool, grown
        self._rule, self._tried = size, 0
        # Terms to leave out, and terms missed since the last one was dropped.
        self._queue, self._missed = size, 0

    def leave_out(self, rule: int) -> None:
        """Note a refit without a term; a smaller rule shows that the refit before dropped its term.

        Args:
            rule: number of terms of the rule, including the one that is left out.
        """
        if rule < self._rule:
            self._queue, self._missed = self._queue + self._missed, 0
        elif self._tried:
            self._missed += 1
        self._rule = rule
        self._tried += 1
        self._queue -= 1

    @property
    def left(self) -> int:
        """Expected number of refits that the round will still begin."""
        # How the last refit ends is not known yet, so its term counts as not tried.
        tried = max(0, self._tried - 1)
        new = max(0, self._size - tried)
        # Assume that the same share of the other terms stays.
        stays = 1 - (self._size - self._rule) / tried if tried else 0.5
        missed, dropped = new * stays, new * (1 - stays)
        again = (1 - stays**new) * self._missed + missed - missed / (dropped + 1)
        kept = max(1.0, self._rule - dropped)
        return round(self._queue + again + 1 + self.put_back(kept))

    def put_back(self, kept: float) -> int:
        """Return how many terms will be put back into a rule of some terms."""
        rest = round(self._pool - kept)
        return min(1, rest) if self._grown else rest


class TimeLeft:
    """Observes a discovery, and estimates what is left of it.

    Args:
        clock: returns the time in seconds.

    Attributes:
        done: number of tasks done, including those of earlier parts of the run.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = 0
        self._clock, self._then = clock, 0.0
        self._discovery: Discovery | None = None
        self._prices = Prices()
        self._validated = self._tested = 0

    def begin(self, discovery: Discovery) -> None:
        """Begin at the progress of earlier parts of the run."""
        self._discovery = discovery
        # Kept: a configuration derives them from its terms, which takes longer than a small step.
        self._search, self._refit = discovery.config.outer, discovery.config.refit_outer
        growth = discovery.config.growth
        pool = len(discovery.choice.terms)
        self._search_steps = self._search.steps
        if growth is not None:
            self._search_steps = (1 + min(TRIALS, pool)) * growth.cycle
        self.done = sum(discovery.stages.done.values())
        self._then = self._clock()

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Measure the cost of one outer step."""
        self._pay(kind_of(record.stage), loop.settings.meta_batch)

    def tested(self, name: str, episodes: int) -> None:
        """Measure the cost of some tasks without gradient."""
        if _is_refit(name):
            self._validated += episodes
        elif name != CONFIRMATION:
            self._tested += episodes
        self._pay("evaluation", episodes)

    def finish(self, result: Result) -> None:
        """Do nothing: nothing is left."""

    def _pay(self, kind: Kind, tasks: int) -> None:
        now = self._clock()
        self._prices.observe(kind, tasks, now - self._then)
        self._then, self.done = now, self.done + tasks

    @property
    def total(self) -> int:
        """Number of tasks in the whole run; an estimate until selection has ended."""
        return self.done + sum(self.left.values())

    @property
    def seconds(self) -> float | None:
        """Time left; None until two pieces of work of a kind have been measured."""
        return self._prices.of(self.left)

    @property
    def left(self) -> Counter[Kind]:
        """Number of tasks left, of each kind."""
        left: Counter[Kind] = Counter()
        if self._discovery is None:
            return left
        stages, search, refit = self._discovery.stages, self._search, self._refit
        refits = refits_left(self._discovery)
        for name in (SEARCH, *(rule.name for rule in self._discovery.rivals)):
            if name not in stages.loops:
                steps = search.steps if name != SEARCH else self._search_steps
                done = stages.done.get(name, 0)
                left[kind_of(name)] += max(0, steps * search.meta_batch - done)
        for name, loop in list(stages.loops.items())[-1:]:
            left[kind_of(name)] += steps_left(loop) * loop.settings.meta_batch
        earlier = {n: k for n, k in stages.done.items() if _is_refit(n) and n not in stages.loops}
        each = refit.steps * refit.meta_batch
        left["refit"] += max(0, refits * each - sum(earlier.values()))
        left["evaluation"] += self._evaluations_left(refits)
        return left

    def _evaluations_left(self, refits: int) -> int:
        assert self._discovery is not None
        config, chosen = self._discovery.config, self._discovery.selection
        tests, validations = 1 + len(self._discovery.baselines), 0
        if chosen is not None:
            tests += len(chosen.missed) + len(chosen.spare)
        elif _selects(self._discovery):
            begun = sum(map(_is_refit, self._discovery.stages.loops))
            # All terms of the pool are tested: each of the rule left out, each other one put back.
            tests += len(self._discovery.choice.terms)
            validations = max(0, (begun + refits) * config.validation - self._validated)
        return max(0, tests * config.test_episodes - self._tested) + validations


class Prices:
    """Seconds per task of each kind of work, as measured."""

    def __init__(self) -> None:
        self._seen: Counter[Kind] = Counter()
        self._tasks: dict[Kind, float] = {}
        self._seconds: dict[Kind, float] = {}

    def observe(self, kind: Kind, tasks: int, seconds: float) -> None:
        """Add a measurement. Later ones count more, and the second replaces the first.

        The first of a kind is often slow: kernels are compiled and scales are measured.
        """
        kept = _MEMORY if self._seen[kind] > 1 else 0.0
        self._seen[kind] += 1
        self._tasks[kind] = kept * self._tasks.get(kind, 0.0) + tasks
        self._seconds[kind] = kept * self._seconds.get(kind, 0.0) + seconds

    def of(self, work: Mapping[Kind, int]) -> float | None:
        """Return the seconds that some tasks will take; None before the second of a kind."""
        known = {kind: self._seconds[kind] / tasks for kind, tasks in self._tasks.items()}
        # The very first task may have waited for a kernel to be compiled.
        if not any(count > 1 for count in self._seen.values()):
            return None
        # Guess the price of the other kinds from those that were measured. Baselines are learned
        # with the settings of the search.
        unit = sum(price / USUAL[kind] for kind, price in known.items()) / len(known)
        guessed = {kind: unit * usual for kind, usual in USUAL.items()}
        if "search" in known:
            guessed["baseline"] = known["search"]
        return sum(tasks * known.get(kind, guessed[kind]) for kind, tasks in work.items())


def in_words(seconds: float | None) -> str:
    """Return a time left in plain words, rounded because it is an estimate."""
    if seconds is None:
        return "time left unknown"
    if seconds < 60:
        return "less than a minute left"
    minutes = seconds / 60
    minutes = round(minutes) if minutes < 10 else 5 * round(minutes / 5)
    if minutes < 60:
        return f"about {minutes} min left"
    if minutes < 24 * 60:
        hours, rest = divmod(10 * round(minutes / 10), 60)
        return f"about {hours} h {rest} min left" if rest else f"about {hours} h left"
    return f"about {round(minutes / 60 / 24, 1):g} days left"
