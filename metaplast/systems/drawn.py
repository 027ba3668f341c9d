"""The base of networks whose matrices are all drawn in the same way."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from metaplast.systems.initialisation import Init
from metaplast.systems.network import Network
from metaplast.systems.state import State


class DrawnSystem(Network):
    """A network without carried vectors, whose matrices are drawn as specified by `init`.

    Attributes:
        init: how matrices are drawn, as `Init` reads it.
    """

    init: str

    def draw(
        self, episodes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> State:
        """Return freshly drawn matrices in the order of `shapes`."""
        return State(self._draw(self.shapes, episodes, generator, dtype))

    def complete(
        self, initial: State, episodes: int, generator: torch.Generator, dtype: torch.dtype
    ) -> State:
        """Return prescribed matrices and draw the missing ones, such as the feedback's."""
        missing = [name for name in self.shapes if name not in initial.matrices]
        found = {**initial.matrices, **self._draw(missing, episodes, generator, dtype)}
        return State({name: found[name] for name in self.shapes})

    def _draw(
        self, names: Iterable[str], episodes: int, generator: torch.Generator, dtype: torch.dtype
    ) -> dict[str, Tensor]:
        init = Init(self.init)
        return {n: init.draw((episodes, *self.shapes[n]), generator, dtype) for n in names}
