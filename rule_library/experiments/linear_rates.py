"""The linear rate model r = W r + X and its three learning rules, on exact fixed points.

    J(W) = (1/m) ‖r − R‖²_F,   r = (I − W)⁻¹ X,   A = (I − W)⁻¹,   W ← W − lr ΔW.

All matrices are float64, without the [episode] axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaplast.base.seeds import generator
from metaplast.reproduce.experiment import Setting
from metaplast.reproduce.table import AT, DIVERGED, Row

# Below this loss, angles between updates are rounding.
RESOLVED = 1e-12


class Task(NamedTuple):
    """Inputs X and targets R, [neuron, sample], and the start W_0, [neuron, neuron]."""

    inputs: Tensor
    targets: Tensor
    start: Tensor


def draw_task(seed: int, neurons: int, samples: int) -> Task:
    """Return X = 0.1 randn, R = (I − Ŵ)⁻¹ X + 0.01 randn with Ŵ = 0.5 randn/√n, W_0 = 0.75 randn/√n."""
    X, teacher, noise, start = (
        normal(seed, name, neurons, columns)
        for name, columns in (
            ("inputs", samples), ("teacher", neurons), ("noise", samples), ("start", neurons)
        )
    )  # fmt: skip
    size = 1 / math.sqrt(neurons)
    rates = at_rest(0.5 * size * teacher, 0.1 * X)
    return Task(0.1 * X, rates + 0.01 * noise, 0.75 * size * start)


def normal(seed: int, name: str, rows: int, columns: int) -> Tensor:
    """Return a standard normal matrix that depends only on the seed and its name."""
    draw = generator(seed, "linear rates", name)
    return torch.randn(rows, columns, generator=draw, dtype=torch.float64, device="cpu")


def at_rest(W: Tensor, X: Tensor) -> Tensor:
    """Return r = (I − W)⁻¹ X."""
    rates: Tensor = torch.linalg.solve_ex(_complement(W), X).result
    return rates


def loss(rates: Tensor, R: Tensor) -> float:
    """Return J."""
    return float((rates - R).square().sum() / R.shape[1])


def euclidean(W: Tensor, X: Tensor, R: Tensor) -> Tensor:
    """Return ΔW₁ = (I − W)⁻ᵀ ∂J/∂r rᵀ, the gradient of J."""
    rates = at_rest(W, X)
    error = at_rest(W.mT, rates - R)
    return (2 / X.shape[1]) * error @ rates.mT


def linearised(W: Tensor, X: Tensor, R: Tensor) -> Tensor:
    """Return ΔW₃ = (I − W) ∂J/∂r rᵀ (I − W)ᵀ (I − W) = (2/m) (X − (I − W) R) Xᵀ (I − W)."""
    V = _complement(W)
    return (2 / X.shape[1]) * (X - V @ R) @ (X.mT @ V)


def gradient_of_inverse(A: Tensor, X: Tensor, R: Tensor) -> Tensor:
    """Return ∂J/∂A = (2/m) (A X − R) Xᵀ."""
    return (2 / X.shape[1]) * (A @ X - R) @ X.mT


def exact(W: Tensor, X: Tensor, R: Tensor, rate: float) -> Tensor:
    """Return ΔW₂ = (W − W′)/lr with A′ = A − lr ∂J/∂A and W′ = I − A′⁻¹: descent on A."""
    A = torch.linalg.inv_ex(_complement(W))[0]
    moved = A - rate * gradient_of_inverse(A, X, R)
    return (W - _complement(torch.linalg.inv_ex(moved)[0])) / rate


def learn(seed: int, settings: Mapping[str, Any], _: Setting) -> list[Row]:
    """Return loss and angle of one rule at one rate, by iteration.

    The angle is that between ΔW₁ and ΔW₂ on the path of ΔW₂, and between ΔW₂ and ΔW₃ on the path of
    ΔW₃, in degrees.
    """
    task = draw_task(seed, settings["neurons"], settings["samples"])
    rule, rate, every = settings["rule"], settings["rate"], settings["every"]
    places = range(0, settings["iterations"] + 1, every)
    return [
        {AT: float(step), **_measured(rule, W, task, rate)}
        for step, W in zip(places, _path(rule, task, rate, every), strict=False)
    ]


def _path(rule: str, task: Task, rate: float, every: int) -> Iterator[Tensor]:
    """Yield W at the start and then again after each `every` steps, without end."""
    X, R, W = task
    if rule == "exact":
        # The steps are taken on A = (I − W)⁻¹ itself, so they need no inverse.
        A = torch.linalg.inv_ex(_complement(W))[0]
        while True:
            yield _complement(torch.linalg.inv_ex(A)[0])
            for _ in range(every):
                A = A - rate * gradient_of_inverse(A, X, R)
    update = {"euclidean": euclidean, "linearised": linearised}[rule]
    while True:
        yield W
        for _ in range(every):
            W = W - rate * update(W, X, R)


def _measured(rule: str, W: Tensor, task: Task, rate: float) -> dict[str, float]:
    value = loss(at_rest(W, task.inputs), task.targets)
    found = {"loss": value, DIVERGED: float(not math.isfinite(value))}
    if rule == "euclidean" or not RESOLVED < value < math.inf:
        return found
    second = exact(W, task.inputs, task.targets, rate)
    other = (euclidean if rule == "exact" else linearised)(W, task.inputs, task.targets)
    return found | {"angle": between(second, other)}


def between(one: Tensor, other: Tensor) -> float:
    """Return the angle between two matrices as vectors, in degrees."""
    u, v = one / one.norm(), other / other.norm()
    return math.degrees(2 * math.atan2(float((u - v).norm()), float((u + v).norm())))


def surface(seed: int, settings: Mapping[str, Any], _: Setting) -> list[Row]:
    """Return J and the spectral radius on a line through a minimum W*, for seed 0 also on a plane.

    W* = (R − X) R⁺ has J = 0; directions are 2.5 randn/√n.
    """
    neurons = settings["neurons"]
    task = draw_task(seed, neurons, settings["samples"])
    minimum = (task.targets - task.inputs) @ torch.linalg.pinv(task.targets)
    size = 2.5 / math.sqrt(neurons)
    first, second = (size * normal(seed, name, neurons, neurons) for name in ("line", "plane"))
    rows: list[Row] = []
    for t in _grid(settings["line"]):
        W = minimum + t * first
        radius = float(torch.linalg.eigvals(W).abs().max())
        rows.append({AT: t, "line": loss(at_rest(W, task.inputs), task.targets), "radius": radius})
    if seed == 0:
        for t in _grid(settings["plane"]):
            losses = _column(minimum + t * first, second, _grid(settings["plane"]), task)
            rows.append({AT: t, **{f"plane_{i}": value for i, value in enumerate(losses, start=1)}})
    return rows


def _column(W: Tensor, direction: Tensor, places: Sequence[float], task: Task) -> list[float]:
    return [loss(at_rest(W + s * direction, task.inputs), task.targets) for s in places]


def _grid(points: int) -> list[float]:
    return [2 * i / (points - 1) - 1 for i in range(points)]


def _complement(M: Tensor) -> Tensor:
    """Return I − M."""
    return torch.eye(len(M), dtype=M.dtype, device=M.device) - M
