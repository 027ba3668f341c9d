"""How θ is learned: the checked settings of the outer loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from metaplast.base.errors import require, require_within, unknown_name
from metaplast.base.settings import Settings

Penalty = Literal["proximal", "subgradient"]
Scaling = Literal["down", "none", "start"]
Schedule = Literal["cosine", "constant"]
Estimator = Literal["gradient", "es"]

# Limits of `meta_lr` and `tau_lr`, and of `l1` and `clip` unless they are 0.
SMALLEST, LARGEST = 1e-12, 1e6


@dataclass(frozen=True)
class SearchSettings(Settings):
    """How θ is searched: the settings of the outer loop, where the penalty may have a default."""

    GROUP: ClassVar[str] = "search"

    episodes: int = 600
    """Tasks in the search (unless the rule grows), and to learn a baseline or a known rule; as many
    again, in larger steps, if coefficients were still moving at full speed at their end."""
    entry: int | None = None
    """Tasks of training after candidates enter, if the rule grows by a few terms at a time; if 0,
    all candidates are trained from the start. Default: 160 for pools of products, else 0."""
    look: int = 64
    """Tasks that decide whether candidates stay in a growing rule, and which are next."""
    meta_batch: int = 4
    """Tasks per outer step."""
    meta_lr: float = 1e-3
    """Step size of the outer optimizer, on scaled θ."""
    l1: float | None = None
    """Weight of the L1 penalty; the default depends on the terms, and is 0 for known rules."""
    penalty: Penalty = "proximal"
    """Soft threshold (exact zeros), or the published subgradient."""
    optimizer: str = "Adam"
    """A class of torch.optim, except LBFGS, SparseAdam and Muon."""
    schedule: Schedule = "cosine"
    """Schedule of the step size."""
    scaling: Scaling = "down"
    """What the penalty and the steps compare: terms after large updates are scaled down, θ itself
    (none), or each θ divided by the size of its initial value (start)."""
    estimator: Estimator = "gradient"
    """How the gradient with respect to θ is computed: exactly, or estimated from losses only, by an
    evolution strategy (es), for systems that draw actions."""
    pairs: int = 8
    """Antithetic pairs of perturbed rules in each estimate of the evolution strategy."""
    spread: float | None = None
    """Size of these perturbations, on scaled θ; default: --meta-lr."""
    learn_tau: bool = False
    """Whether the time constants of traces and eligibilities are learned together with θ, starting
    from their τ in the terms; one τ for all layers."""
    tau_lr: float = 0.05
    """Step size of the outer optimizer on log τ, with --learn-tau."""
    clip: float = 1.0
    """Largest norm of the gradient of one episode; 0 disables clipping."""
    signs: bool = True
    """Whether coefficients of decay terms are kept from changing sign."""
    positive: str | None = None
    """Names of terms, with commas, whose coefficients may not be negative."""
    negative: str | None = None
    """Names of terms, with commas, whose coefficients may not be positive."""
    backtrack: bool = True
    """Whether a divergent task undoes the last step and shortens the next ones. In the search of a
    pool, short steps are undone only if most tasks diverge; there and in its refits, all
    coefficients shrink where learning is chaotic."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UserError: if a value is of a wrong type or out of range.
        """
        super().__post_init__()
        require_within("--episodes", self.episodes, 1)
        require_within("--meta-batch", self.meta_batch, 1)
        if self.entry is not None:
            require_within("--entry", self.entry, 0)
        require_within("--look", self.look, 2)
        require_within("--pairs", self.pairs, 1)
        for flag in ("meta_lr", "tau_lr", "l1", "spread", "clip"):
            value = getattr(self, flag)
            if value is None:
                continue
            in_range, kind = value >= 0, "non-negative"
            if flag in ("meta_lr", "tau_lr", "spread"):
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


@dataclass(frozen=True)
class OuterSettings(SearchSettings):
    """How θ is learned: the settings of one outer loop.

    Attributes:
        episodes: number of tasks; the number of outer steps is episodes / meta_batch.
        l1: weight λ of the penalty λ‖u‖₁.
        penalty: "proximal" soft-thresholds u by step size · λ after each step, which gives exact
            zeros; "subgradient" adds λ sign(u) to the gradient, as the published meta-loss does.
        schedule: the schedule of the step size: constant, or a cosine to zero.
        scaling: "down" scales a term down to the size of the reference terms' update, never up
            (cubic terms explode when errors grow); "none" learns θ itself; "start" divides each
            coefficient by the size of its initial value, so that a step changes all by about the
            same share. Terms that start at zero are then scaled down.
        signs: whether terms declared nonnegative are kept nonnegative.
        estimator: "gradient" is exact; "es" estimates it, see `EvolutionStrategy`.
        backtrack: whether to undo a step after which a task diverges, and to shorten the next
            steps, see `Backtracking`; and whether the search of a pool and its refits shrink all
            coefficients where learning is chaotic, see `metaplast.meta.chaos`.
    """

    l1: float = 0.0

    @property
    def steps(self) -> int:
        """Number of outer steps."""
        return math.ceil(self.episodes / self.meta_batch)


# These need a closure, sparse gradients or matrices, which θ does not offer.
_UNFIT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")


def _is_optimizer(name: str) -> bool:
    kind = getattr(torch.optim, name, None)
    return isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in _UNFIT
