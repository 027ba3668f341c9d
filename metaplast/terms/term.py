"""A candidate plasticity term: a formula, its publication, and how it may be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from keyword import iskeyword
from math import isfinite
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.terms.algebra import (
    AnyGate,
    Eligibility,
    Formula,
    FormulaError,
    Matrix,
    Monomial,
    Projection,
    Scalar,
    Signal,
    Vector,
)
from metaplast.terms.dense_formula import DenseFormula, dense_update
from metaplast.terms.fading import fading_of
from metaplast.terms.notation import LATEX, TEXT, Notation
from metaplast.terms.synapses import Synapses
from metaplast.terms.written import WORKS, spelled

__all__ = ["DenseFormula", "Synapses", "Term", "checked_terms", "full_update"]


# The locality label of terms that are local except for scalars, which reach every synapse.
BROADCAST = "local + broadcast scalar"


@dataclass(frozen=True)
class Term:
    """A candidate term of a plasticity rule, ΔM = θ · formula.

    Attributes:
        name: its usual name in the literature, and its key in rules and files.
        formula: the declaration from which everything else is derived.
        citation: publication and equation.
        summary: its effect, in a few words.
        aliases: other names accepted on input, such as "F0".
        initial: θ at the start of meta-learning.
        nonnegative: whether θ < 0 makes no physical sense, as for a decay, which would amplify.
        in_pool: whether pools of all installed terms include it.
        reads_nonlocal: whether a signal that it reads is itself a sum over other neurons.
    """

    name: str
    formula: Formula | DenseFormula
    citation: str
    summary: str = ""
    aliases: tuple[str, ...] = ()
    initial: float = 0.0
    nonnegative: bool = False
    in_pool: bool = True
    reads_nonlocal: bool = False

    def __post_init__(self) -> None:
        """Check every field; files and generated code contain the name.

        Raises:
            UserError: if the name is not a lower-case identifier, the formula is invalid, or
                another field is of the wrong kind.
        """
        name = self.name
        require(
            isinstance(name, str)
            and name.isidentifier()
            and name.islower()
            and not iskeyword(name),
            f"a term's name must be a lower-case identifier, got {name!r}; rename the term.",
        )
        object.__setattr__(self, "formula", _checked_formula(name, self.formula))
        for what in ("citation", "summary"):
            value = getattr(self, what)
            require(
                isinstance(value, str),
                f"{name}: a term's {what} must be text, got {spelled(value)}; write it in quotes.",
            )
        aliases = self.aliases
        require(
            isinstance(aliases, tuple | list) and all(isinstance(a, str) and a for a in aliases),
            f'{name}: aliases must be a tuple of names, such as ("F0",), got {aliases!r}.',
        )
        object.__setattr__(self, "aliases", tuple(aliases))
        self._check_start()

    def _check_start(self) -> None:
        for what in ("nonnegative", "in_pool", "reads_nonlocal"):
            value = getattr(self, what)
            require(
                isinstance(value, bool | np.bool_),
                f"{self.name}: {what} must be True or False, got {spelled(value)}.",
            )
            object.__setattr__(self, what, bool(value))
        initial = self.initial
        require(
            isinstance(initial, Real) and not isinstance(initial, bool) and isfinite(initial),
            f"{self.name}: a term's initial coefficient must be a finite number, got "
            f"{spelled(initial)}.",
        )
        object.__setattr__(self, "initial", float(initial))
        require(
            not self.nonnegative or self.initial >= 0,
            f"{self.name}: a coefficient that is never negative cannot start at {self.initial:g}; "
            f"start it at 0 or more.",
        )

    @property
    def matrix(self) -> Matrix:
        """The weights that the term changes: forward `W` or backward `B`."""
        return self.formula.matrix

    @property
    def is_backward(self) -> bool:
        """True if the term changes the backward weights."""
        return self.matrix.name == "B"

    @property
    def is_local(self) -> bool:
        """True if each synapse needs only its neurons' signals, its weight and a count of steps."""
        return self._is_local_formula and not self.broadcast

    @property
    def _is_local_formula(self) -> bool:
        return self.formula.is_local and not self.reads_nonlocal

    @property
    def locality(self) -> str:
        """The locality label printed in tables.

        A term that needs only scalars of the system besides each synapse's own signals and weight
        is "local + broadcast scalar".
        """
        if not self._is_local_formula:
            return "non-local"
        return BROADCAST if self.broadcast else "local"

    @cached_property
    def signals(self) -> frozenset[Signal]:
        """The signals that the term reads, except ones, which every system has."""
        return frozenset(
            vector
            for vector in self.formula.vectors
            if isinstance(vector, Signal) and vector.kind != "one"
        )

    @property
    def scalars(self) -> frozenset[str]:
        """Names of the system's scalars that the term reads."""
        return self.formula.scalars

    @property
    def broadcast(self) -> frozenset[str]:
        """Names of the scalars that something outside the synapse must send to it."""
        return frozenset(name for name in self.scalars if fading_of(name) is None)

    @property
    def eligibilities(self) -> tuple[Eligibility, ...]:
        """The eligibilities that the term reads."""
        return self.formula.eligibilities if isinstance(self.formula, Formula) else ()

    def reads(self, signal: Signal) -> bool:
        """Return whether the term needs `signal`."""
        return signal in self.formula.vectors

    def spell(self, notation: Notation = TEXT) -> str:
        """Return the right-hand side of the term's equation."""
        if isinstance(self.formula, DenseFormula):
            return self.formula.latex if notation is LATEX else self.formula.text
        return notation.formula(self.formula)


def _checked_formula(name: str, formula: object) -> Formula | DenseFormula:
    """Return a term's formula; a matrix is converted to a formula.

    Raises:
        FormulaError: if the formula is invalid.
    """
    if isinstance(formula, Matrix):
        formula = formula.as_formula()
    if isinstance(formula, DenseFormula) or (isinstance(formula, Formula) and formula.monomials):
        return formula
    raise FormulaError(
        f"{name}: a term needs a formula, got {spelled(formula)}; {WORKS}, and any torch function "
        f"of the signals is DenseFormula(W, function, …)."
    )


def checked_terms(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Return terms as a tuple.

    Raises:
        UserError: if `terms` is not a collection of terms.
    """
    require(
        isinstance(terms, Iterable) and not isinstance(terms, str),
        f"terms must be a tuple of terms, got {spelled(terms)}; write (term,) or "
        f"(get_term('oja'),).",
    )
    terms = tuple(terms)
    wrong = [term for term in terms if not isinstance(term, Term)]
    require(
        not wrong,
        f"terms must be Terms, got {spelled(next(iter(wrong), None))} among them; get_term(name) "
        f"returns a registered one.",
    )
    return terms


def full_update(term: Term, synapses: Synapses) -> Tensor:
    """Return the term's update F, [episode, row, column], monomial by monomial.

    It forms one full matrix per monomial. The reference engine, calibration and diagnosis use it,
    because they must not share code with the compiled terms.
    """
    formula, matrix = term.formula, synapses.operator.tensor
    update = torch.zeros_like(matrix)
    if not isinstance(formula, Formula):
        for one in synapses.occurrences():
            update = update + one.weight * dense_update(term.name, formula, one)
        return update
    for monomial in formula.monomials:
        if monomial.is_ungated_decay:
            update = update + monomial.coefficient * matrix
            continue
        if monomial.eligibility is not None:
            update = update + _eligible_part(monomial, monomial.eligibility, synapses)
            continue
        update = update + _weighted(monomial.coefficient * _part(monomial, synapses), synapses)
    return update


def _eligible_part(monomial: Monomial, kept: Eligibility, synapses: Synapses) -> Tensor:
    """Return coefficient · Σ_k m_k ⊙ E_k, with every E_k written out."""
    before, _, keep = synapses.held[kept]
    matrix, total = before, torch.zeros_like(before)
    outside = replace(monomial, eligibility=None)
    for k in range(synapses.count):
        one = _at(synapses, k)
        parts = [part.coefficient * _part(part, one) for part in kept.formula.monomials]
        in_order = synapses.weight == 1
        matrix = keep * (matrix if in_order else before) + torch.stack(parts).sum(0)
        total = total + _weighted(monomial.coefficient * _part(outside, one) * matrix, synapses)
    return total


def _at(synapses: Synapses, k: int) -> Synapses:
    """Return the synapses at occurrence k only."""
    signals = {key: value[:, k : k + 1] for key, value in synapses.signals.items()}
    scalars = {name: value[:, k : k + 1] for name, value in synapses.scalars.items()}
    return Synapses(synapses.operator, signals, scalars=scalars)


def _weighted(part: Tensor, synapses: Synapses) -> Tensor:
    return part if synapses.weight == 1 else synapses.weight * part


def _part(monomial: Monomial, synapses: Synapses) -> Tensor:
    """Return the sum over occurrences of Π gates · (row ⊗ column) ⊙ M^power, or of Π gates · M.

    Shape: [episode, row, column].
    """
    matrix = synapses.operator.tensor

    def value(vector: Vector) -> Tensor:
        if isinstance(vector, Projection):
            return torch.einsum("erc,ekr->ekc", matrix, value(vector.signal))
        return synapses.signal(vector)

    def strength(gate: AnyGate) -> Tensor:
        if isinstance(gate, Scalar):
            return synapses.scalars[gate.name]
        return (value(gate.left) * value(gate.right)).sum(-1)

    gates = [strength(gate) for gate in monomial.gates]
    if monomial.row is None or monomial.column is None:
        return matrix * torch.stack(gates).prod(0).sum(1)[:, None, None]
    row, column = value(monomial.row), value(monomial.column)
    if row.shape[1] > 1:
        for gate in gates:
            row = row * gate[..., None]
        gates = []
    part = torch.einsum("ekr,ekc->erc", row, column)
    for gate in gates:
        part = part * gate[:, 0, None, None]
    return part * matrix**monomial.power if monomial.power else part
