"""The learners that the kernel supports: a fully connected stack, with traces that terms read."""

from __future__ import annotations

from metaplast.systems.aging import Aging
from metaplast.systems.feedbacks.predictive_coding import PredictiveCoding
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.system import System
from metaplast.systems.traced import Traced, TracePlace
from metaplast.systems.wrapped import Wrapped, wrappers
from metaplast.terms.algebra import Signal, pre
from metaplast.terms.fading import fading_of


def keeps_only_traces(system: System) -> bool:
    """Return whether a system carries nothing but its age and traces of signals (vectors)."""
    return all(
        type(one) is Aging or (type(one) is Traced and not one.scalars) for one in wrappers(system)
    )


def source_of(stack: FullyConnected) -> str | None:
    """Return how the kernel computes a stack's errors: `Feedback.kernel`, or "relaxed"."""
    feedback = stack.feedback
    if type(feedback) is PredictiveCoding and feedback.settings.variant == "strict":
        # In a single layer, nothing relaxes.
        return "relaxed" if stack.layers > 1 else "symmetric"
    return feedback.kernel


def stack_of(learner: Learner) -> FullyConnected:
    """Return the stack of a learner that the engine supports."""
    system = learner.system
    stack = system.innermost if isinstance(system, Wrapped) else system
    assert isinstance(stack, FullyConnected)
    return stack


def traces_of(learner: Learner) -> tuple[TracePlace, ...]:
    """Return the traces that terms read, and those that these traces follow.

    A trace comes after the trace that it follows. The learner may carry other traces, which the
    kernel does not update.
    """
    found: list[TracePlace] = []
    reads = learner.reads
    for system in wrappers(learner.system):
        if isinstance(system, Aging):
            continue
        assert isinstance(system, Traced)
        read = [place for place in system.places if place.signal in reads]
        reads = reads | {place.followed.signal for place in read}
        found[:0] = read
    return tuple(found)


def fadings_of(learner: Learner) -> dict[str, float]:
    """Return τ of each fading that terms read."""
    read = {name for term in learner.terms for name in term.scalars}
    found = {name: fading_of(name) for name in sorted(read)}
    return {name: tau for name, tau in found.items() if tau is not None}


def is_of_pixels(place: TracePlace) -> bool:
    """Return whether a trace has one number for each input."""
    return place.group.site == 0 and place.signal.population == "pre"


def signals_of(learner: Learner) -> frozenset[Signal]:
    """Return the signals that terms read and those that their traces follow."""
    return learner.reads | {place.followed.signal for place in traces_of(learner)}


def lowest_error(learner: Learner) -> int:
    """Return 0 if a term or a trace reads the synthetic input error e_0, else 1."""
    return 0 if pre.error in signals_of(learner) else 1
