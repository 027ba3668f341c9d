"""Estimate how much of a discovery is left to do, and how long that will take.

Three things are unknown before the end: how many refits selection will need, how many terms will be
tested, and how long a task of each kind of work takes on this machine. The first two are guessed
from the stages so far. The third is measured: see `metaplast.watch.prices`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from metaplast.discovery.observer import Observer
from metaplast.discovery.refits import AGAIN, CONFIRMATION, EARLIEST, FIRST, LOOK, WITHOUT
from metaplast.discovery.result import REFIT, SEARCH, tried_in
from metaplast.discovery.run import Discovery
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.watch.prices import Kind, Prices

# Candidates that a growing rule usually tries, and terms that it then has.
TRIALS, GROWN = 7, 5


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


def selection_left(discovery: Discovery) -> tuple[int, int]:
    """Return how many refits selection will still begin, and how many of its fits will be tested.

    Until selection has ended, both are guesses. They assume one round, unless another has begun.
    """
    loops, chosen = discovery.stages.loops, discovery.selection
    if chosen is not None:
        return 0, len(chosen.missed) + len(chosen.spare)
    if not _selects(discovery):
        return 0, 0
    pool, search = len(discovery.choice.terms), loops.get(SEARCH)
    grown = search is not None and search.growth is not None
    course, first = Course(min(pool, GROWN) if grown else pool, pool), 1
    # Terms still to put back; None until the rule as it is has been refitted.
    back: int | None = None
    for name, loop in loops.items():
        if not _is_refit(name):
            continue
        count, what = len(loop.learner.terms), tried_in(name)
        if name == REFIT:
            course, first = Course(count, pool), 0
        elif what == AGAIN:
            back = course.put_back(count)
        elif what.startswith(f"{WITHOUT} "):
            out = what.count(",") + 1
            if back is not None:
                # The rule as it is was refitted before, so another round has begun.
                course, back = Course(count + out, pool), None
            course.leave_out(count + out, out)
        elif back is not None:
            back -= 1
    return first + course.left if back is None else max(0, back), course.tests


def _selects(discovery: Discovery) -> bool:
    """Return whether this run has a selection that has not ended yet."""
    wanted = discovery.choice.is_pool and discovery.config.refit > 0
    return wanted and discovery.selection is None


def look_left(discovery: Discovery) -> int:
    """Return the expected number of tasks of the first look of selection; 0 after it."""
    loops = discovery.stages.loops
    if not _selects(discovery) or any(tried_in(name) for name in loops):
        return 0
    pool = len(discovery.choice.terms)
    terms = len(loops[REFIT].learner.terms) if REFIT in loops else pool
    # Each term alone, and half of them together with others.
    return round(1.5 * terms) * min(EARLIEST, discovery.config.validation)


class Course:
    """The course of one round of selection, inferred from its refits.

    Selection leaves out some terms together, and half of them if that was too much, and so on. Then
    it leaves out each other term of the rule once. If it drops a term, it leaves out again those
    that were missed before. Then it refits the rule as it is, and puts back the terms that the
    gradient supports, three at most.

    Args:
        size: number of terms at the start of the round.
        pool: number of terms of the pool.
    """

    def __init__(self, size: int, pool: int) -> None:
        self._pool = pool
        # Terms of the rule, and those that it had before any was left out alone.
        self._rule = self._size = size
        # Terms to leave out, those left out so far, and those missed since the last one dropped.
        self._queue, self._tried, self._missed = size, 0, 0
        # Terms that the last refit leaves out together; None before the first refit.
        self._together: int | None = None

    def leave_out(self, rule: int, terms: int = 1) -> None:
        """Record a refit without terms; if the rule is smaller, the last refit dropped its term.

        Args:
            rule: number of terms of the rule, with those that the refit leaves out.
            terms: how many the refit leaves out.
        """
        gone = self._rule - rule
        if gone and self._together:
            self._queue, self._size = self._queue - gone, self._size - gone
        elif gone:
            self._queue, self._missed = self._queue + self._missed, 0
        elif self._tried:
            self._missed += 1
        self._rule, self._together = rule, terms if terms > 1 else 0
        if terms == 1:
            self._tried += 1
            self._queue -= 1

    @property
    def _leaving(self) -> int:
        """Number of terms that are left out together now, or soon; they are expected to go."""
        usual = self._size // 2
        if self._together is None:
            return usual if usual > 1 else 0
        return self._together

    def _others(self) -> tuple[int, float]:
        """Return how many terms have not been left out yet, and which share of them may stay."""
        # How the last refit ends is not known yet, so its term counts as not tried.
        tried = max(0, self._tried - 1)
        # Usually three of four that are not left out together stay; those tried correct this.
        stays = (1.5 + tried - (self._size - self._rule)) / (2 + tried)
        return max(0, self._size - self._leaving - tried), min(1.0, max(0.0, stays))

    @property
    def _kept(self) -> float:
        new, stays = self._others()
        return max(1.0, self._rule - self._leaving - new * (1 - stays))

    @property
    def left(self) -> int:
        """Expected number of refits that the round will still begin."""
        new, stays = self._others()
        missed, dropped = new * stays, new * (1 - stays)
        again = (1 - stays**new) * self._missed + missed - missed / (dropped + 1)
        first = 1 if self._together is None and self._leaving else 0
        alone = max(0, self._queue - self._leaving)
        return round(first + alone + again + 1 + self.put_back(self._kept))

    @property
    def tests(self) -> int:
        """Expected number of fits that are tested: each term left out, and those put back."""
        return round(self._kept + self.put_back(self._kept))

    def put_back(self, kept: float) -> int:
        """Return how many terms will probably be put back into a rule of `kept` terms."""
        return min(2, round(self._pool - kept))


class TimeLeft(Observer):
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
        self._validated = self._looked = self._tested = 0

    def begin(self, discovery: Discovery) -> None:
        """Begin with what earlier parts of the run have done."""
        self._discovery = discovery
        # Stored, because deriving them from the configuration takes longer than a small step.
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
        self._validated = 0
        self._pay(kind_of(record.stage), loop.settings.meta_batch)

    def tested(self, name: str, episodes: int) -> None:
        """Measure the cost of some tasks without gradient."""
        if _is_refit(name):
            self._validated += episodes  # Of the last refit.
        elif name == LOOK:
            self._looked += episodes
        elif name != CONFIRMATION:
            self._tested += episodes
        self._pay("evaluation", episodes)

    def _pay(self, kind: Kind, tasks: int) -> None:
        now = self._clock()
        self._prices.observe(kind, tasks, now - self._then)
        self._then, self.done = now, self.done + tasks

    @property
    def total(self) -> int:
        """Number of tasks in the whole run; an estimate until selection has ended."""
        return self.done + sum(self.left.values())

    @property
    def refits(self) -> int:
        """How many refits selection is expected to begin from now on; 0 before the run begins."""
        return 0 if self._discovery is None else selection_left(self._discovery)[0]

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
        refits, tests = selection_left(self._discovery)
        for name in (SEARCH, *(rule.name for rule in self._discovery.rivals)):
            if name not in stages.loops:
                steps = search.steps if name != SEARCH else self._search_steps
                done = stages.done.get(name, 0)
                left[kind_of(name)] += max(0, steps * search.meta_batch - done)
        for name, loop in list(stages.loops.items())[-1:]:
            left[kind_of(name)] += steps_left(loop) * loop.settings.meta_batch
        earlier = {n: k for n, k in stages.done.items() if _is_refit(n) and n not in stages.loops}
        each = refit.steps * refit.meta_batch
        longer = FIRST - 1 if refits and REFIT not in stages.loops else 0
        left["refit"] += max(0, (refits + longer) * each - sum(earlier.values()))
        left["evaluation"] += self._evaluations_left(refits, tests)
        return left

    def _evaluations_left(self, refits: int, tests: int) -> int:
        assert self._discovery is not None
        config, loops = self._discovery.config, self._discovery.stages.loops
        validations = refits * config.validation
        if _selects(self._discovery) and loops and _is_refit(next(reversed(loops))):
            # The last refit is being trained or measured.
            validations += config.validation - self._validated
        validations += max(0, look_left(self._discovery) - self._looked)
        tests += 1 + len(self._discovery.baselines)
        return max(0, tests * config.test_episodes - self._tested) + validations


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
