"""The groups of a discovery's settings; `DiscoveryConfig` inherits from all of them.

The groups for tasks and for the search come from lower packages, where other classes share their
fields: `metaplast.tasks.request.TaskSizes` and `metaplast.meta.settings.SearchSettings`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar, Literal

import torch

from metaplast.base.device import parse_device
from metaplast.base.errors import require, require_seed, require_within, shown
from metaplast.base.settings import Settings
from metaplast.discovery.rule_start import SUFFIX, read_start
from metaplast.engines import get_engine
from metaplast.systems.constraint import NONE, get_constraint
from metaplast.systems.kind import DEFAULT
from metaplast.tasks.request import DataFolder, TaskSizes
from metaplast.terms.library import Only

# The objective of configurations from version 1, which do not name one.
OBJECTIVE = "cross-entropy"

ThetaKind = Literal["shared", "per-layer"]
DtypeName = Literal["float32", "float64"]


@dataclass(frozen=True)
class RuleSettings(Settings):
    """Settings of the rules that are considered."""

    GROUP: ClassVar[str] = "rule"

    terms: str = "all"
    """Candidate terms: a pool such as all, all+backward or products, a known rule such as bio, or
    names with commas; F0=0.02 starts at this coefficient. Or a rule file: its terms start at its
    coefficients. With *fading:250 after a pool, each of its terms also has a form that fades in 250
    examples, such as oja_fading_250."""
    only: Only = "any"
    """Which terms of a pool are candidates: any, or only the local ones, which a synapse computes
    from its own two neurons and its weight."""
    theta: ThetaKind = "shared"
    """One set of coefficients for all layers, or one per layer; in a recurrent network, one per
    weight matrix. A pool is searched with one set; then the remaining candidates are refitted."""
    feedback: str | None = None
    """Where errors come from; by default the usual feedback for the terms (fixed random)."""

    def __post_init__(self) -> None:
        """Join a list of names, or read a rule file; the names are checked later, with the system.

        Raises:
            UserError: if a setting has the wrong type, or the file cannot be used; see
                `read_start`.
        """
        if isinstance(self.terms, list | tuple) and all(isinstance(n, str) for n in self.terms):
            object.__setattr__(self, "terms", ",".join(self.terms))
        if isinstance(self.terms, PurePath):
            object.__setattr__(self, "terms", str(self.terms))
        super().__post_init__()
        if self.terms.strip().lower().endswith(SUFFIX):
            start = read_start(self.terms.strip())
            object.__setattr__(self, "terms", start.terms)
            object.__setattr__(self, "feedback", self.feedback or start.feedback)


@dataclass(frozen=True)
class ObjectiveSettings(Settings):
    """What the output should achieve, and the score by which rules are compared."""

    GROUP: ClassVar[str] = "task"

    objective: str = OBJECTIVE
    """The loss, its gradient at the output, and the score by which rules are compared."""


@dataclass(frozen=True)
class TaskSettings(ObjectiveSettings, TaskSizes, DataFolder):
    """Settings of the tasks that are learned."""

    GROUP: ClassVar[str] = "task"

    dataset: str = ""
    """Source of episodes: name or name:argument. If empty, the default source."""


@dataclass(frozen=True)
class StackSettings(Settings):
    """The layers of a network."""

    GROUP: ClassVar[str] = "network"

    hidden: tuple[int, ...] = (170, 130, 100, 70)
    """Widths of the hidden layers, or of the system's own populations."""
    activation: str = "softplus:10"
    """Activation of the hidden neurons: softplus:BETA, tanh or relu."""
    init: str = "xavier"
    """How weights are drawn: xavier or normal:STD."""
    weights: str = NONE
    """Where weights stay while they change: none, nonnegative, dale, dale:fraction=0.8 or
    bounds:LOW,HIGH."""

    def __post_init__(self) -> None:
        """Check the widths and the constraint on weights; the system checks activation and init.

        Raises:
            UserError: if a width is below 1, or there is no such constraint.
        """
        super().__post_init__()
        if self.weights != NONE:
            object.__setattr__(self, "weights", get_constraint(self.weights).written)
        require(
            all(width >= 1 for width in self.hidden),
            f"--hidden takes widths of at least 1, got {shown(self.hidden)}.",
        )


@dataclass(frozen=True)
class NetworkSettings(StackSettings):
    """What learns."""

    GROUP: ClassVar[str] = "network"

    system: str = DEFAULT
    """What learns; name or name:argument."""


@dataclass(frozen=True)
class SelectionSettings(Settings):
    """How terms are selected, and how the rule is tested."""

    GROUP: ClassVar[str] = "selection"

    refit: int = 400
    """Tasks in each refit without penalty, twice as many in the first; if 0, only the threshold
    selects terms."""
    validation: int = 400
    """Meta-training tasks on which selection compares rules with and without a term."""
    test_episodes: int = 400
    """Held-out tasks."""
    least_effect: float | None = None
    """A term is kept only if removing it loses at least this much of the score; default: 0.002 (0.2
    points of accuracy), unless the objective says otherwise."""
    threshold: float = 0.01
    """Terms below this share of the largest scaled coefficient are dropped."""
    refit_batch: int = 8
    """Tasks per outer step of a refit; more than in the search, because refits are compared."""

    def __post_init__(self) -> None:
        """Check the numbers, except the least effect, whose range depends on the objective.

        Raises:
            UserError: if a number is out of range.
        """
        super().__post_init__()
        require_within("--refit", self.refit, 0)
        require_within("--refit-batch", self.refit_batch, 1)
        require_within("--validation", self.validation, 2)
        require_within("--test-episodes", self.test_episodes, 2)
        require(
            math.isfinite(self.threshold) and 0 <= self.threshold < 1,
            f"--threshold must be from 0 up to 1, got {self.threshold}.",
        )


@dataclass(frozen=True)
class RunSettings(Settings):
    """The random numbers, the precision and the hardware of a run."""

    GROUP: ClassVar[str] = "run"

    seed: int = 0
    """Seed of all random numbers."""
    engine: str = "auto"
    """Engine that unrolls episodes; all engines give the same answer."""
    device: str = "cpu"
    """cpu or cuda."""
    dtype: DtypeName = "float32"
    """Precision of the unroll."""

    def __post_init__(self) -> None:
        """Check the names and the seed, but not whether this machine has the device.

        Raises:
            UserError: if the seed is invalid or a name is unknown.
        """
        super().__post_init__()
        require_seed("--seed", self.seed)
        _ = self.torch_device
        if self.engine != "auto":
            get_engine(self.engine)

    @property
    def torch_device(self) -> torch.device:
        """The device; whether this machine has it is checked only when it is used.

        Raises:
            UserError: if the name is not a device.
        """
        return parse_device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of the unroll."""
        return torch.float64 if self.dtype == "float64" else torch.float32
