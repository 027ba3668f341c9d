"""A candidate plasticity term: one formula, with where it was published and how it may be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from keyword import iskeyword
from math import isfinite
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from metaplast.algebra import B, Formula, FormulaError, Matrix, Projection, Signal, Vector, W
from metaplast.errors import UserError, require
from metaplast.notation import LATEX, TEXT, Notation
from metaplast.operator import Operator
from metaplast.written import WORKS, spelled


@dataclass(frozen=True)
class Synapses:
    """The signals at both ends of one weight matrix, as they are before it changes.

    Shapes: `operator` [episode, row, column]; activities and errors [episode, neuron] of the post
    and the pre population.
    """

    operator: Operator
    post_activity: Tensor
    post_error: Tensor
    pre_activity: Tensor
    pre_error: Tensor

    def at(self, operator: Operator) -> Synapses:
        """Return the same signals at another matrix between the same two populations."""
        return replace(self, operator=operator)

    def signal(self, signal: Signal) -> Tensor:
        """Return the value of a signal, [episode, neuron]."""
        activity, error = (
            (self.post_activity, self.post_error)
            if signal.population == "post"
            else (self.pre_activity, self.pre_error)
        )
        if signal.kind == "one":
            return torch.ones_like(activity)
        return activity if signal.kind == "activity" else error


@dataclass(frozen=True)
class DenseFormula:
    """A term outside the algebra: any differentiable torch function of the synapses' signals.

    Engines that need the declared form refuse it; the others run it.

    Attributes:
        matrix: what it changes, `algebra.W` or `algebra.B`.
        update: maps `Synapses` to ΔM, [episode, row, column]; `synapses.operator.tensor` is M.
        vectors: the signals it reads.
        is_local: whether each synapse needs only its own two neurons and weight.
        text: the right-hand side of the equation in Unicode.
        latex: the same in LaTeX.
    """

    matrix: Matrix
    update: Callable[[Synapses], Tensor]
    vectors: frozenset[Vector]
    is_local: bool
    text: str
    latex: str

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            FormulaError: if one is of the wrong kind.
        """
        vectors = self.vectors
        kinds = (
            ("matrix", self.matrix in (W, B), "algebra.W or algebra.B"),
            ("update", callable(self.update), "a function of Synapses"),
            (
                "vectors",
                isinstance(vectors, frozenset | set | tuple | list)
                and all(isinstance(vector, Signal | Projection) for vector in vectors),
                "the signals that it reads, such as {post.error, pre.activity}",
            ),
            ("is_local", isinstance(self.is_local, bool), "True or False"),
            ("text", isinstance(self.text, str) and bool(self.text), "its equation as text"),
            ("latex", isinstance(self.latex, str) and bool(self.latex), "its equation in LaTeX"),
        )
        for name, is_right, expected in kinds:
            if not is_right:
                raise FormulaError(
                    f"a DenseFormula's {name} must be {expected}, got "
                    f"{spelled(getattr(self, name))}."
                )
        object.__setattr__(self, "vectors", frozenset(vectors))


@dataclass(frozen=True)
class Term:
    """A candidate term of a plasticity rule, ΔM = θ · formula.

    Attributes:
        name: how the field calls it; rules and files are keyed by it.
        formula: the one declaration everything else is derived from.
        citation: publication and equation.
        summary: what it does, in a few words.
        aliases: other names accepted on input, such as "F0".
        initial: θ at which meta-learning starts.
        nonnegative: whether θ < 0 makes no physical sense (a decay that amplifies).
        in_pool: whether `--terms all` (forward terms) or `all+backward` includes it.
    """

    name: str
    formula: Formula | DenseFormula
    citation: str
    summary: str = ""
    aliases: tuple[str, ...] = ()
    initial: float = 0.0
    nonnegative: bool = False
    in_pool: bool = True

    def __post_init__(self) -> None:
        """Check every field; the name becomes part of files and generated code.

        Raises:
            UserError: if the name is not a lower-case identifier, the formula is none, or another
                field is of the wrong kind.
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
        for what in ("nonnegative", "in_pool"):
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
        """The weights the term changes: forward `W` or backward `B`."""
        return self.formula.matrix

    @property
    def is_backward(self) -> bool:
        """True if the term changes the backward weights."""
        return self.matrix.name == "B"

    @property
    def is_local(self) -> bool:
        """True if each synapse needs only y, e of its two neurons and its own weight."""
        return self.formula.is_local

    @property
    def locality(self) -> str:
        """The locality label printed in tables."""
        return "local" if self.is_local else "non-local"

    def reads(self, signal: Signal) -> bool:
        """Return whether the term needs `signal`."""
        return signal in self.formula.vectors

    def spell(self, notation: Notation = TEXT) -> str:
        """Return the right-hand side of the term's equation."""
        if isinstance(self.formula, DenseFormula):
            return self.formula.latex if notation is LATEX else self.formula.text
        return notation.formula(self.formula)


def _checked_formula(name: str, formula: object) -> Formula | DenseFormula:
    """Return a term's formula; a matrix stands for itself.

    Raises:
        FormulaError: if it is none.
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
        UserError: if they are no terms.
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


def dense_update(name: str, formula: DenseFormula, synapses: Synapses) -> Tensor:
    """Return what a dense term does, [episode, row, column].

    Raises:
        UserError: if its function returns anything else.
    """
    update = formula.update(synapses)
    matrix = synapses.operator.tensor
    if not isinstance(update, Tensor):
        raise UserError(
            f"{name}: the update must be a tensor of the shape of its matrix, "
            f"{tuple(matrix.shape)}, got {spelled(update)}."
        )
    kind, wanted = ((x.shape, x.dtype, x.device) for x in (update, matrix))
    if kind != wanted:
        raise UserError(
            f"{name}: the update must be [episode, row, column] as its matrix, "
            f"{tuple(wanted[0])} of {wanted[1]} on {wanted[2]}, got {tuple(kind[0])} of {kind[1]} "
            f"on {kind[2]}."
        )
    return update


def full_update(term: Term, synapses: Synapses) -> Tensor:
    """Return the term's update F, [episode, row, column], monomial by monomial.

    The plain way, one full matrix for each monomial: for the reference engine, calibration and
    diagnosis, where nothing may be shared with the compiled plasticity tensor.
    """
    formula = term.formula
    if not isinstance(formula, Formula):
        return dense_update(term.name, formula, synapses)
    matrix = synapses.operator.tensor

    def value(vector: Vector) -> Tensor:
        if isinstance(vector, Projection):
            return torch.einsum("erc,er->ec", matrix, value(vector.signal))
        return synapses.signal(vector)

    update = torch.zeros_like(matrix)
    for monomial in formula.monomials:
        part = matrix
        if monomial.row is not None and monomial.column is not None:
            part = torch.einsum("er,ec->erc", value(monomial.row), value(monomial.column))
        for gate in monomial.gates:
            part = part * (value(gate.left) * value(gate.right)).sum(-1)[:, None, None]
        update = update + monomial.coefficient * part
    return update
