"""What the example systems share: their sizes, and how matrices are drawn."""

from __future__ import annotations

import torch

from metaplast.systems.system import System


class ExampleSystem(System):
    """A system with the fields `features` and `classes`."""

    @property
    def inputs(self):
        return self.features

    @property
    def outputs(self):
        return self.classes

    def draw_matrices(self, episodes, generator, dtype):
        """Return a normal matrix of variance 1 / column for each entry of `shapes`."""
        return {
            name: torch.randn(episodes, *shape, generator=generator, dtype=dtype) / shape[1] ** 0.5
            for name, shape in self.shapes.items()
        }
