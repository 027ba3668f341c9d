"""An estimate of how much of selection is left, from its stages so far."""

from __future__ import annotations

from metaplast.discovery.refits import AGAIN, EARLIEST, EVERY, INSTEAD, WITHOUT
from metaplast.discovery.result import REFIT, SEARCH, tried_in
from metaplast.discovery.run import Discovery

# Number of terms that a growing rule usually has in the end.
GROWN = 12
# The share of terms that selection usually leaves out together, and that of a grown rule, whose
# terms have been tested before.
SPARE, GROWN_SPARE = 0.75, 0.25


def selection_left(discovery: Discovery) -> tuple[int, int]:
    """Return how many refits selection will still begin, and how many of its fits will be tested.

    Until selection has ended, both are estimates. They assume one round without swaps, unless
    another round or a swap has already begun.
    """
    loops, chosen = discovery.stages.loops, discovery.selection
    if chosen is not None:
        return 0, len(chosen.missed) + len(chosen.spare)
    if not selects(discovery):
        return 0, 0
    pool, search = len(discovery.choice.terms), loops.get(SEARCH)
    grown = search is not None and search.growth is not None
    spare = GROWN_SPARE if grown else SPARE
    course, first = Course(min(pool, GROWN) if grown else pool, pool, spare), 1
    # Number of terms still to put back; None until the remaining rule has been refitted.
    back: int | None = None
    for name, loop in loops.items():
        if not is_refit(name):
            continue
        count, what = len(loop.learner.terms), tried_in(name)
        if name == REFIT or what == EVERY:
            course, first = Course(count, pool, spare), 0
        elif what == AGAIN:
            back = course.put_back(count)
        elif what.startswith(f"{WITHOUT} "):
            out = what.count(",") + 1
            if back is not None:
                # The remaining rule was already refitted, so another round has begun.
                course, back = Course(count + out, pool), None
            course.leave_out(count + out, out)
        elif INSTEAD in what:
            back = 1  # The rule is refitted once more after the last swap.
        elif back is not None:
            back -= 1
    return first + course.left if back is None else max(0, back), course.tests


def is_refit(stage: str) -> bool:
    """Return whether a stage is a refit of selection."""
    return stage == REFIT or tried_in(stage) != ""


def selects(discovery: Discovery) -> bool:
    """Return whether this run has a selection that has not ended yet."""
    wanted = discovery.choice.is_pool and discovery.config.refit > 0
    return wanted and discovery.selection is None


def look_left(discovery: Discovery) -> int:
    """Return the expected number of tasks evaluated for the plan of selection's first round.

    It is 0 once selection has begun to refit.
    """
    loops = discovery.stages.loops
    if not selects(discovery) or any(tried_in(name) for name in loops):
        return 0
    pool = len(discovery.choice.terms)
    terms = len(loops[REFIT].learner.terms) if REFIT in loops else pool
    # The rule is evaluated without each term, and without half of them together with others.
    return round(1.5 * terms) * min(EARLIEST, discovery.config.validation)


class Course:
    """The progress of one round of selection, inferred from its refits.

    Selection first leaves out several terms together, and fewer if those were too many. Then it
    leaves out each remaining term once. Whenever it drops a term, it tries again to leave out the
    terms that it kept before. Finally it refits the remaining rule, and puts back at most three
    terms that the gradient supports.

    Args:
        size: number of terms at the start of the round.
        pool: number of terms of the pool.
        spare: assumed share of the terms that are left out together; used until it is known.
    """

    def __init__(self, size: int, pool: int, spare: float = 0.0) -> None:
        self._pool, self._spare = pool, spare
        # Number of terms of the rule, now and before the first single term was left out.
        self._rule = self._size = size
        # Number of terms still to leave out, of those left out so far, and of those that the rule
        # turned out to need since a term was last dropped.
        self._queue, self._tried, self._missed = size, 0, 0
        # Number of terms that the last refit leaves out together; None before the first refit.
        self._together: int | None = None

    def leave_out(self, rule: int, terms: int = 1) -> None:
        """Record a refit without some terms.

        If the rule is smaller than before, the last refit has dropped its terms.

        Args:
            rule: number of terms of the rule, with those that the refit leaves out.
            terms: how many terms the refit leaves out.
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
    def _leaving(self) -> float:
        """Number of terms left out together, now or soon; they will probably be dropped."""
        usual = self._spare * self._size
        if self._together is None:
            return usual if usual > 1 else 0
        return self._together

    def _others(self) -> tuple[float, float]:
        """Return how many terms have not been left out yet, and which share of them will stay."""
        # The result of the last refit is not known yet, so its term counts as not tried.
        tried = max(0, self._tried - 1)
        # Usually three of four such terms stay. The terms tried so far correct this share.
        stays = (1.5 + tried - (self._size - self._rule)) / (2 + tried)
        return max(0.0, self._size - self._leaving - tried), min(1.0, max(0.0, stays))

    @property
    def _kept(self) -> float:
        new, stays = self._others()
        return max(1.0, self._rule - self._leaving - new * (1 - stays))

    @property
    def left(self) -> int:
        """Expected number of refits that the round will still begin."""
        new, stays = self._others()
        missed, dropped = new * stays, new * (1 - stays)
        again: float = (1 - stays**new) * self._missed + missed - missed / (dropped + 1)
        first = 1 if self._together is None and self._leaving else 0
        alone = max(0, self._queue - self._leaving)
        return round(first + alone + again + 1 + self.put_back(self._kept))

    @property
    def tests(self) -> int:
        """Expected number of fits to test: one without each kept term, one with each put back."""
        return round(self._kept + self.put_back(self._kept))

    def put_back(self, kept: float) -> int:
        """Return how many terms will probably be put back into a rule of `kept` terms."""
        return min(2, round(self._pool - kept))
