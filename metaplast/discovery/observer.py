"""Observers of a discovery: subclass `Observer` and override the methods that you need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metaplast.discovery.result import Result
    from metaplast.discovery.run import Discovery
    from metaplast.meta.outer_loop import OuterLoop
    from metaplast.meta.record import Record


class Observer:
    """Watches a discovery, and does nothing; subclasses override the methods that they need.

    Pass observers as `discover(observers=[…])`. They are called in the process and the thread of
    the run, in their order, and must not change what they are given. An error that one raises ends
    the run, which can be resumed from its last checkpoint. A resumed run calls `begin` again, then
    `record` for the remaining steps; `discovery.stages.history()` has the earlier records.
    """

    def begin(self, discovery: Discovery) -> None:
        """Receive the discovery that is about to run; called once, before the first step."""

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Receive the record of one outer step.

        Args:
            loop: the outer loop that took the step; its `stage` is that of the record, its
                `learner` the network with the terms that are trained, `loop.steps` their number.
            record: loss, score, θ and so on, means over the tasks of the step; see `Record`.
        """

    def tested(self, name: str, episodes: int) -> None:
        """Receive the number of newly finished tasks on which a rule was tested, by its name."""

    def finish(self, result: Result) -> None:
        """Receive the result; called once, at the end."""
