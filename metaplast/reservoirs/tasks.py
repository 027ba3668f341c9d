"""The device that an output moves: a pen, or an arm of several segments."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require

# Where the arm is fixed.
SHOULDER = (0.0, -2.0)
# Longest segment, so that squared distances stay finite.
_LONGEST = 1e9
_LENGTHS = {"2": (1.8, 1.8), "3": (1.8, 1.2, 0.6)}
_HELP = "write pen, arm:2, arm:3, or arm: and at least two lengths, such as arm:1.8,1.2,0.6"


@dataclass(frozen=True)
class Task:
    """The map from an output z to a position h(z) in the plane.

        pen:  h(z) = z
        arm:  α_j = π Σ_{i≤j} z_i,   h(z) = (Σ_j l_j sin α_j, −2 + Σ_j l_j cos α_j)

    Attributes:
        lengths: the lengths of the arm's segments, from the shoulder at (0, −2) outwards; () for a
            pen.
    """

    lengths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            UserError: if there is only one length, or one is not a positive number, or too large.
        """
        require(len(self.lengths) != 1, "an arm needs at least two segments.")
        require(
            all(isinstance(each, Real) and 0 < each <= _LONGEST for each in self.lengths),
            f"the lengths of an arm must be positive and at most {_LONGEST:g}, not {self.lengths}.",
        )

    @property
    def is_arm(self) -> bool:
        """Whether outputs are angles."""
        return bool(self.lengths)

    @property
    def outputs(self) -> int:
        """Number of outputs K."""
        return len(self.lengths) or 2

    @property
    def name(self) -> str:
        """The task as a user writes it."""
        for segments, lengths in _LENGTHS.items():
            if lengths == self.lengths:
                return f"arm:{segments}"
        return "arm:" + ",".join(f"{each:g}" for each in self.lengths) if self.is_arm else "pen"

    def position(self, z: Numbers) -> Numbers:
        """Return h(z), [..., 2], of outputs [..., output]."""
        if not self.is_arm:
            return z
        angles = np.pi * np.cumsum(z, -1)
        lengths = np.asarray(self.lengths)
        x, y = (lengths * np.sin(angles)).sum(-1), (lengths * np.cos(angles)).sum(-1)
        return np.stack([SHOULDER[0] + x, SHOULDER[1] + y], -1)

    def require_reach(self, target: Numbers) -> None:
        """Check that the arm can reach all points of a target, [step, 2].

        Raises:
            UserError: if a point is too far from the shoulder, or too near.
        """
        if not self.is_arm:
            return
        distance = np.hypot(*(target - SHOULDER).T)
        total = sum(self.lengths)
        nearest = max(0.0, 2 * max(self.lengths) - total)
        require(
            float(distance.max()) <= total,
            f"{self.name} reaches {total:g} from its shoulder at (0, −2), but the target needs "
            f"{distance.max():.4g}; take longer segments or a nearer target.",
        )
        require(
            float(distance.min()) >= nearest,
            f"{self.name} cannot reach points nearer than {nearest:g} to its shoulder at (0, −2), "
            f"but the target comes as near as {distance.min():.4g}.",
        )


PEN = Task()


def get_task(text: str) -> Task:
    """Return the task written as `pen`, `arm:2`, `arm:3` or `arm:LENGTHS`.

    Raises:
        UserError: if the text is none of these.
    """
    name, colon, argument = text.partition(":")
    if name == "pen" and not colon:
        return PEN
    require(name == "arm" and bool(colon), f"unknown task {text!r}; {_HELP}.")
    if argument in _LENGTHS:
        return Task(_LENGTHS[argument])
    try:
        lengths = tuple(float(each) for each in argument.split(","))
    except ValueError:
        raise UserError(f"{text!r} has no lengths; {_HELP}.") from None
    require(len(lengths) > 1, f"{text!r} has only one length; {_HELP}.")
    return Task(lengths)
