"""Eligibility: an update that is collected in a decaying matrix until a third factor applies it.

    >>> (reward * eligible(outer(post.activity, pre.activity), tau=10)).eligibilities[0].tau
    10.0

Every system offers it (`metaplast.systems.eligible`).
"""

from __future__ import annotations

from dataclasses import replace

from metaplast.terms.formula import Formula, Matrix, Summand
from metaplast.terms.monomial import Eligibility, Monomial
from metaplast.terms.time_constants import require_tau
from metaplast.terms.vectors import Signal
from metaplast.terms.written import FormulaError, spelled


def eligible(formula: Formula | Matrix, tau: float) -> Formula:
    """Return the eligibility of a formula F: E ← (1 − 1/τ) E + F, one number at each synapse.

    E is zero when an episode begins. It is updated before it is used, at every example, or at every
    time step of a sequence, and is not normalised: an update counts fully when it is made, and
    (1 − 1/τ)^d as much d steps later. With τ = 1 it is F itself. To make a rule, multiply it by a
    scalar, `reward * eligible(…)`, or by a signal of each postsynaptic neuron,
    `post.error * eligible(…)`.

    Args:
        formula: F, such as `outer(post.activity, pre.activity)`. If F contains a multiple of the
            weights, it is added at each occurrence, like a product.
        tau: τ ≥ 1, in examples; in time steps in a network that reads sequences.

    Raises:
        FormulaError: if `formula` is not a formula or contains an eligibility, or if τ is not
            between 1 and 1e9.
    """
    if not isinstance(formula, Summand):
        raise FormulaError(
            f"eligible() takes a formula, got {spelled(formula)}; write "
            f"eligible(outer(post.activity, pre.activity), tau=10)."
        )
    time, found = (
        require_tau("an eligibility", tau, "eligible(formula, tau=10)"),
        formula.as_formula(),
    )
    if found.eligibilities:
        raise FormulaError(
            "eligible() takes a formula without an eligibility in it; write one eligible(…) around "
            "the whole update."
        )
    if time == 1:
        return found
    matrix = found.matrix
    ones = Signal(matrix.rows, "one"), Signal(matrix.columns, "one")
    parts = tuple(
        replace(m, row=ones[0], column=ones[1], power=1) if m.row is None else m
        for m in found.monomials
    )
    kept = Eligibility(Formula(matrix, parts), time)
    return Formula(matrix, (Monomial(1.0, (), *ones, eligibility=kept),))
