"""The networks of the experiments on predictive coding, and its published arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from metaplast.systems.diagnostics import angle

Loss = Callable[[Tensor, Tensor], Tensor]


def network(side: int, classes: int, draw: torch.Generator, dtype: torch.dtype) -> nn.Sequential:
    """Return the published network for MNIST with PyTorch's initialisation, layer by layer.

    Args:
        side: pixels of an image in a row, at least 8.
        classes: number of outputs.
        draw: the generator of the weights; they are the same in every precision.
        dtype: the dtype of the weights.
    """
    left = ((side - 2) // 2 - 2) ** 2
    with torch.device("meta"):
        model = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 10, 3), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(10, 5, 3), nn.ReLU(), nn.Flatten()),
            nn.Sequential(nn.Linear(5 * left, 50), nn.ReLU()),
            nn.Sequential(nn.Linear(50, 30), nn.ReLU()),
            nn.Sequential(nn.Linear(30, classes)),
        )
    model = model.to_empty(device="cpu").double()
    with torch.no_grad():
        parameters = list(model.parameters())
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            bound = 1 / math.sqrt(weight[0].numel())
            for parameter in (weight, bias):
                parameter.uniform_(-bound, bound, generator=draw)
    return model.to(dtype)


def weight_gradients(model: nn.Sequential) -> list[Tensor]:
    """Return the gradient of each layer's weight, without biases, as one vector [1, number]."""
    found = (parameter.grad for name, parameter in model.named_parameters() if "weight" in name)
    return [gradient.flatten().clone()[None] for gradient in found if gradient is not None]


def backprop(model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor) -> None:
    """Set the gradients of the parameters by backpropagation."""
    model.zero_grad()
    loss(model(x), y).backward()  # type: ignore[no-untyped-call]


def published(
    model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor, variant: str, eta: float, n: int
) -> None:
    """Set the gradients by predictive coding as published: v itself relaxes, not v − v̂."""
    for _ in published_sweeps(model, loss, x, y, variant, eta, [n]):
        pass


def published_sweeps(
    model: nn.Sequential,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    variant: str,
    eta: float,
    counts: Sequence[int],
) -> Iterator[int]:
    """Relax; after each of `counts` sweeps, set the gradients and yield the number of sweeps.

    This follows Torch2PC step by step. The published results are those in single precision.
    """
    fixed, layers = variant == "fixed", list(model)
    graphs = [_Graph(layers[0], x)]
    for layer in layers[1:]:
        graphs.append(_Graph(layer, graphs[-1].output))
    forward = [g.output for g in graphs]
    v, error = list(forward), _loss_gradient(loss, forward[-1], y)
    for sweep in range(1, max(counts) + 1):
        top = error if fixed else _loss_gradient(loss, graphs[-1].output, y)
        epsilon = [p - a for p, a in zip((g.output for g in graphs), v, strict=True)][:-1]
        if fixed:
            epsilon = [f - a for f, a in zip(forward, v, strict=True)][:-1]
        epsilon.append(top)
        down = [g.back(e) for g, e in zip(graphs[1:], epsilon[1:], strict=True)]
        v = [a + eta * (e - d) for a, e, d in zip(v, epsilon, down, strict=False)] + v[-1:]
        if not fixed:
            graphs = graphs[:1] + [
                _Graph(layer, a) for layer, a in zip(layers[1:], v, strict=False)
            ]
        if sweep in counts:
            model.zero_grad()
            for graph, e in zip(graphs, epsilon, strict=True):
                graph.set_gradients(e)
            yield sweep


class _Graph:
    """The graph of one layer at one input."""

    def __init__(self, layer: nn.Module, given: Tensor) -> None:
        self._layer, self._leaf = layer, given.detach().clone().requires_grad_()
        self._graph = layer(self._leaf)
        self.output: Tensor = self._graph.detach()

    def back(self, error: Tensor) -> Tensor:
        return torch.autograd.grad(self._graph, self._leaf, error, retain_graph=True)[0]

    def set_gradients(self, error: Tensor) -> None:
        parameters = list(self._layer.parameters())
        found = torch.autograd.grad(self._graph, parameters, error, retain_graph=True)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient


def _loss_gradient(loss: Loss, output: Tensor, y: Tensor) -> Tensor:
    leaf = output.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, y), leaf)[0]


def mean_squared_error(output: Tensor, y: Tensor) -> Tensor:
    """Return the mean over samples and outputs of the squared distance to one-hot targets."""
    return functional.mse_loss(output, functional.one_hot(y, output.shape[-1]).to(output))


LOSSES: dict[str, Loss] = {
    "cross-entropy": functional.cross_entropy,
    "mse": mean_squared_error,
}


def distances(found: Sequence[Tensor], true: Sequence[Tensor]) -> dict[str, list[float]]:
    """Return relative errors and angles, in degrees, of each layer's gradient, in float64."""
    pairs = [(a.double(), b.double()) for a, b in zip(found, true, strict=True)]
    return {
        "error": [float((a - b).norm() / b.norm()) for a, b in pairs],
        "angle": [float(angle(a, b)) for a, b in pairs],
    }
