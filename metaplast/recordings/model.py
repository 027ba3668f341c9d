"""The network whose rule is inferred: one layer of neurons, and how it is observed.

    z_t = W_t x_t,    y_t = f(z_t),    W_{t+1} = W_t + η p_t Σ_k θ_k F_k(x_t, y_t, W_t, r_t),

with x_t [pre], y_t [post], W [post, pre], and p_t = 1 at the steps at which the weights change.
Observations are noisy; their expected value μ_t is one of

    neurons:         μ = gain · y                       (activity, spike counts, binary choices)
    readout v:       μ = σ(v · y)                       (accept or reject)
    softmax:         μ = softmax(y)                     (a choice of one of several options)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require_choice

# The kernel's codes for the functions f.
ACTIVATIONS: Mapping[str, int] = MappingProxyType(
    {"linear": 0, "sigmoid": 1, "tanh": 2, "relu": 3, "softplus": 4}
)
LINKS = ("neurons", "readout", "softmax")


def _sigmoid(z: Numbers) -> Numbers:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


@dataclass(frozen=True)
class Layer:
    """One layer of plastic synapses, and how it is observed.

    Attributes:
        activation: the function f, a key of `ACTIVATIONS`.
        eta: the rate η that multiplies all coefficients.
        link: how the layer is observed: "neurons", "readout" or "softmax".
        readout: fixed weights v of the readout, one for each neuron.
    """

    activation: str = "sigmoid"
    eta: float = 1.0
    link: str = "neurons"
    readout: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            UserError: if a name is unknown, or η is not a positive number.
        """
        require_choice("--activation", self.activation, ACTIVATIONS)
        require_choice("link", self.link, LINKS)
        if not 0 < self.eta < 1e9:
            raise UserError(f"--eta must be a positive number, got {self.eta:g}.")

    @property
    def code(self) -> int:
        """The kernel's code for f."""
        return ACTIVATIONS[self.activation]

    def mean(self, y: Numbers, gain: float = 1.0) -> Numbers:
        """Return μ from activities y [time, post]: [time, post], or [time, 1] of a readout."""
        if self.link == "neurons":
            return gain * y
        if self.link == "readout":
            return _sigmoid(gain * (y @ np.asarray(self.readout))[:, None])
        shifted = np.exp(gain * (y - y.max(1, keepdims=True)))
        return np.asarray(shifted / shifted.sum(1, keepdims=True))

    def slopes(self, y: Numbers, mean: Numbers, dy: Numbers, gain: float = 1.0) -> Numbers:
        """Return ∂μ/∂parameter from ∂y/∂parameter, [time, post or 1, parameter].

        Args:
            y: activities, [time, post].
            mean: μ at them.
            dy: ∂y/∂parameter, [time, post, parameter].
            gain: as in `mean`.
        """
        if self.link == "neurons":
            return gain * dy
        if self.link == "readout":
            inner = np.einsum("i,tik->tk", np.asarray(self.readout), dy)[:, None]
            return np.asarray(gain * (mean * (1 - mean))[:, :, None] * inner)
        centre = np.einsum("ti,tik->tk", mean, dy)[:, None]
        return np.asarray(gain * mean[:, :, None] * (dy - centre))

    def gain_slope(self, y: Numbers, mean: Numbers) -> Numbers:
        """Return ∂μ/∂gain at gain 1, [time, post or 1]."""
        return self.slopes(y, mean, y[:, :, None])[:, :, 0]


FUNCTIONS: Mapping[str, Callable[[Numbers], Numbers]] = MappingProxyType(
    {
        "linear": lambda z: z,
        "sigmoid": _sigmoid,
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0.0),
        "softplus": lambda z: np.logaddexp(0.0, z),
    }
)
