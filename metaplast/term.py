"""A candidate plasticity term: one formula, with where it was published and how it may be used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaplast.algebra import Formula, Matrix, Projection, Signal, Vector
from metaplast.errors import require
from metaplast.notation import LATEX, TEXT, Notation
from metaplast.operator import Operator


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
        """Check the name, which becomes part of files and generated code.

        Raises:
            UserError: if the name is not a lower-case identifier.
        """
        require(
            self.name.isidentifier() and self.name.islower(),
            f"a term's name must be a lower-case identifier, got {self.name!r}; rename the term.",
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


def full_update(term: Term, synapses: Synapses) -> Tensor:
    """Return the term's update F, [episode, row, column], monomial by monomial.

    The plain way, one full matrix for each monomial: for the reference engine, calibration and
    diagnosis, where nothing may be shared with the compiled plasticity tensor.
    """
    formula = term.formula
    if not isinstance(formula, Formula):
        return formula.update(synapses)
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
