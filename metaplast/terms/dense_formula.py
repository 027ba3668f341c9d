"""Terms outside the algebra: any differentiable torch function of the signals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from metaplast.base.errors import UserError
from metaplast.terms.algebra import B, FormulaError, Mapped, Matrix, Projection, Vector, W
from metaplast.terms.synapses import Synapses
from metaplast.terms.vectors import is_kind
from metaplast.terms.written import spelled


@dataclass(frozen=True)
class DenseFormula:
    """A term outside the algebra: any differentiable torch function of the synapses' signals.

    Engines that need the declared form refuse it; the others run it.

    Attributes:
        matrix: the matrix that it changes, `algebra.W` or `algebra.B`.
        update: maps the `Synapses` at one occurrence (signals [episode, neuron]) to ΔM,
            [episode, row, column]; `synapses.operator.tensor` is M.
        vectors: the signals that it reads; the signals in projections are added.
        is_local: whether each synapse needs only its own two neurons and weight, besides scalars.
        text: the right-hand side of the equation in Unicode.
        latex: the right-hand side in LaTeX.
        scalars: names of the system's scalars that it reads as `synapses.scalars[name]`, [episode].
    """

    matrix: Matrix
    update: Callable[[Synapses], Tensor]
    vectors: frozenset[Vector]
    is_local: bool
    text: str
    latex: str
    scalars: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            FormulaError: if a field is of the wrong kind.
        """
        vectors, scalars = self.vectors, self.scalars
        kinds = (
            ("matrix", self.matrix in (W, B), "algebra.W or algebra.B"),
            ("update", callable(self.update), "a function of Synapses"),
            (
                "vectors",
                isinstance(vectors, frozenset | set | tuple | list)
                and all(isinstance(vector, Vector) for vector in vectors),
                "the signals that it reads, such as {post.error, pre.activity}",
            ),
            (
                "scalars",
                isinstance(scalars, frozenset | set | tuple | list) and all(map(is_kind, scalars)),
                'the names of the scalars that it reads, such as {"reward"}',
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
        projected = {vector.signal for vector in vectors if isinstance(vector, Projection)}
        projected |= {s for vector in vectors if isinstance(vector, Mapped) for s in vector.signals}
        object.__setattr__(self, "vectors", frozenset(vectors) | projected)
        object.__setattr__(self, "scalars", frozenset(scalars))


def dense_update(name: str, formula: DenseFormula, synapses: Synapses) -> Tensor:
    """Return the update by a dense term, [episode, row, column].

    Raises:
        UserError: if the term's function does not return such a tensor.
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
            f"{name}: the update must be [episode, row, column] like its matrix, "
            f"{tuple(wanted[0])} of {wanted[1]} on {wanted[2]}, got {tuple(kind[0])} of {kind[1]} "
            f"on {kind[2]}."
        )
    return update
