"""Networks: parameters, and a forward pass that yields signals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from metaplast.activation import Activation, parse_activation
from metaplast.coerce import coerce
from metaplast.errors import UserError, require, shown, unknown_name
from metaplast.operator import Operator

Weights = tuple[Tensor, ...]

# Of normal weights: with smaller ones nothing is learned, larger ones have no finite product.
LEAST_STD, MOST_STD = 1e-6, 1e3

MOST_WIDTH, MOST_LAYERS = 1_000_000, 1000


class Forward(NamedTuple):
    """Signals of a forward pass.

    `activities` are y_0 = x, …, y_L (softmax), each [..., neuron]; `logits` = z_L.
    """

    activities: tuple[Tensor, ...]
    logits: Tensor


def class_probabilities(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Return labels as probabilities, [..., class].

    Args:
        labels: class indices [...] int64, or already probabilities [..., class].
        classes: how many there are.
        dtype: of the result.
    """
    if labels.is_floating_point():
        return labels.to(dtype)
    return functional.one_hot(labels, classes).to(dtype)


def _require_labels(labels: Tensor, outputs: Tensor) -> None:
    """Raise `UserError` unless labels are of the outputs' shape; a wrong one might broadcast."""
    shape = outputs.shape if labels.is_floating_point() else outputs.shape[:-1]
    fits = labels.shape == shape and (labels.is_floating_point() or labels.dtype == torch.int64)
    if not fits:
        raise UserError(
            f"labels must be int64 class indices {tuple(outputs.shape[:-1])} or class "
            f"probabilities {tuple(outputs.shape)}, got {labels.dtype} of shape "
            f"{tuple(labels.shape)}."
        )


@dataclass(frozen=True)
class Init:
    """How weights are drawn: "xavier" (uniform) or "normal:STD".

    Xavier: U(±√(6/(n_in + n_out))); both stand in Shervani-Tabar & Rosenbaum 2023 and
    Shervani-Tabar et al. 2024.
    """

    text: str = "xavier"

    def __post_init__(self) -> None:
        """Check the text.

        Raises:
            UserError: if it is neither of the two forms.
        """
        kind = self.text.partition(":")[0]
        if kind not in ("xavier", "normal"):
            raise unknown_name("init", kind, ("xavier", "normal"))
        if kind == "normal":
            require(
                LEAST_STD <= self._std() <= MOST_STD,
                f"--init normal takes a positive standard deviation from {LEAST_STD:g} to "
                f"{MOST_STD:g}, got {shown(self.text)}; write normal:0.1.",
            )
        else:
            require(
                self.text == "xavier",
                f"--init xavier takes no parameter, got {shown(self.text)}; write xavier.",
            )

    @property
    def std(self) -> float | None:
        """The standard deviation of normal weights, None for Xavier's uniform ones."""
        return None if self.text == "xavier" else self._std()

    def _std(self) -> float:
        try:
            return float(self.text.partition(":")[2])
        except ValueError:
            return math.nan

    def draw(self, shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Return [episode, row, column] weights, on the generator's device."""
        out = torch.empty(*shape, device=generator.device, dtype=dtype)
        if self.text == "xavier":
            bound = math.sqrt(6 / (shape[-1] + shape[-2]))
            return out.uniform_(-bound, bound, generator=generator)
        return out.normal_(0, self._std(), generator=generator)


@dataclass(frozen=True)
class FullyConnected:
    """A stack of fully connected layers without biases, softmax on top.

        z_ℓ = W_ℓ y_{ℓ-1},   y_ℓ = σ(z_ℓ) in hidden layers,   y_L = softmax(z_L).

    Attributes:
        widths: n_0 (inputs), hidden widths, n_L (classes).
        activation: of the hidden layers, as `parse_activation` reads it.
        init: how weights are drawn.
    """

    widths: tuple[int, ...]
    activation: str = "softplus:10"
    init: str = "xavier"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: if there is no layer, a width is below 1, a name is unknown, or a value is
                of a wrong type.
        """
        coerce(self)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise UserError(
                f"a network needs an input and an output width, all whole numbers of at least 1, "
                f"got {self.widths!r}; write FullyConnected((784, 100, 10))."
            )
        require(
            max(self.widths) <= MOST_WIDTH and self.layers <= MOST_LAYERS,
            f"a network takes at most {MOST_LAYERS:,} layers and widths of at most "
            f"{MOST_WIDTH:,}, got {self.layers:,} layers of width {shown(max(self.widths))} and "
            f"less; give fewer or smaller --hidden widths.",
        )
        parse_activation(self.activation)
        Init(self.init)

    @property
    def layers(self) -> int:
        """Number L of weight matrices."""
        return len(self.widths) - 1

    @property
    def nonlinearity(self) -> Activation:
        """The hidden layers' activation function."""
        return parse_activation(self.activation)

    def draw(
        self, episodes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> Weights:
        """Return fresh weights W_1 … W_L, each [episode, post, pre]."""
        pairs = zip(self.widths[1:], self.widths[:-1], strict=True)
        init = Init(self.init)
        return tuple(init.draw((episodes, *pair), generator, dtype) for pair in pairs)

    def forward(self, weights: Sequence[Operator], x: Tensor) -> Forward:
        """Return the signals for inputs x.

        Args:
            weights: W_1 … W_L.
            x: [episode, sample, pixel].

        Returns:
            Activities [episode, sample, neuron] and logits.
        """
        activate: Callable[[Tensor], Tensor] = self.nonlinearity.apply
        activities = [x]
        for weight in weights[:-1]:
            activities.append(activate(weight.carry(activities[-1])))
        logits = weights[-1].carry(activities[-1])
        return Forward((*activities, torch.softmax(logits, -1)), logits)

    def output_error(self, forward: Forward, labels: Tensor) -> Tensor:
        """Return e_L = y_L − p, the gradient to z_L of the cross-entropy with p.

        Args:
            forward: signals of the forward pass.
            labels: as `class_probabilities` takes them; p is what it returns.
        """
        output = forward.activities[-1]
        _require_labels(labels, output)
        return output - class_probabilities(labels, output.shape[-1], output.dtype)

    def loss(self, forward: Forward, labels: Tensor) -> Tensor:
        """Return the cross-entropy −Σ_c p_c log y_c in nats, a mean over samples, [episode]."""
        size = forward.logits.shape
        _require_labels(labels, forward.logits)
        losses = functional.cross_entropy(
            forward.logits.flatten(0, 1), labels.flatten(0, 1), reduction="none"
        )
        return losses.view(size[:-1]).mean(-1)

    def accuracy(self, forward: Forward, labels: Tensor) -> Tensor:
        """Return the share of samples whose largest output is their likeliest class, [episode]."""
        _require_labels(labels, forward.logits)
        likeliest = labels.argmax(-1) if labels.is_floating_point() else labels
        hits = forward.logits.argmax(-1) == likeliest
        return hits.to(forward.logits.dtype).mean(-1)
