"""CMA-ES from the package cma, with its own random generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaplast.base.coerce import coerce
from metaplast.base.errors import require, require_seed
from metaplast.base.optional import optional
from metaplast.base.seeds import numpy_generator


@dataclass(frozen=True)
class Search:
    """The settings of a search over natural logarithms of the coefficients.

    Attributes:
        generations: number of generations.
        population: number of candidates in each.
        spread: standard deviation of the first generation; 0.5 is a factor of 1.6.
        seed: the seed of the candidates.
    """

    generations: int = 8
    population: int = 8
    spread: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: if one is out of range.
        """
        coerce(self)
        require(self.generations >= 1, f"generations must be at least 1, not {self.generations}.")
        require(self.population >= 4, f"population must be at least 4, not {self.population}.")
        require(0 < self.spread <= 3, f"spread must be above 0 and at most 3, not {self.spread:g}.")
        require_seed("seed", self.seed)


def evolution_package() -> Any:
    """Return the package that has CMA-ES.

    Raises:
        UserError: if it is not installed.
    """
    return optional("cma", "metaplast[evolution]", "learning coefficients needs")


def make_strategy(size: int, search: Search) -> Any:
    """Return CMA-ES started at the origin, with its own random generator.

    Args:
        size: number of coefficients.
        search: how to search.

    Raises:
        UserError: if the package cma is not installed.
    """
    cma = evolution_package()
    draw = numpy_generator(search.seed, "coefficients")
    options = {
        "popsize": search.population,
        "verbose": -9,
        # NaN leaves numpy's global random numbers alone.
        "seed": math.nan,
        "randn": lambda *shape: draw.standard_normal(shape),
        # Only the number of generations ends the search.
        "tolfun": 0, "tolx": 0, "tolfunhist": 0, "tolflatfitness": math.inf,
    }  # fmt: skip
    return cma.CMAEvolutionStrategy(np.zeros(size), search.spread, options)
