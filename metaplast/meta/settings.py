"""How θ is learned: the checked settings of the outer loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from metaplast.base.coerce import coerce
from metaplast.base.errors import require, require_within, unknown_name

Penalty = Literal["proximal", "subgradient"]
Scaling = Literal["down", "none"]
Schedule = Literal["cosine", "constant"]

# Limits of `meta_lr`, and of `l1` and `clip` unless they are 0.
SMALLEST, LARGEST = 1e-12, 1e6


@dataclass(frozen=True)
class OuterSettings:
    """How θ is learned.

    Attributes:
        episodes: number of tasks; the number of outer steps is episodes / meta_batch.
        meta_batch: tasks per outer step.
        meta_lr: step size on scaled θ.
        optimizer: name of a class in `torch.optim`.
        schedule: of the step size: constant, or a cosine to zero.
        l1: weight λ of the penalty λ‖u‖₁.
        penalty: "proximal" soft-thresholds u by step size · λ after each step, which gives exact
            zeros; "subgradient" adds λ sign(u) to the gradient, as the published meta-loss does.
        scaling: "down" scales a term down to the size of the reference terms' update, never up
            (cubic terms explode when errors grow); "none" learns θ itself.
        clip: largest norm of the gradient of one episode; 0 for no limit.
        signs: whether terms declared nonnegative are kept nonnegative.
        backtrack: whether to undo a step after which a task diverges, and to shorten the next
            steps; see `TrustRegion`.
    """

    episodes: int = 600
    meta_batch: int = 4
    meta_lr: float = 1e-3
    optimizer: str = "Adam"
    schedule: Schedule = "cosine"
    l1: float = 0.0
    penalty: Penalty = "proximal"
    scaling: Scaling = "down"
    clip: float = 1.0
    signs: bool = True
    backtrack: bool = True

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: if one is of a wrong type or out of range.
        """
        coerce(self)
        require_within("--episodes", self.episodes, 1)
        require_within("--meta-batch", self.meta_batch, 1)
        for flag in ("meta_lr", "l1", "clip"):
            value = getattr(self, flag)
            in_range, kind = value >= 0, "non-negative"
            if flag == "meta_lr":
                in_range, kind = value > 0, "positive"
            require(
                math.isfinite(value) and in_range,
                f"--{flag.replace('_', '-')} must be a {kind} finite number, got {value}.",
            )
            # Beyond these limits, θ is not finite after one step, or never moves in float32.
            require(
                value == 0 or SMALLEST <= value <= LARGEST,
                f"--{flag.replace('_', '-')} must be from {SMALLEST:g} to {LARGEST:g}, got "
                f"{value:g}.",
            )
        if not _is_optimizer(self.optimizer):
            known = [name for name in vars(torch.optim) if _is_optimizer(name)]
            raise unknown_name("optimizer", self.optimizer, known)

    @property
    def steps(self) -> int:
        """Number of outer steps."""
        return math.ceil(self.episodes / self.meta_batch)


# These need a closure, sparse gradients or matrices, which θ does not offer.
_UNFIT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")


def _is_optimizer(name: str) -> bool:
    kind = getattr(torch.optim, name, None)
    return isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in _UNFIT
