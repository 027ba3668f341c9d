"""The base of systems that are networks of neurons: widths, activation, objective."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cached_property
from typing import Any, cast

from metaplast.systems.activation import Activation, parse_activation
from metaplast.systems.objective import Objective, get_objective
from metaplast.systems.system import System


class Network(System):
    """A system that is a frozen dataclass, with at least these fields.

    Attributes:
        widths: number of inputs, widths of the hidden populations, number of outputs.
        activation: the activation of the hidden neurons, as `parse_activation` reads it.
        objective_name: the objective of the output.
    """

    widths: tuple[int, ...]
    activation: str
    objective_name: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle only the fields: cached values hold functions that cannot be pickled."""
        own = fields(cast("Any", self))
        return type(self), tuple(getattr(self, field.name) for field in own)

    def with_feedback(self, feedback: str) -> System:
        """Return the same network with another feedback; see `System.with_feedback`."""
        own: Any = self
        if any(field.name == "feedback_name" for field in fields(own)):
            return cast("System", replace(own, feedback_name=feedback))
        return super().with_feedback(feedback)

    @property
    def inputs(self) -> int:
        """The first width."""
        return self.widths[0]

    @property
    def outputs(self) -> int:
        """The last width."""
        return self.widths[-1]

    @cached_property
    def nonlinearity(self) -> Activation:
        """The activation function and its derivative."""
        return parse_activation(self.activation)

    @cached_property
    def objective(self) -> Objective:
        """The objective of the output."""
        return get_objective(self.objective_name)
