"""Images read row by row: one row of pixels at each time step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from episodes.sequences import SequentialSource
from metaplast.base.errors import require
from metaplast.systems.timing import Timing


class Rows(SequentialSource):
    """x_t is row t of the image, for t = 1 … height."""

    name = "rows"
    summary = "an image row by row: rows:SOURCE (default digits), or rows:SOURCE,width=PIXELS"
    settings = MappingProxyType({"width": 0})

    def timing(self, pixels: int, source: str, settings: Mapping[str, int]) -> Timing:
        """Return the timing with one frame per row; see `SequentialSource.timing`."""
        width = settings["width"] or math.isqrt(pixels)
        require(
            pixels % width == 0 and (settings["width"] > 0 or width * width == pixels),
            f"the {pixels} inputs of {source} are not rows of {width} pixels each; write --dataset "
            f"rows:{source},width=PIXELS with the width of its images.",
        )
        height = pixels // width
        return Timing(frames=height, show=1, time=height)


ROWS = Rows()
