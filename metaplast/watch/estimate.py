"""Estimate how much of a discovery is left to do, and how long that will take.

Three things are not known in advance: how many refits selection will need, how many of its fits
will be tested, and how long a task of each kind of work takes on this machine. The first two are
estimated from the stages so far, see `metaplast.watch.course`. The third is measured, see
`metaplast.watch.prices`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from metaplast.discovery.loops import ASKED, PROBE
from metaplast.discovery.observer import Observer
from metaplast.discovery.refits import CONFIRMATION, EVIDENCE, FIRST, LOOK
from metaplast.discovery.result import REFIT, SEARCH
from metaplast.discovery.run import Discovery
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.watch.course import is_refit, look_left, selection_left, selects
from metaplast.watch.prices import Kind, Prices

# How often a growing rule usually tries candidates, several at a time.
TRIALS = 6


def kind_of(stage: str) -> Kind:
    """Return the kind of work of an outer loop."""
    if stage == SEARCH:
        return "search"
    return "refit" if is_refit(stage) else "baseline"


def steps_left(loop: OuterLoop) -> int:
    """Return the number of outer steps that a loop still takes; an estimate while a rule grows."""
    growth, step = loop.growth, loop.progress.step
    if loop.is_done:
        return 0
    if growth is None:
        return loop.steps - step
    usual = min(TRIALS, len(loop.learner.terms))
    # At least the candidates that are tried now, and once more.
    tried = max(usual, len({trial.step for trial in growth.trials}) + 2)
    return (1 + tried) * growth.settings.cycle - step


class TimeLeft(Observer):
    """Observes a discovery, and estimates how much of it is left.

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
        self._validated = self._looked = self._tested = self._asked = 0

    def begin(self, discovery: Discovery) -> None:
        """Count the tasks that earlier parts of the run have done."""
        self._discovery = discovery
        # Stored, because computing them from the configuration takes longer than a small step.
        self._search, self._refit = discovery.config.outer, discovery.config.refit_outer
        # Selection computes gradients once per round, and for swaps. One round is expected.
        self._evidence = EVIDENCE * discovery.config.bars.look * self._search.meta_batch
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
        if is_refit(name):
            self._validated += episodes  # The tasks of the last refit only; see `record`.
        elif name == LOOK:
            self._looked += episodes
        elif name == ASKED:
            self._asked += episodes
        elif name not in (CONFIRMATION, PROBE):
            self._tested += episodes
        self._pay("refit" if name == ASKED else "evaluation", episodes)

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
        """Number of refits that selection is expected to begin; 0 before the run begins."""
        return 0 if self._discovery is None else selection_left(self._discovery)[0]

    @property
    def seconds(self) -> float | None:
        """Time left in seconds; None until some kind of work has been measured twice."""
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
        earlier = {n: k for n, k in stages.done.items() if is_refit(n) and n not in stages.loops}
        each = refit.steps * refit.meta_batch
        longer = FIRST - 1 if refits and REFIT not in stages.loops else 0
        left["refit"] += max(0, (refits + longer) * each - sum(earlier.values()))
        if selects(self._discovery):
            left["refit"] += max(0, self._evidence - self._asked)
        left["evaluation"] += self._evaluations_left(refits, tests)
        return left

    def _evaluations_left(self, refits: int, tests: int) -> int:
        assert self._discovery is not None
        config, loops = self._discovery.config, self._discovery.stages.loops
        validations = refits * config.validation
        if selects(self._discovery) and loops and is_refit(next(reversed(loops))):
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
