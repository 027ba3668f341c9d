"""Check that a system offers what terms read and change.

If terms read traces, eligibilities or scalars, the system is wrapped so that it offers these too.
"""

from __future__ import annotations

from metaplast.base.errors import UserError
from metaplast.systems.aging import aging
from metaplast.systems.broadcast import broadcasting
from metaplast.systems.eligible import with_eligibilities
from metaplast.systems.feedback import all_feedbacks, serving
from metaplast.systems.system import System
from metaplast.systems.traced import traced
from metaplast.systems.wrapped import reads_more
from metaplast.terms.algebra import B
from metaplast.terms.term import Term
from metaplast.terms.traces import scalar_trace_of


def serving_terms(system: System, terms: tuple[Term, ...]) -> System:
    """Return a system that also offers the traces, eligibilities and scalars that terms read."""
    scalars = {name for term in terms for name in term.scalars}
    followed = {found[0] for name in scalars if (found := scalar_trace_of(name))}
    system = aging(broadcasting(system, scalars | followed), scalars)
    system = traced(system, {signal for term in terms for signal in term.signals}, scalars)
    return with_eligibilities(system, terms)


def offers(system: System, term: Term) -> bool:
    """Return whether a matrix of a system offers everything that a term reads."""
    served = serving_terms(system, (term,)) if reads_more(term) else system
    return any(group.serves(term) for group in served.groups)


def feedback_name_of(system: System) -> str:
    """Return the name of a system's feedback; "" for a system that has none."""
    return str(getattr(system, "feedback_name", ""))


def require_served(system: System, terms: tuple[Term, ...]) -> None:
    """Check that a system offers what terms read and change.

    Raises:
        UserError: if the system has no matrix that backward terms can change, or lacks a signal.
    """
    _require_backward(system, terms)
    for term in terms:
        _require_signals(system, term)


def _require_backward(system: System, terms: tuple[Term, ...]) -> None:
    backward = [term.name for term in terms if term.is_backward]
    if not backward or any(group.matrix == B for group in system.groups):
        return
    plastic = [name for name in serving(system.name) if all_feedbacks()[name].is_plastic]
    given = feedback_name_of(system)
    if given and plastic:
        raise UserError(
            f"backward terms ({', '.join(backward)}) change plastic backward weights, got "
            f"--feedback {given}; use --feedback {' or '.join(plastic)} or leave the terms out."
        )
    raise UserError(
        f"backward terms ({', '.join(backward)}) change plastic backward weights, which the "
        f"system {system.name} does not have; leave the terms out, or use a pool without "
        f"them, such as --terms all."
    )


def _require_signals(system: System, term: Term) -> None:
    groups = [group for group in system.groups if group.matrix == term.matrix]
    if not groups or any(group.serves(term) for group in groups):
        return
    nearest = min(groups, key=lambda group: len(group.missing(term)))
    raise UserError(
        f"the term {term.name} reads {', '.join(nearest.missing(term))}, which the system "
        f"{system.name} does not offer at {nearest.name}; it offers {nearest.offered}."
    )
