"""The signals at the synapses of one matrix, as plasticity terms read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.terms.algebra import Eligibility, Mapped, Population, Signal, post, pre
from metaplast.terms.operator import Operator


class Held(NamedTuple):
    """An eligibility before and after one example, [episode, row, column] each, and 1 − 1/τ.

    If τ is learned, 1 − 1/τ is a tensor, [episode, 1, 1].
    """

    before: Tensor
    after: Tensor
    keep: float | Tensor


@dataclass(frozen=True)
class Synapses:
    """The signals of one example at the synapses of one matrix, before anything changes.

    An *occurrence* is anything that happens several times within an example: a time step, a
    position of a convolution, a sample of a mini-batch. The update is the sum over occurrences, all
    with the same weight.

    Attributes:
        operator: the matrix, [episode, row, column].
        signals: the vectors of each population, [episode, occurrence, neuron]; without the
            occurrence axis in the results of `occurrences`.
        weight: the weight of each occurrence: 1 for a sum, 1/K for a mean over K samples.
        scalars: numbers that the system sends to all synapses, such as a reward, by their names,
            [episode, occurrence]; [episode] in the results of `occurrences`.
        arriving: at how many occurrences an input arrives. At all later ones, `pre.activity` is
            exactly zero, so products with it need not be formed. None if it cannot be assumed zero.
        held: the eligibilities that terms read here.
        restarts: whether traces and eligibilities begin at zero with this example.
    """

    operator: Operator
    signals: Mapping[Signal, Tensor]
    weight: float = 1.0
    scalars: Mapping[str, Tensor] = field(default_factory=dict)
    arriving: int | None = None
    held: Mapping[Eligibility, Held] = field(default_factory=dict)
    restarts: bool = False

    @property
    def count(self) -> int:
        """Number of occurrences."""
        return next(iter(self.signals.values())).shape[1]

    def at(self, operator: Operator) -> Synapses:
        """Return the same signals at another matrix between the same two populations."""
        return replace(self, operator=operator)

    def signal(self, signal: Signal | Mapped) -> Tensor:
        """Return the value of a signal or of a function of signals.

        The value of `one` is 1 for each neuron. A system that skips an occurrence supplies `one`
        itself, with 0 for this occurrence.
        """
        if isinstance(signal, Mapped):
            return signal.value(self.signal)
        if signal.kind == "one" and signal not in self.signals:
            return torch.ones_like(self._any(signal.population))
        return self.signals[signal]

    def _any(self, population: Population) -> Tensor:
        return next(value for key, value in self.signals.items() if key.population == population)

    def occurrences(self) -> Iterator[Synapses]:
        """Yield the synapses at each occurrence, signals as [episode, neuron]."""
        for k in range(self.count):
            one = {key: value[:, k] for key, value in self.signals.items()}
            scalars = {name: value[:, k] for name, value in self.scalars.items()}
            yield Synapses(self.operator, one, self.weight, scalars)

    @property
    def post_activity(self) -> Tensor:
        """y of the post population."""
        return self.signals[post.activity]

    @property
    def post_error(self) -> Tensor:
        """e of the post population."""
        return self.signals[post.error]

    @property
    def pre_activity(self) -> Tensor:
        """y of the pre population."""
        return self.signals[pre.activity]

    @property
    def pre_error(self) -> Tensor:
        """e of the pre population."""
        return self.signals[pre.error]
