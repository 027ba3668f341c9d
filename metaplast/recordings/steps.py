"""Classes that run the compiled steps of a layer, for rules with and without memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.memory import Clock
from metaplast.recordings.memory_plan import Kept, nothing_kept, plan
from metaplast.recordings.model import Layer
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.trajectory import Trajectory


class Steps(ABC):
    """Runs the steps of one trajectory, piece by piece."""

    @abstractmethod
    def begin(self, slopes: Numbers) -> None:
        """Begin a trajectory.

        Args:
            slopes: the derivatives of its initial weights, [post, parameter, pre].
        """

    @abstractmethod
    def advance(
        self, each: Trajectory, span: slice, weights: Numbers, slopes: Numbers, y: Numbers,
        dy: Numbers,
    ) -> bool:  # fmt: skip
        """Run the next steps; see `kernel.advance`."""


class PlainSteps(Steps):
    """Steps of a rule without memory.

    Args:
        layer: the network.
        terms: the terms of the rule.
        theta: their coefficients.
    """

    def __init__(self, layer: Layer, terms: Sequence[MonomialTerm], theta: Numbers) -> None:
        self._layer, self._theta = layer, np.array(theta, dtype=float)
        powers = [term.exponents for term in terms]
        self._powers = np.array(powers, dtype=np.int64).reshape(-1, 4)

    def begin(self, slopes: Numbers) -> None:
        """Begin a trajectory; there is no state to reset."""

    def advance(
        self, each: Trajectory, span: slice, weights: Numbers, slopes: Numbers, y: Numbers,
        dy: Numbers,
    ) -> bool:  # fmt: skip
        """Run the next steps; see `kernel.advance`."""
        from metaplast.recordings.kernel import advance

        return advance(
            self._layer.code, self._layer.eta, self._theta, self._powers, each.inputs[span],
            each.reward[span], each.plastic[span], weights, slopes, y, dy,
        )  # fmt: skip


class RememberingSteps(Steps):
    """Steps of a rule with traces or eligibilities.

    Args:
        layer: the network.
        terms: the terms of the rule.
        theta: their coefficients.
        taus: the time constants whose values differ from those in the terms.
        clocks: time constants with derivatives.
    """

    def __init__(
        self, layer: Layer, terms: Sequence[MonomialTerm], theta: Numbers,
        taus: Mapping[Clock, float], clocks: Sequence[Clock],
    ) -> None:  # fmt: skip
        self._layer, self._plan = layer, plan(terms, theta, taus, clocks)
        self._kept: Kept | None = None

    def begin(self, slopes: Numbers) -> None:
        """Begin a trajectory, with traces and eligibilities at zero."""
        posts, parameters, pres = slopes.shape
        self._kept = nothing_kept(self._plan, posts, pres, parameters)

    def advance(
        self, each: Trajectory, span: slice, weights: Numbers, slopes: Numbers, y: Numbers,
        dy: Numbers,
    ) -> bool:  # fmt: skip
        """Run the next steps; see `memory_kernel.advance_with_memory`."""
        from metaplast.recordings.memory_kernel import advance_with_memory

        assert self._kept is not None
        return advance_with_memory(
            self._layer.code, self._layer.eta, self._plan, each.inputs[span], each.reward[span],
            each.plastic[span], each.starts[span], weights, slopes, self._kept, y, dy,
        )  # fmt: skip
