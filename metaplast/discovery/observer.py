"""Observers of a discovery: subclass `Observer` and override the methods that you need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metaplast.discovery.result import Result
    from metaplast.discovery.run import Discovery
    from metaplast.meta.outer_loop import OuterLoop
    from metaplast.meta.record import Record


class Observer:
    """Observes a discovery. Its methods do nothing; subclasses override those that they need.

    Pass observers as `discover(observers=[…])`. They are called in the process and the thread of
    the run, in the order given, and must not change their arguments. If an observer raises an
    error, the run ends; it can be resumed from its last checkpoint. A resumed run calls `begin`
    again, then `record` for the remaining steps; `discovery.stages.history()` returns the earlier
    records.
    """

    def begin(self, discovery: Discovery) -> None:
        """Receive the discovery that is about to run; called once, before the first step."""

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Receive the record of one outer step.

        Args:
            loop: the outer loop that took the step. `loop.stage` is the stage of the record,
                `loop.learner` has the terms that are trained, and `loop.steps` is the number of
                steps.
            record: loss, score, θ and so on, means over the tasks of the step; see `Record`.
        """

    def tested(self, name: str, episodes: int) -> None:
        """Receive the number of tasks on which a rule was newly evaluated, without training.

        Args:
            name: the name of the rule, or of the stage that evaluates rules.
            episodes: the number of tasks since the last call.
        """

    def finish(self, result: Result) -> None:
        """Receive the result; called once, at the end."""
