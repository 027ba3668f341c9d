"""The timing of a sequence's frames, which saves storing a copy of a frame for every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from metaplast.base.coerce import coerce
from metaplast.base.errors import require, require_within, shown

MOST_STEPS = 100_000


@dataclass(frozen=True)
class Timing:
    """A sequence of T steps: frames are shown for some steps each, then the input is zero.

    An input is stored as its frames, [frame, feature], and not as T copies:

        x_t = frame ⌈t / show⌉ for t ≤ frames · show,   x_t = 0 for the other t ≤ T.

    Attributes:
        frames: number of frames of an input.
        show: steps for which each frame is shown.
        time: T, the number of steps.
        each: whether every step has a target; if not, there is one target, for the last step.
    """

    frames: int
    show: int
    time: int
    each: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: if a number is below 1 or too large, there are fewer than two steps, or the
                frames do not fit into them.
        """
        coerce(self)
        require_within("the number of frames", self.frames, 1, MOST_STEPS)
        require_within("the number of steps that a frame is shown", self.show, 1, MOST_STEPS)
        mend = "fewer" if self.time > 1 else "more, or use --system fully-connected"
        require(
            2 <= self.time <= MOST_STEPS,
            f"a sequence has at least 2 time steps and at most {MOST_STEPS:,}, got "
            f"{shown(self.time)}; give it {mend}.",
        )
        many = f"{self.frames} frames are" if self.frames > 1 else "the input is"
        require(
            self.shown <= self.time,
            f"{many} shown for {self.shown} time steps, but the sequence has only {self.time}; "
            f"give it at least {self.shown} steps.",
        )

    @property
    def shown(self) -> int:
        """Number of steps with an input; the others have a zero input."""
        return self.frames * self.show

    def frame(self, step: int) -> int | None:
        """Return the index of the frame at a step, from 0; None if the input is zero."""
        return step // self.show if step < self.shown else None

    def expanded(self, frames: Tensor) -> Tensor:
        """Return the input of every step: [episode, frame, …] → [episode, time, feature]."""
        shown = torch.repeat_interleave(frames, self.show, 1) if self.show > 1 else frames
        return functional.pad(shown, (0, 0, 0, self.time - self.shown))

    def held(self, frames: Tensor) -> Tensor:
        """Return the frame of every step; the last frame is held for all remaining steps.

        Args:
            frames: [episode, frame + 1, feature].
        """
        shown = torch.repeat_interleave(frames[:, :-1], self.show, 1)
        return torch.cat([shown, frames[:, -1:].expand(-1, self.time - self.shown, -1)], 1)

    def spec(self) -> dict[str, Any]:
        """Return the timing as plain data."""
        return {
            "frames": self.frames,
            "show": self.show,
            "time": self.time,
            "readout": "each" if self.each else "last",
        }

    @property
    def description(self) -> str:
        """The timing in words."""
        if self.frames == 1:
            first = f"shown for {self.show} of {self.time} steps"
        elif self.time == self.frames:
            first = f"{self.time} steps"
        else:
            first = f"{self.frames} frames of {self.show} steps each, {self.time} steps in all"
        return first + (", a target at each step" if self.each else "")


# Used until the data are known. Networks that read sequences refuse data without a timing.
UNKNOWN = Timing(frames=1, show=1, time=2)
