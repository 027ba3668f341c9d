"""Write formulas in human-readable form: Unicode, ASCII or LaTeX."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from metaplast.terms.algebra import (
    AnyGate,
    Eligibility,
    Formula,
    Mapped,
    Monomial,
    Projection,
    Scalar,
    Signal,
    Vector,
)
from metaplast.terms.fading import fading_of
from metaplast.terms.functions import FUNCTIONS
from metaplast.terms.traces import scalar_trace_of, trace_of

# Which spelling of a function a notation uses.
Spelling = Literal["text", "ascii", "latex"]


@dataclass(frozen=True)
class Notation:
    """How one output format writes the parts of an equation."""

    symbols: dict[str, str]
    levels: dict[str, str]
    matrix: dict[str, str]
    delta: str
    transpose: str
    minus: str
    space: str
    theta: str
    underscore: str
    word: str = "{name}"
    power: str = "e{exponent:+03d}"
    functions: Spelling = "text"
    product: str = " ⊙ "
    exponents: tuple[str, ...] = ("", "²", "³")
    trace: str = "⟨{0}, τ={tau}⟩"
    eligibility: str = "elig({0}, τ={tau})"
    fading: str = "(1+n/{tau})⁻¹"

    def signal(self, signal: Signal | Mapped) -> str:
        """Write a signal with its layer index, or a function of signals; ones have no index."""
        if isinstance(signal, Mapped):
            parts = [
                getattr(FUNCTIONS[name], self.functions).format(self.signal(each))
                for each, name in signal.factors
            ]
            return parts[0] if len(parts) == 1 else f"({self.product.join(parts)})"
        followed = trace_of(signal)
        if followed is not None:
            tau = f"{followed.tau:.12g}"
            return self.trace.format(self.signal(followed.followed), tau=tau)
        symbol = self.symbols.get(signal.kind) or self.name(signal.kind)
        return symbol if signal.kind == "one" else symbol + self.levels[signal.population]

    def name(self, name: str) -> str:
        """Write the name of a system's own signal or scalar."""
        return self.word.format(name=name.replace("_", self.underscore))

    def row_vector(self, vector: Vector) -> str:
        """Write vectorᵀ: yᵀ for a signal, uᵀM for a projection Mᵀu."""
        if isinstance(vector, Projection):
            return self.space.join(
                (self.signal(vector.signal) + self.transpose, self.matrix[vector.matrix.name])
            )
        written = self.signal(vector)
        if isinstance(vector, Mapped) and len(vector.factors) == 1:
            written = f"({written})"  # The function comes before the transpose.
        return written + self.transpose

    def column_vector(self, vector: Vector) -> str:
        """Write a vector: y for a signal, Mᵀu for a projection."""
        if isinstance(vector, Projection):
            matrix = self.matrix[vector.matrix.name] + self.transpose
            return self.space.join((matrix, self.signal(vector.signal)))
        return self.signal(vector)

    def weights(self, matrix: str, power: int) -> str:
        """Write an elementwise power of the weights."""
        return self.matrix[matrix] + self.exponents[power - 1]

    def gate(self, gate: AnyGate) -> str:
        """Write the scalar product leftᵀ right, a projection first (uᵀ M v), or a scalar's name."""
        if isinstance(gate, Scalar):
            fades = fading_of(gate.name)
            if fades is not None:
                return self.fading.format(tau=f"{fades:.12g}")
            followed = scalar_trace_of(gate.name)
            if followed is None:
                return self.name(gate.name)
            return self.trace.format(self.name(followed[0]), tau=f"{followed[1]:.12g}")
        left, right = gate.left, gate.right
        if isinstance(right, Projection):
            left, right = right, left
        return f"({self.row_vector(left)}{self.space}{self.column_vector(right)})"

    def factors(self, monomial: Monomial, matrix: str) -> str:
        """Write a monomial without its coefficient."""
        gates = [self.gate(g) for g in monomial.gates]
        if monomial.row is None or monomial.column is None:
            return self.space.join([*gates, self.matrix[matrix]])
        if monomial.eligibility is not None:
            return self.space.join([*gates, self._eligible(monomial.row, monomial.eligibility)])
        product = [*gates, self.signal(monomial.row), self.row_vector(monomial.column)]
        if not monomial.power:
            return self.space.join(product)
        if all(isinstance(v, Signal) and v.kind == "one" for v in (monomial.row, monomial.column)):
            return self.space.join([*gates, self.weights(matrix, monomial.power)])
        return self.weights(matrix, monomial.power) + self.product + self.space.join(product)

    def _eligible(self, row: Signal | Mapped, eligibility: Eligibility) -> str:
        """Write an eligibility, and the signal that multiplies its rows."""
        inside = self.formula(eligibility.formula)
        written = self.eligibility.format(inside, tau=f"{eligibility.tau:g}")
        if isinstance(row, Signal) and row.kind == "one":
            return written
        return self.signal(row) + self.product + written

    def coefficient(self, name: str) -> str:
        """Write a coefficient that differs from layer to layer."""
        return self.theta.format(name=name.replace("_", self.underscore))

    def number(self, value: float) -> str:
        """Write a number to four digits."""
        mantissa, is_small, exponent = f"{value:.4g}".partition("e")
        return mantissa + (self.power.format(exponent=int(exponent)) if is_small else "")

    def formula(self, formula: Formula) -> str:
        """Write a sum of monomials."""
        parts = []
        for index, monomial in enumerate(formula.monomials):
            sign = self.minus if monomial.coefficient < 0 else "+"
            size = "" if abs(monomial.coefficient) == 1 else f"{abs(monomial.coefficient):g} "
            lead = f" {sign} " if index else (sign if sign == self.minus else "")
            parts.append(lead + size + self.factors(monomial, formula.matrix.name))
        return "".join(parts)


TEXT = Notation(
    symbols={"activity": "y", "error": "e", "one": "1"},
    levels={"post": "ₗ", "pre": "ₗ₋₁"},
    matrix={"W": "Wₗ", "B": "Bₗ"},
    delta="Δ",
    transpose="ᵀ",
    minus="−",
    space=" ",
    theta="θₗ[{name}]",
    underscore="_",
)

# For outputs without Unicode.
ASCII = replace(
    TEXT,
    levels={"post": "_l", "pre": "_{l-1}"},
    matrix={"W": "W_l", "B": "B_l"},
    delta="Delta ",
    transpose="^T",
    minus="-",
    theta="theta_l[{name}]",
    functions="ascii",
    product=" * ",
    trace="<{0}, tau={tau}>",
    eligibility="elig({0}, tau={tau})",
    fading="(1+n/{tau})^-1",
    exponents=("", "^2", "^3"),
)

LATEX = Notation(
    symbols=TEXT.symbols | {"one": r"\mathbf{1}"},
    levels={"post": r"_{\ell}", "pre": r"_{\ell-1}"},
    matrix={"W": r"W_{\ell}", "B": r"B_{\ell}"},
    delta=r"\Delta ",
    transpose=r"^{\top}",
    minus="-",
    space=r"\, ",
    theta=r"\theta_{{\ell,\text{{{name}}}}}",
    underscore=r"\_",
    word=r"\mathrm{{{name}}}",
    power=r" \times 10^{{{exponent}}}",
    functions="latex",
    product=r" \odot ",
    trace=r"\langle {0} \rangle_{{\tau={tau}}}",
    fading=r"(1+n/{tau})^{{-1}}",
    eligibility=r"\mathrm{{elig}}_{{\tau={tau}}}({0})",
    exponents=("", "^{2}", "^{3}"),
)


def equation(formula: Formula, notation: Notation = TEXT) -> str:
    """Return the whole equation, such as `ΔWₗ = −eₗ yₗ₋₁ᵀ`."""
    left = notation.delta + notation.matrix[formula.matrix.name]
    return f"{left} = {notation.formula(formula)}"
