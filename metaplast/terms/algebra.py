"""The vocabulary in which plasticity terms are written: signals, outer products, gates, decay.

A term is declared once, as a formula:

    >>> error_hebbian = -outer(post.error, pre.activity)
    >>> oja = outer(post.activity, pre.activity) - outer(post.activity, W.T @ post.activity)
    >>> decay = -W
    >>> reward_hebbian = scalar("reward") * outer(post.activity, pre.activity)
    >>> bcm = outer(post.activity**2, pre.activity) - 0.1 * outer(post.activity, pre.activity)
    >>> covariance = outer(post.activity, pre.activity) - outer(
    ...     trace(post.activity, tau=100), pre.activity
    ... )
    >>> reinforce = surprise * eligible(outer(post.signal("deviation"), pre.activity), tau=4)
    >>> soft_bound = outer(post.activity, pre.activity) - W * outer(post.activity, pre.activity)

The torch evaluation, the plasticity tensor of the fast engines, the printed equation and the
locality label are derived from the formula. Every formula is a sum of monomials of one form,

    coefficient · gate · … · gate · (row ⊗ column) ⊙ M^power,    or    coefficient · gate · … · M,

with row ∈ {y, e, 1} on the row side of the matrix M, column ∈ {y, e, 1, Mᵀy, Mᵀe} on its column
side, and each gate a scalar product of two vectors of one side, or a scalar that the system offers,
such as a reward. Row and column may also be a function of one signal (`post.activity**2`, `**3`,
`sign`, `rectified`, `magnitude`) or a product of two (`post.activity * post.error`). The power of
the weights is elementwise and usually zero; `W * outer(…)` raises it by one. `eligible(F, tau)`
collects a formula F in a decaying matrix, which takes the place of row ⊗ column. `W` (forward
weights, [post, pre]) has post rows and pre columns; `B` (backward weights, [pre, post]) has pre
rows and post columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from metaplast.terms.eligibility import eligible
from metaplast.terms.factors import AnyGate, Gate, Modulation, Scalar
from metaplast.terms.fading import fading
from metaplast.terms.formula import Formula, Matrix, MatrixName, Transposed
from metaplast.terms.monomial import Eligibility, Monomial
from metaplast.terms.traces import trace
from metaplast.terms.vectors import (
    Kind,
    Mapped,
    Population,
    Projection,
    Signal,
    Vector,
    is_kind,
    mapped,
)
from metaplast.terms.written import FormulaError, Part, spelled

__all__ = [
    "AnyGate", "B", "Eligibility", "Formula", "FormulaError", "Gate", "Kind", "Mapped", "Matrix",
    "MatrixName", "Modulation", "Monomial", "Population", "Projection", "Scalar", "Signal",
    "Transposed", "Vector", "W", "dot", "eligible", "fading", "magnitude", "outer", "post", "pre",
    "rectified", "reward", "scalar", "sign", "surprise", "total", "trace",
]  # fmt: skip


@dataclass(frozen=True)
class _Population(Part):
    """The signals of one side of a synapse."""

    name: Population

    @property
    def activity(self) -> Signal:
        """The activity y."""
        return Signal(self.name, "activity")

    @property
    def error(self) -> Signal:
        """The error e from the feedback."""
        return Signal(self.name, "error")

    @property
    def one(self) -> Signal:
        """A vector of ones, one for each neuron."""
        return Signal(self.name, "one")

    def signal(self, kind: Kind) -> Signal:
        """Return a signal of any kind, such as `post.signal("drive")`; the system must offer it.

        Raises:
            FormulaError: if the kind is not a lower-case identifier.
        """
        if not is_kind(kind):
            raise FormulaError(f"a kind of signal is a lower-case identifier, got {kind!r}.")
        return Signal(self.name, kind)

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return self.name

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return f"name a signal, {self.written}.activity, {self.written}.error or {self.written}.one"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a population has the signals activity, error and one, not {name!r}.")


post = _Population("post")
pre = _Population("pre")
W = Matrix("W", rows="post", columns="pre")
B = Matrix("B", rows="pre", columns="post")


def outer(row: Signal | Mapped, column: Vector) -> Formula:
    """Return the formula row ⊗ column; a post row changes `W`, a pre row changes `B`.

    Raises:
        FormulaError: if both vectors are of the same population, or the row is a projection.
    """
    fits = isinstance(row, Signal | Mapped) and isinstance(column, Vector)
    if not fits or column.population == row.population:
        raise FormulaError(
            f"outer() takes a signal of one population and a vector of the other, got "
            f"{spelled(row)} and {spelled(column)}; write outer(post.error, pre.activity), or "
            f"outer(post.activity, W.T @ post.activity)."
        )
    matrix = W if row.population == "post" else B
    return Formula(matrix, (Monomial(1.0, (), row, column),))


def dot(left: Vector, right: Vector) -> Gate:
    """Return the gate ⟨left, right⟩ = Σ_i left_i right_i, a sum over one population.

    Raises:
        FormulaError: if the vectors are of different populations.
    """
    fits = all(isinstance(vector, Vector) for vector in (left, right))
    if not fits or left.population != right.population:
        raise FormulaError(
            f"dot() takes two vectors of one population, got {spelled(left)} and "
            f"{spelled(right)}; write dot(post.error, post.activity)."
        )
    return Gate(left, right)


def sign(signal: Signal) -> Mapped:
    """Return the sign of a signal, −1, 0 or 1 for each neuron; its gradient is zero.

    Raises:
        FormulaError: if the argument is not a signal.
    """
    return mapped(signal, "sign")


def rectified(signal: Signal) -> Mapped:
    """Return max(signal, 0) for each neuron.

    Raises:
        FormulaError: if the argument is not a signal.
    """
    return mapped(signal, "rectified")


def magnitude(signal: Signal) -> Mapped:
    """Return |signal| for each neuron.

    Raises:
        FormulaError: if the argument is not a signal.
    """
    return mapped(signal, "magnitude")


def total(signal: Vector) -> Gate:
    """Return the gate 1ᵀsignal, the sum of a signal over its population.

    Raises:
        FormulaError: if the argument is not a signal.
    """
    if not isinstance(signal, Vector):
        raise FormulaError(
            f"total() takes one signal, got {spelled(signal)}; write total(post.error)."
        )
    return Gate(Signal(signal.population, "one"), signal)


def scalar(name: str) -> Scalar:
    """Return a scalar of the system as a gate, such as `scalar("reward")`.

    A scalar is one number for each occurrence, the same at all synapses: the third factor of a
    three-factor rule. The system must offer it.

    Raises:
        FormulaError: if the name is not a lower-case identifier.
    """
    if not is_kind(name):
        raise FormulaError(
            f"the name of a scalar is a lower-case identifier, got {spelled(name)}; write "
            f'scalar("reward").'
        )
    return Scalar(name)


# The reward, and by how much it exceeds its running mean; the system must offer "reward".
reward = scalar("reward")
surprise = reward - trace(reward, tau=20)
