"""The settings of a relaxation of activities, as numbers for the kernel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.engines.fused.served import source_of
from metaplast.scans.activations import KINDS, make_tools
from metaplast.systems.fully_connected import FullyConnected


class Relaxation(NamedTuple):
    """The relaxation of the activities, for `metaplast.scans.relaxation_kernel`.

    Attributes:
        sizes: padded neurons of layers 1 … L.
        sigma: the kind of activation of the hidden layers.
        is_softmax: whether the output is a softmax; always true.
        eta: step size of a sweep.
        sweeps: number of sweeps.
        constants: see `make_tools`.
    """

    sizes: npt.NDArray[np.int64]
    sigma: int
    is_softmax: bool
    eta: Any
    sweeps: int
    constants: npt.NDArray[Any]

    @classmethod
    def of(cls, stack: FullyConnected, pads: list[int], number: Any) -> Relaxation | None:
        """Return the relaxation of a stack; None if nothing relaxes.

        Args:
            stack: the stack.
            pads: padded neurons of layers 0 … L.
            number: the NumPy type of the numbers.
        """
        given, sigma = stack.feedback.relaxation, stack.nonlinearity
        if given is None or source_of(stack) != "relaxed":
            return None
        sizes, constants = np.array(pads[1:], np.int64), make_tools(sigma.beta, 1, number)[0]
        return cls(sizes, KINDS[sigma.kind], True, number(given.eta), given.n, constants)
