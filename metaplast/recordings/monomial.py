"""Candidate terms of a rule that is inferred from recordings: xᵃ yᵇ Wᶜ rᵈ at every synapse.

x is the activity of the presynaptic neuron, y the activity of the postsynaptic neuron, W the weight
between them, and r a reward that all synapses share:

    ΔW_ij = η Σ_k θ_k x_j^a y_i^b W_ij^c r^d.

A term may have memory: traces of x, y and r as further factors, and an eligibility of its factors
x, y and W; see `memory`. `x_20y` is x̄ y with a trace of 20 steps, and `xyr_e5` is r times an
eligibility of x y with 5 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from metaplast.base.errors import UserError, require, shown, unknown_name
from metaplast.base.words import words
from metaplast.recordings.memory import (
    NAME,
    NOTHING,
    Clock,
    Memory,
    bars,
    ending,
    letters,
    memory_in,
    rounded,
)
from metaplast.terms.algebra import Formula, Mapped, Signal, W, eligible, outer, post, pre, scalar
from metaplast.terms.generated import SOURCE
from metaplast.terms.term import Term
from metaplast.terms.traces import trace
from metaplast.terms.vectors import Population, mapped

# The highest power in a term of the algebra.
MOST = 3
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_NAMED_POOLS = ("monomials:2", "monomials:3", "taylor", "taylor-reward")


@dataclass(frozen=True, order=True)
class MonomialTerm:
    """The term x^pre y^post W^weight r^reward.

    Attributes:
        pre: exponent of the presynaptic activity x.
        post: exponent of the postsynaptic activity y.
        weight: exponent of the weight W.
        reward: exponent of the reward r.
        memory: traces that multiply the term, and its eligibility.
    """

    pre: int = 0
    post: int = 0
    weight: int = 0
    reward: int = 0
    memory: Memory = NOTHING

    def __post_init__(self) -> None:
        """Check the exponents.

        Raises:
            UserError: if an exponent is not a whole number from 0 to 3, or if the term has an
                eligibility but no factor x, y or W for it.
        """
        require(
            all(isinstance(e, int) and 0 <= e <= MOST for e in self.exponents),
            f"the exponents of a monomial are whole numbers from 0 to {MOST}, got "
            f"{shown(self.exponents)}.",
        )
        collected = self.pre or self.post or self.weight or self.memory.pre or self.memory.post
        require(
            not self.memory.eligible or bool(collected),
            "an eligibility needs a factor x, y or W to collect; write it as in xyr_e5.",
        )

    @property
    def exponents(self) -> tuple[int, int, int, int]:
        """The exponents of x, y, W and r."""
        return self.pre, self.post, self.weight, self.reward

    @cached_property
    def name(self) -> str:
        """The name in files and on the command line: `xy`, `y2w`, `xr`; `one` for 1."""
        parts, traces = zip("xywr", self.exponents, strict=True), letters(self.memory)
        text = "".join((s + (str(p) if p > 1 else "") if p else "") + traces.get(s, "")
                       for s, p in parts)  # fmt: skip
        return text + ending(self.memory) or "one"

    @cached_property
    def label(self) -> str:
        """The printed form, such as y² W, x̄(20) y or r E(5){x y}; 1 for the constant term."""
        traces, found = bars(self.memory), dict[str, list[str]]()
        for s, p in zip("xyWr", self.exponents, strict=True):
            own = [s + (str(p).translate(_SUPERSCRIPT) if p > 1 else "")] if p else []
            found[s] = [*own, traces[s]] if s in traces else own
        reward = found.pop("r")
        inner = [factor for own in found.values() for factor in own]
        if self.memory.eligible:
            inner = [f"E({rounded(self.memory.eligible)}){{{' '.join(inner)}}}"]
            return " ".join(reward + inner)
        return " ".join(inner + reward) or "1"

    @property
    def degree(self) -> int:
        """The sum of the exponents."""
        return sum(self.exponents)

    def formula(self) -> Formula:
        """Return the term as a formula; the reward is the scalar `reward` of the system."""
        memory, reward = self.memory, scalar("reward")
        left = _side("post", self.post, memory.post, memory.post_power)
        right = _side("pre", self.pre, memory.pre, memory.pre_power)
        found, times = outer(left, right), self.weight
        if times and left == post.one and right == pre.one:
            found, times = W.as_formula(), times - 1
        for _ in range(times):
            found = W * found
        if memory.eligible:
            found = eligible(found, memory.eligible)
        if memory.reward:
            found = trace(reward, memory.reward) * found
        for _ in range(self.reward):
            found = reward * found
        return found

    @property
    def has_reward(self) -> bool:
        """Whether the term reads the reward or its trace."""
        return bool(self.reward or self.memory.reward)

    def timed(self, taus: Mapping[Clock, float]) -> MonomialTerm:
        """Return the term with other time constants."""
        return replace(self, memory=self.memory.timed(taus)) if self.memory.clocks else self

    def to_term(self) -> Term:
        """Return the term in the form that rules and rule files use."""
        words = {
            "presynaptic activity": self.pre,
            "postsynaptic activity": self.post,
            "weight": self.weight,
            "reward": self.reward,
        }
        parts = [f"{w}{f' to the power {p}' if p > 1 else ''}" for w, p in words.items() if p]
        parts += [f"a trace of {c.label}" for c in self.memory.clocks if c.kind != "e"]
        summary = " times ".join(parts) or "a constant"
        summary += ", with an eligibility" if self.memory.eligible else ""
        return Term(self.name, self.formula(), SOURCE, summary)


def _side(name: Population, power: int, tau: float, followed: int) -> Signal | Mapped:
    """Return the product of a power of an activity and its trace."""
    own, one = Signal(name, "activity"), Signal(name, "one")
    found = one if not power else own if power == 1 else own**power
    if not tau:
        return found
    kept = trace(own if followed == 1 else own**followed, tau)
    return kept if not power else mapped(found) * kept


def equation(terms: tuple[MonomialTerm, ...], theta: tuple[float, ...]) -> str:
    """Return a rule in one line, such as `ΔW = 1.02 x y − 0.98 y² W`: per step, without η."""
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
    """Return the 27 terms with exponents 0, 1, 2 of x, y, W; with `reward`, also of r: 81 terms."""
    powers, rewards = range(3), range(3 if reward else 1)
    return tuple(
        MonomialTerm(a, b, c, d) for d in rewards for a in powers for b in powers for c in powers
    )


def up_to(degree: int, *, reward: bool = False) -> tuple[MonomialTerm, ...]:
    """Return the monomials of x, y, W with exponents that sum to at most `degree`.

    With `reward`, each of them also occurs multiplied by r.
    """
    powers = range(degree + 1)
    plain = [
        MonomialTerm(a, b, c) for a in powers for b in powers for c in powers if a + b + c <= degree
    ]
    more = [MonomialTerm(t.pre, t.post, t.weight, 1) for t in plain] if reward else []
    return (*plain, *more)


def monomial(text: str) -> MonomialTerm:
    """Return the monomial with a name such as `xy`, `y2W`, `x_20y`, `xyr_e5` or `one`.

    Raises:
        UserError: if the text is not the name of a monomial.
    """
    word = text.strip().replace(" ", "").replace("^", "").replace("²", "2").replace("³", "3")
    if word.lower() in ("one", "1"):
        return MonomialTerm()
    found = NAME.fullmatch(word)
    if not word or found is None:
        raise unknown_name(
            "monomial", text, (t.name for t in up_to(3)),
            [t.name for t in taylor(reward=True)],
            ", each also times r, as in xyr, or with traces and an eligibility, as in x_20y_5r_e5",
        )  # fmt: skip
    x, y, w, r = (0 if found[s] is None else int(found[s] or 1) for s in "xywr")
    return MonomialTerm(x, y, w, r, memory_in(found))


def candidates(text: str) -> tuple[MonomialTerm, ...]:
    """Return the candidates for a value of `--terms`: a pool or a list of monomials.

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
    if len(names) == 1 and NAME.fullmatch(names[0]) is None and names[0].lower() != "one":
        known = [*_NAMED_POOLS, *(t.name for t in up_to(2))]
        raise unknown_name("pool or monomial", names[0], known)
    terms = tuple(map(monomial, names))
    require(
        len(set(terms)) == len(terms),
        f"each term may occur once, got {shown(text)}; remove the repeats.",
    )
    return terms
