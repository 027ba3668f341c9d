"""Feedback pathways: where the errors of the hidden layers come from.

A feedback turns the signals of a forward pass and the output error e_L into the errors
e_0 … e_L of every layer. All but the direct one carry them down a chain,

    e_{ℓ-1} = (B_ℓ e_ℓ) ⊙ σ'(z_{ℓ-1}),     e_0 = (B_1 e_1) ⊙ σ'(x)   (the synthetic input error),

and differ in B_ℓ alone. Backward weights are [episode, pre, post].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from metaplast.errors import unknown_name
from metaplast.network import Forward, FullyConnected, Init, Weights
from metaplast.operator import Operator

Operators = Sequence[Operator]


class Feedback(ABC):
    """From signals to errors.

    Attributes:
        name: as written after `--feedback`.
        summary: one line for people.
        is_plastic: whether backward terms may change its weights.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    is_plastic: ClassVar[bool] = False

    def draw(
        self,
        network: FullyConnected,
        episodes: int,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> Weights:
        """Return fresh backward weights B_1 … B_L; none where the feedback has no own weights."""
        init = Init(network.init)
        shapes = self.shapes(network)
        return tuple(init.draw((episodes, *shape), generator, dtype) for shape in shapes)

    def shapes(self, network: FullyConnected) -> tuple[tuple[int, int], ...]:
        """Return the shape of each backward matrix: those of W_ℓᵀ."""
        return tuple(zip(network.widths[:-1], network.widths[1:], strict=True))

    @abstractmethod
    def errors(
        self,
        network: FullyConnected,
        weights: Operators,
        backward: Operators,
        forward: Forward,
        output_error: Tensor,
        lowest: int = 0,
    ) -> tuple[Tensor, ...]:
        """Return e_lowest … e_L, each [episode, sample, neuron], preceded by zeros below lowest.

        Args:
            network: gives σ'.
            weights: W_1 … W_L.
            backward: the feedback's own matrices, as `draw` returned them, perhaps changed since.
            forward: signals of the forward pass.
            output_error: e_L.
            lowest: 0 to include the synthetic input error e_0, 1 to leave it out.
        """


class _Chain(Feedback):
    """Errors carried down layer by layer through B_ℓ."""

    @abstractmethod
    def carry(self, level: int, error: Tensor, weights: Operators, backward: Operators) -> Tensor:
        """Return B_ℓ e_ℓ for ℓ = level + 1, [episode, sample, pre]."""

    def errors(
        self,
        network: FullyConnected,
        weights: Operators,
        backward: Operators,
        forward: Forward,
        output_error: Tensor,
        lowest: int = 0,
    ) -> tuple[Tensor, ...]:
        """Return e_0 … e_L, see `Feedback.errors`."""
        gain = network.nonlinearity.gain
        errors = [output_error]
        for level in reversed(range(lowest, network.layers)):
            carried = self.carry(level, errors[0], weights, backward)
            errors.insert(0, carried * gain(forward.activities[level]))
        below = [torch.zeros_like(y) for y in forward.activities[:lowest]]
        return (*below, *errors)


class Symmetric(_Chain):
    """B_ℓ = W_ℓᵀ: backpropagation; the meta-gradient flows through the transpose."""

    name = "symmetric"
    summary = "B = Wᵀ, backpropagation, with the true meta-gradient"

    def shapes(self, network: FullyConnected) -> tuple[tuple[int, int], ...]:
        """Return nothing: there are no weights of its own."""
        return ()

    def carry(self, level: int, error: Tensor, weights: Operators, backward: Operators) -> Tensor:
        """Return W_ℓᵀ e_ℓ."""
        return weights[level].project(error)


class SymmetricDetached(Symmetric):
    """B_ℓ = W_ℓᵀ, held constant in the meta-gradient, as the published code does."""

    name = "symmetric-detached"
    summary = "B = Wᵀ, no meta-gradient through it (as the published code)"

    def carry(self, level: int, error: Tensor, weights: Operators, backward: Operators) -> Tensor:
        """Return W_ℓᵀ e_ℓ, W_ℓ held constant."""
        return error @ weights[level].constant


class Fixed(_Chain):
    """B_ℓ random and fixed: feedback alignment (Lillicrap et al. 2016)."""

    name = "fixed"
    summary = "B random and fixed, feedback alignment"

    def carry(self, level: int, error: Tensor, weights: Operators, backward: Operators) -> Tensor:
        """Return B_ℓ e_ℓ."""
        return backward[level].carry(error)


class Plastic(Fixed):
    """B_ℓ random at first, then changed by the rule's backward terms (Shervani-Tabar et al. 2024,
    eq. 9)."""

    name = "plastic"
    summary = "B random at first, then changed by backward terms"
    is_plastic = True


class SignSymmetric(_Chain):
    """B_ℓ = |M_ℓ| ⊙ sign(W_ℓᵀ), magnitudes random and fixed (Liao, Leibo & Poggio 2016)."""

    name = "sign-symmetric"
    summary = "random fixed magnitudes with the signs of Wᵀ"

    def carry(self, level: int, error: Tensor, weights: Operators, backward: Operators) -> Tensor:
        """Return (|M_ℓ| ⊙ sign(W_ℓᵀ)) e_ℓ; the sign has no gradient."""
        return error @ (backward[level].constant.mT.abs() * weights[level].constant.sign())


class Direct(Feedback):
    """e_ℓ = (D_ℓ e_L) ⊙ σ'(z_ℓ), D_ℓ random and fixed, [episode, neuron, class] (Nøkland 2016)."""

    name = "direct"
    summary = "the output error sent straight to each layer, direct feedback alignment"

    def shapes(self, network: FullyConnected) -> tuple[tuple[int, int], ...]:
        """Return the shape of each D_ℓ, ℓ = 0 … L-1."""
        return tuple((width, network.widths[-1]) for width in network.widths[:-1])

    def errors(
        self,
        network: FullyConnected,
        weights: Operators,
        backward: Operators,
        forward: Forward,
        output_error: Tensor,
        lowest: int = 0,
    ) -> tuple[Tensor, ...]:
        """Return e_0 … e_L, see `Feedback.errors`."""
        gain = network.nonlinearity.gain
        levels = range(lowest, network.layers)
        carried = [
            backward[level].carry(output_error) * gain(forward.activities[level])
            for level in levels
        ]
        below = [torch.zeros_like(y) for y in forward.activities[:lowest]]
        return (*below, *carried, output_error)


FEEDBACKS: Mapping[str, Feedback] = MappingProxyType(
    {
        kind.name: kind()
        for kind in (Fixed, Symmetric, SymmetricDetached, Direct, SignSymmetric, Plastic)
    }
)


def get_feedback(name: str) -> Feedback:
    """Return the feedback called `name`.

    Raises:
        UserError: if there is none; suggests the nearest name.
    """
    if name not in FEEDBACKS:
        raise unknown_name("feedback", name, FEEDBACKS)
    return FEEDBACKS[name]
