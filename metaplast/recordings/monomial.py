"""Candidate terms of a rule that is read from recordings: xᵃ yᵇ Wᶜ rᵈ at every synapse.

x is the activity of the presynaptic neuron, y that of the postsynaptic one, W the weight between
them, and r a reward that all synapses share:

    ΔW_ij = η Σ_k θ_k x_j^a y_i^b W_ij^c r^d.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from metaplast.base.errors import UserError, require, shown, unknown_name
from metaplast.base.words import words
from metaplast.terms.algebra import Formula, W, outer, post, pre, scalar
from metaplast.terms.generated import SOURCE
from metaplast.terms.term import Term

# The highest power that a term of the algebra has.
MOST = 3
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_LABEL = re.compile(r"(?:x([23]?))?(?:y([23]?))?(?:w([23]?))?(?:r([23]?))?", re.IGNORECASE)
_NAMED_POOLS = ("monomials:2", "monomials:3", "taylor", "taylor-reward")


@dataclass(frozen=True, order=True)
class MonomialTerm:
    """The term x^pre y^post W^weight r^reward.

    Attributes:
        pre: exponent of the presynaptic activity x.
        post: exponent of the postsynaptic activity y.
        weight: exponent of the weight W.
        reward: exponent of the reward r.
    """

    pre: int = 0
    post: int = 0
    weight: int = 0
    reward: int = 0

    def __post_init__(self) -> None:
        """Check the exponents.

        Raises:
            UserError: if one is not a whole number from 0 to 3.
        """
        require(
            all(isinstance(e, int) and 0 <= e <= MOST for e in self.exponents),
            f"the exponents of a monomial are whole numbers from 0 to {MOST}, got "
            f"{shown(self.exponents)}.",
        )

    @property
    def exponents(self) -> tuple[int, int, int, int]:
        """The exponents of x, y, W and r."""
        return self.pre, self.post, self.weight, self.reward

    @cached_property
    def name(self) -> str:
        """The name as users write it and files hold it: `xy`, `y2w`, `xr`; `one` for 1."""
        parts = zip("xywr", self.exponents, strict=True)
        return "".join(s + (str(p) if p > 1 else "") for s, p in parts if p) or "one"

    @cached_property
    def label(self) -> str:
        """The printed form, such as y² W; 1 if all exponents are zero."""
        parts = zip("xyWr", self.exponents, strict=True)
        found = [s + (str(p).translate(_SUPERSCRIPT) if p > 1 else "") for s, p in parts if p]
        return " ".join(found) or "1"

    @property
    def degree(self) -> int:
        """The sum of the exponents."""
        return sum(self.exponents)

    def formula(self) -> Formula:
        """Return the term in the algebra; the reward is the scalar `reward` of the system."""
        row, column = post.activity, pre.activity
        left = post.one if not self.post else row if self.post == 1 else row**self.post
        right = pre.one if not self.pre else column if self.pre == 1 else column**self.pre
        found, times = outer(left, right), self.weight
        if times and not self.pre and not self.post:
            found, times = W.as_formula(), times - 1
        for _ in range(times):
            found = W * found
        for _ in range(self.reward):
            found = scalar("reward") * found
        return found

    def to_term(self) -> Term:
        """Return the term as rules and their files hold it."""
        words = {
            "presynaptic activity": self.pre,
            "postsynaptic activity": self.post,
            "weight": self.weight,
            "reward": self.reward,
        }
        parts = (f"{w}{f' to the power {p}' if p > 1 else ''}" for w, p in words.items() if p)
        return Term(self.name, self.formula(), SOURCE, " times ".join(parts) or "a constant")


def equation(terms: tuple[MonomialTerm, ...], theta: tuple[float, ...]) -> str:
    """Return a rule as a line, such as `ΔW = 1.02 x y − 0.98 y² W`; per step, without η."""
    if not terms:
        return "ΔW = 0"
    parts = []
    for place, (term, value) in enumerate(zip(terms, theta, strict=True)):
        sign = "−" if value < 0 else "+" if place else ""
        size = f"{abs(value):.3g}"
        body = size if term.label == "1" else f"{size} {term.label}"
        parts.append(f"{sign} {body}" if place else f"{sign}{body}")
    return "ΔW = " + " ".join(parts)


def taylor(*, reward: bool = False) -> tuple[MonomialTerm, ...]:
    """Return the 27 terms with exponents 0, 1, 2 of x, y, W; with the reward 81."""
    powers, rewards = range(3), range(3 if reward else 1)
    return tuple(
        MonomialTerm(a, b, c, d) for d in rewards for a in powers for b in powers for c in powers
    )


def up_to(degree: int, *, reward: bool = False) -> tuple[MonomialTerm, ...]:
    """Return the monomials of x, y, W with exponents that sum to at most `degree`.

    With the reward, each of them also times r.
    """
    powers = range(degree + 1)
    plain = [
        MonomialTerm(a, b, c) for a in powers for b in powers for c in powers if a + b + c <= degree
    ]
    more = [MonomialTerm(t.pre, t.post, t.weight, 1) for t in plain] if reward else []
    return (*plain, *more)


def monomial(text: str) -> MonomialTerm:
    """Return the monomial with a name such as `xy`, `y2W` or `one`.

    Raises:
        UserError: if it is not the name of a monomial.
    """
    word = text.strip().replace(" ", "").replace("^", "").replace("²", "2").replace("³", "3")
    if word.lower() in ("one", "1"):
        return MonomialTerm()
    found = _LABEL.fullmatch(word)
    if not word or found is None:
        raise unknown_name(
            "monomial", text, (t.name for t in up_to(3)),
            [t.name for t in taylor(reward=True)], ", each also times r, as in xyr",
        )  # fmt: skip
    return MonomialTerm(*(0 if p is None else int(p or 1) for p in found.groups()))


def candidates(text: str) -> tuple[MonomialTerm, ...]:
    """Return the candidates that `--terms` names: a pool or a list of monomials.

    Pools: `taylor` (27 terms: exponents 0, 1, 2 of x, y, W), `taylor-reward` (81: also of r),
    `monomials:D` (exponents of x, y, W sum to at most D, which is 2 or 3), and `monomials:D,reward`
    (each of them also times r). A list has commas: `xy,y2W`.

    Raises:
        UserError: if a name is unknown, or a term occurs twice.
    """
    pool, _, option = text.strip().lower().partition(",")
    pool, option = pool.strip(), option.strip()
    if pool in ("taylor", "taylor-reward") and not option:
        return taylor(reward=pool == "taylor-reward")
    if pool.startswith("monomials:") and option in ("", "reward"):
        degree = pool.removeprefix("monomials:")
        if degree not in ("2", "3"):
            raise UserError(
                f"--terms monomials:D takes D = 2 or 3, got {shown(degree)}; taylor has exponents "
                f"up to 2 of each of x, y and W."
            )
        return up_to(int(degree), reward=bool(option))
    names = words("--terms", text, "term")
    if len(names) == 1 and _LABEL.fullmatch(names[0]) is None and names[0].lower() != "one":
        known = [*_NAMED_POOLS, *(t.name for t in up_to(2))]
        raise unknown_name("pool or monomial", names[0], known)
    terms = tuple(map(monomial, names))
    require(
        len(set(terms)) == len(terms),
        f"each term may occur once, got {shown(text)}; remove the repeats.",
    )
    return terms
