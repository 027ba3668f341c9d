"""The base of networks of one recurrent layer: three matrices, and the timing of their inputs."""

from __future__ import annotations

from metaplast.base.coerce import coerce
from metaplast.base.errors import require, shown
from metaplast.systems.activation import parse_activation
from metaplast.systems.drawn import DrawnSystem
from metaplast.systems.initialisation import Init
from metaplast.systems.timing import Timing

MOST_WIDTH = 1_000_000
SITES = ("input", "recurrent", "readout")


class SequenceNetwork(DrawnSystem):
    """A network of one recurrent layer without biases: W_x, W_h and W_o.

    Attributes:
        widths: features of an input at one time step, neurons, outputs.
        timing: how the frames of an input follow each other, and which steps have a target.
        activation: the activation of the neurons, as `parse_activation` reads it.
    """

    widths: tuple[int, ...]
    timing: Timing
    activation: str

    input_axes = 2

    def __post_init__(self) -> None:
        """Check the fields that all such networks have.

        Raises:
            UserError: if a width is out of range, a name is unknown, or a value has the wrong type.
        """
        coerce(self)
        require(
            len(self.widths) == 3 and min(self.widths) >= 1 and max(self.widths) <= MOST_WIDTH,
            f"a {self.name} network needs numbers of inputs, neurons and outputs, each from 1 to "
            f"{MOST_WIDTH:,}, got {shown(self.widths)}; write {type(self).__name__}((64, 100, 10), "
            f"timing).",
        )
        require(
            isinstance(self.timing, Timing),
            f"a {self.name} network needs the timing of its inputs; write Timing(frames, show, "
            f"time).",
        )
        parse_activation(self.activation)
        Init(self.init)

    @property
    def sequence(self) -> Timing:
        """The timing of the inputs."""
        return self.timing

    @property
    def target_shape(self) -> tuple[int, ...]:
        """(T,) if every step has a target, else ()."""
        return (self.timing.time,) if self.timing.each else ()

    @property
    def sites(self) -> tuple[str, ...]:
        """The weights "input", "recurrent" and "readout"."""
        return SITES

    @property
    def readout(self) -> str:
        """W_o."""
        return SITES[-1]
