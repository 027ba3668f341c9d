"""What a term remembers: traces of x, y and the reward, and an eligibility.

    x̄(τ) ← x̄ + (x − x̄)/τ          a trace, of x, y, x², y² or the reward r
    E(τ) ← (1 − 1/τ) E + F          an eligibility of F, a product of powers of x, y and W

Both are zero when a trial begins, and are updated before they are used; see
`metaplast.terms.traces` and `metaplast.terms.eligibility`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from metaplast.base.errors import UserError, require, shown
from metaplast.terms.time_constants import MOST_TAU

_TAU = r"\d+(?:[._]\d+)?"
# A factor in the name of a term: a power of a letter, or the letter with its trace, as in xx_20.
_SIDES = "".join(
    rf"(?:{s}(?P<{s}>[23]?)(?!\d|_\d))?(?:{s}(?P<{s}_power>2?)_(?P<{s}_tau>{_TAU}))?" for s in "xy"
)
NAME = re.compile(
    rf"{_SIDES}(?:w(?P<w>[23]?))?(?:r(?P<r>[23]?)(?!\d|_\d))?(?:r_(?P<r_tau>{_TAU}))?"
    rf"(?:_e(?P<e_tau>{_TAU}))?",
    re.IGNORECASE,
)
_BARS = {"x": "x̄", "y": "ȳ", "r": "r̄"}


class Clock(NamedTuple):
    """A time constant of a rule, with the trace or eligibility to which it belongs.

    Attributes:
        kind: "x", "y" or "r" for a trace, "e" for eligibilities.
        power: 1 or 2; a trace follows this power of the activity.
        tau: τ.
    """

    kind: str
    power: int
    tau: float

    @property
    def label(self) -> str:
        """The trace or eligibility to which it belongs, as printed: x̄, ⟨y²⟩, r̄ or E."""
        if self.kind == "e":
            return "E"
        return f"⟨{self.kind}²⟩" if self.power == 2 else _BARS[self.kind]


@dataclass(frozen=True, order=True)
class Memory:
    """The traces that multiply a term, and its eligibility; τ = 0 means that there is none.

    Attributes:
        pre: τ of the trace of x, or of x² if `pre_power` is 2.
        post: the same for y.
        reward: τ of the trace of the reward.
        eligible: τ of the eligibility, which collects all factors except the reward.
    """

    pre: float = 0.0
    pre_power: int = 1
    post: float = 0.0
    post_power: int = 1
    reward: float = 0.0
    eligible: float = 0.0

    def __post_init__(self) -> None:
        """Check the time constants.

        Raises:
            UserError: if a time constant is not above 1 and at most 1e9.
        """
        for tau in (self.pre, self.post, self.reward, self.eligible):
            require(
                tau == 0 or 1 < tau <= MOST_TAU,
                f"the time constant of a trace or an eligibility must be above 1 and at most 1e9 "
                f"steps, got {tau:g}; with 1 step there is no memory.",
            )

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """The time constants."""
        found = (
            Clock("x", self.pre_power, self.pre), Clock("y", self.post_power, self.post),
            Clock("r", 1, self.reward), Clock("e", 1, self.eligible),
        )  # fmt: skip
        return tuple(clock for clock in found if clock.tau)

    def timed(self, taus: Mapping[Clock, float]) -> Memory:
        """Return the memory with other time constants."""
        fields = {"x": "pre", "y": "post", "r": "reward", "e": "eligible"}
        changes: dict[str, Any] = {fields[c.kind]: taus[c] for c in self.clocks if c in taus}
        return replace(self, **changes)


NOTHING = Memory()


def letters(memory: Memory) -> dict[str, str]:
    """Return each trace as written in a term's name, by letter: `x_20`, `y2_100`."""
    return {
        c.kind: f"{c.kind}{2 if c.power == 2 else ''}_{_spelled(c.tau)}"
        for c in memory.clocks
        if c.kind != "e"
    }


def ending(memory: Memory) -> str:
    """Return the end of a term's name: `_e5` for an eligibility of 5 steps."""
    return f"_e{_spelled(memory.eligible)}" if memory.eligible else ""


def _spelled(tau: float) -> str:
    return f"{tau:.4g}".replace(".", "_") if tau < 1e4 else f"{tau:.0f}"


def bars(memory: Memory) -> dict[str, str]:
    """Return the printed form of each trace, by letter: x̄(20)."""
    return {c.kind: f"{c.label}({rounded(c.tau)})" for c in memory.clocks if c.kind != "e"}


def rounded(tau: float) -> str:
    """Return the printed form of a time constant."""
    return f"{tau:.3g}" if tau < 1000 else f"{tau:.0f}"


def memory_in(found: re.Match[str]) -> Memory:
    """Return the memory in a name matched by `NAME`.

    Raises:
        UserError: if a time constant is too small or too large.
    """

    def tau(name: str) -> float:
        return float((found[name] or "0").replace("_", "."))

    for name in ("x_tau", "y_tau", "r_tau", "e_tau"):
        if found[name] is not None and not tau(name) > 1:
            raise UserError(
                f"the time constant in {shown(found[0])} must be above 1 step; with 1 step there "
                f"is no memory."
            )
    powers = (int(found[f"{side}_power"] or 1) for side in "xy")
    pre, post = powers
    return Memory(tau("x_tau"), pre, tau("y_tau"), post, tau("r_tau"), tau("e_tau"))
