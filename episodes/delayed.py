"""Short-term memory: an image is shown for some time steps, then nothing, then it is classified.

The task of Shervani-Tabar, Mirhoseini & Rosenbaum 2024 (arXiv:2408.08408, section 2.4), in which
MNIST images are shown for 5 of 50 steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from episodes.sequences import SequentialSource
from metaplast.base.errors import require
from metaplast.systems.timing import Timing


class Delayed(SequentialSource):
    """x_t is the image for t = 1 … show, and zero for t = show + 1 … time."""

    name = "delayed"
    summary = (
        "short-term memory: an image, then nothing; delayed:SOURCE,show=STEPS,time=STEPS "
        "(default digits,show=5,time=50)"
    )
    settings = MappingProxyType({"show": 5, "time": 50})
    default_for = MappingProxyType({"recurrent": "delayed:digits", "leaky": "delayed:digits"})

    def timing(self, pixels: int, source: str, settings: Mapping[str, int]) -> Timing:
        """Return the timing of one frame; see `SequentialSource.timing`."""
        show, time = settings["show"], settings["time"]
        require(
            show <= time,
            f"delayed shows the image for {show} time steps, but the task ends after {time}; write "
            f"--dataset delayed:{source},show={show},time={10 * show}.",
        )
        return Timing(frames=1, show=show, time=time)


DELAYED = Delayed()
