"""Which learners the kernel of recurrent networks serves."""

from __future__ import annotations

from metaplast.engines.fused_recurrent.sources import SOURCES
from metaplast.systems.learner import Learner
from metaplast.systems.objectives.cross_entropy import CrossEntropy
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.sequence_network import SITES
from metaplast.systems.system import System
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Mapped

# Most bytes that an episode keeps for the backward sweep, not counting the starts of segments.
MOST_KEPT = 2**28
_HINT = "use --engine batched"


def is_recurrent(system: System) -> bool:
    """Return whether a system is a recurrent network, by itself or wrapped."""
    innermost = system.innermost if isinstance(system, Wrapped) else system
    return type(innermost) is Recurrent


def recurrent_of(learner: Learner) -> Recurrent:
    """Return the network of a learner that `refusal` accepts."""
    assert isinstance(learner.system, Recurrent)
    return learner.system


def kept_bytes(learner: Learner, steps: int, itemsize: int) -> int:
    """Return roughly how many bytes one episode keeps for the backward sweep; errs low."""
    system = recurrent_of(learner)
    _, neurons, outputs = system.widths
    weights = sum(rows * columns for rows, columns in (system.shapes[name] for name in SITES))
    vectors = 3 + len({"potential", "drive"} & {signal.kind for signal in learner.reads})
    each = weights + vectors * system.timing.time * neurons + 2 * outputs
    return min(MOST_KEPT, steps * each * itemsize)


def refusal(learner: Learner) -> str | None:
    """Return why the kernel cannot serve a learner of a recurrent network, or None if it can."""
    return _network_refusal(learner.system) or _term_refusal(learner)


def _network_refusal(system: System) -> str | None:
    if not isinstance(system, Recurrent):
        return (
            f"the fused engine runs recurrent networks without traces, eligibilities and scalars, "
            f"which a term reads; {_HINT}, or leave the term out."
        )
    if type(system.objective) is not CrossEntropy:
        return (
            f"the fused engine serves the cross-entropy only, got --objective "
            f"{system.objective.name}; {_HINT}."
        )
    feedback = system.feedback
    cut = feedback.reach is not None
    if feedback.kernel not in SOURCES or not feedback.is_linear:
        return f"the fused engine does not know the feedback {feedback.name}; {_HINT}."
    if cut and system.timing.each:
        return (
            f"the fused engine carries errors back through a limited time only from the last step, "
            f"got --feedback {feedback.written} and a target at each step; {_HINT}."
        )
    return None


def _term_refusal(learner: Learner) -> str | None:
    for term in learner.terms:
        if term.is_backward:
            return (
                f"the fused engine changes no feedback matrices of recurrent networks, which the "
                f"term {term.name} does; {_HINT}, or leave the term out."
            )
    for group in learner.changing:
        terms = learner.plasticity(group)
        if terms.full:
            return (
                f"the fused engine takes sums of outer products only in recurrent networks, and a "
                f"term on {group.name} is dense or reads powers of the weights; {_HINT}, or leave "
                f"the term out."
            )
        vectors = terms.vectors
        if any(isinstance(vector, Mapped) for vector in vectors):
            return (
                f"the fused engine takes no functions of signals in recurrent networks, which a "
                f"term on {group.name} reads; {_HINT}, or leave the term out."
            )
    return None
