"""Which learners the kernel of recurrent networks supports."""

from __future__ import annotations

from metaplast.engines.fused_recurrent.sources import SOURCES
from metaplast.systems.learner import Learner
from metaplast.systems.objectives.cross_entropy import CrossEntropy
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.sequence_network import SITES
from metaplast.systems.system import System
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Mapped

# Largest number of bytes that an episode keeps for the backward sweep, not counting the starts of
# segments.
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


def history_bytes(learner: Learner, steps: int, itemsize: int) -> int:
    """Return roughly how many bytes one episode keeps for the backward sweep.

    This errs on the low side.
    """
    system = recurrent_of(learner)
    _, neurons, outputs = system.widths
    weights = sum(rows * columns for rows, columns in (system.shapes[name] for name in SITES))
    vectors = 3 + len({"potential", "drive"} & {signal.kind for signal in learner.reads})
    each = weights + vectors * system.timing.time * neurons + 2 * outputs
    return min(MOST_KEPT, steps * each * itemsize)


def refusal(learner: Learner) -> str | None:
    """Return why the kernel cannot run a learner of a recurrent network, or None if it can."""
    return _network_refusal(learner.system) or _term_refusal(learner)


def _network_refusal(system: System) -> str | None:
    if not isinstance(system, Recurrent):
        return (
            f"the fused engine runs recurrent networks only without traces, eligibilities and "
            f"scalars, but a term reads one; {_HINT}, or leave the term out."
        )
    if type(system.objective) is not CrossEntropy:
        return (
            f"the fused engine supports only the cross-entropy, got --objective "
            f"{system.objective.name}; {_HINT}."
        )
    feedback = system.feedback
    cut = feedback.reach is not None
    if feedback.kernel not in SOURCES or not feedback.is_linear:
        return f"the fused engine does not support the feedback {feedback.name}; {_HINT}."
    if cut and system.timing.each:
        return (
            f"the fused engine supports a limit on how far errors go back only if the target is at "
            f"the last step, got --feedback {feedback.written} and targets at each step; {_HINT}."
        )
    return None


def _term_refusal(learner: Learner) -> str | None:
    for term in learner.terms:
        if term.is_backward:
            return (
                f"the fused engine does not change the feedback matrices of recurrent networks, "
                f"but the term {term.name} does; {_HINT}, or leave the term out."
            )
    for group in learner.changing:
        terms = learner.plasticity(group)
        if terms.full:
            return (
                f"in recurrent networks, the fused engine supports only sums of outer products, "
                f"but a term on {group.name} is dense or reads powers of the weights; {_HINT}, or "
                f"leave the term out."
            )
        vectors = terms.vectors
        if any(isinstance(vector, Mapped) for vector in vectors):
            return (
                f"in recurrent networks, the fused engine does not support functions of signals, "
                f"which a term on {group.name} reads; {_HINT}, or leave the term out."
            )
    return None
