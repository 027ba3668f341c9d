"""What a discovery run does: one frozen record, checked once, written beside the results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from metaplast.coerce import coerce, from_plain
from metaplast.device import parse_device
from metaplast.episode import EpisodeRequest, HeldOut, LabelKind
from metaplast.errors import require, require_within, shown
from metaplast.learner import Learner
from metaplast.library import TermChoice, choose_terms, default_source, get_source
from metaplast.network import FullyConnected
from metaplast.outer_settings import OuterSettings, Penalty, Scaling, Schedule
from metaplast.unroll import get_engine

ThetaKind = Literal["shared", "per-layer"]
DtypeName = Literal["float32", "float64"]

# λ where the user gives none. Proximal: a term moves off zero only if its averaged gradient is
# steadier than this (docs/discovery.md). Subgradient: that of a pre-release of the published code.
DEFAULT_L1: Mapping[Penalty, float] = {"proximal": 0.03, "subgradient": 1.5}


@dataclass(frozen=True)
class DiscoveryConfig:
    """Everything that decides the outcome of a discovery.

    Defaults are the published setting in all but the data set and what is held out, with an outer
    loop of our own.
    """

    terms: str = "all"
    """Candidate terms: all, all+backward, a known rule such as bio, or names with commas."""
    dataset: str = ""
    """Where episodes come from; name or name:argument. Empty takes the default source."""
    data_root: Path | None = None
    """Folder with data sets; without it METAPLAST_DATA, then a cache folder."""
    theta: ThetaKind = "shared"
    """One set of coefficients for all layers, or one per layer; a pool is searched with one set for
    all, and the candidates that are left are refitted per layer."""
    feedback: str | None = None
    """Where errors come from; without it the usual one for the terms (fixed random)."""
    hidden: tuple[int, ...] = (170, 130, 100, 70)
    """Widths of the hidden layers."""
    activation: str = "softplus:10"
    """Of the hidden layers: softplus:BETA, tanh or relu."""
    init: str = "xavier"
    """How weights are drawn: xavier or normal:STD."""
    ways: int = 5
    """Classes in an episode."""
    shots: int | None = None
    """Support images of each class; without it 50, fewer where a data set has few."""
    queries: int = 10
    """Query images of each class."""
    labels: LabelKind = "global"
    """Each class's own output neuron, or classes renumbered in each episode."""
    held_out: HeldOut = "auto"
    """What the held-out test must not share with meta-training."""
    episodes: int = 600
    """Tasks met while searching."""
    meta_batch: int = 4
    """Tasks in one outer step."""
    meta_lr: float = 1e-3
    """Step size of the outer optimizer, on scaled θ."""
    optimizer: str = "Adam"
    """A class of torch.optim, but LBFGS, SparseAdam and Muon."""
    schedule: Schedule = "cosine"
    """Of the step size."""
    l1: float | None = None
    """Weight of the L1 penalty; without it a default for pools, 0 for known rules."""
    penalty: Penalty = "proximal"
    """Soft threshold (exact zeros), or the published subgradient."""
    scaling: Scaling = "down"
    """Whether terms with large updates are scaled down before they compete."""
    clip: float = 1.0
    """Largest norm of one episode's gradient; 0 for no limit."""
    signs: bool = True
    """Keep decay terms from turning into growth."""
    backtrack: bool = True
    """Take a step back, and shorter ones after it, where a task diverges."""
    threshold: float = 0.01
    """Terms below this share of the largest scaled coefficient are dropped."""
    refit: int = 800
    """Tasks met in each refit without penalty; 0 leaves selection to the threshold alone."""
    refit_batch: int = 16
    """Tasks in one outer step of a refit: more than in the search, as refits are compared."""
    validation: int = 400
    """Tasks, apart from the test's, on which selection compares rules with and without a term."""
    least_effect: float = 0.002
    """Share of accuracy that a rule must lose without a term for the term to be kept."""
    test_episodes: int = 400
    """Held-out tasks."""
    seed: int = 0
    """Of every random number."""
    engine: str = "auto"
    """Who computes the gradients; all engines give the same answer."""
    device: str = "cpu"
    """cpu or cuda."""
    dtype: DtypeName = "float32"
    """Precision of the unroll."""

    def __post_init__(self) -> None:
        """Check what can be checked without data, and on any machine.

        Values are taken as `coerce` says: NumPy scalars, lists and paths as text become plain
        Python; `terms` may be a list of names.

        Raises:
            UserError: if a value is of a wrong type or out of range, or a name unknown.
        """
        if isinstance(self.terms, list | tuple) and all(isinstance(n, str) for n in self.terms):
            object.__setattr__(self, "terms", ",".join(self.terms))
        coerce(self)
        require_within("--refit", self.refit, 0)
        require_within("--refit-batch", self.refit_batch, 1)
        require_within("--validation", self.validation, 2)
        require(
            0 <= self.least_effect < 1,
            f"--least-effect must be a share of accuracy, 0 to 1, got {self.least_effect}.",
        )
        require_within("--test-episodes", self.test_episodes, 2)
        require(
            math.isfinite(self.threshold) and 0 <= self.threshold < 1,
            f"--threshold must be from 0 up to 1, got {self.threshold}.",
        )
        require(
            all(width >= 1 for width in self.hidden),
            f"--hidden takes widths of at least 1, got {shown(self.hidden)}.",
        )
        if self.l1 is not None:
            OuterSettings(l1=self.l1)
        _ = self.request, self.outer, self.torch_device
        Learner(self.network(1, 2), self.feedback_name, self.choice.terms)
        if self.engine != "auto":
            get_engine(self.engine)
        get_source(self.dataset_name)

    @property
    def config(self) -> DiscoveryConfig:
        """All that decides the outcome: this, without the options that a command adds to it."""
        return DiscoveryConfig(**{f.name: getattr(self, f.name) for f in fields(DiscoveryConfig)})

    @property
    def choice(self) -> TermChoice:
        """The candidate terms."""
        return choose_terms(self.terms)

    @property
    def feedback_name(self) -> str:
        """Where errors come from."""
        return self.choice.choose_feedback(self.feedback)

    @property
    def dataset_name(self) -> str:
        """Where episodes come from."""
        return self.dataset or default_source()

    @property
    def penalty_weight(self) -> float:
        """λ: as given, or the default: published known rules need no selection."""
        if self.l1 is not None:
            return self.l1
        return DEFAULT_L1[self.penalty] if self.choice.is_pool else 0.0

    @property
    def request(self) -> EpisodeRequest:
        """What is asked of the episode source."""
        return EpisodeRequest(
            ways=self.ways,
            shots=get_source(self.dataset_name)[0].shots if self.shots is None else self.shots,
            queries=self.queries,
            labels=self.labels,
            held_out=self.held_out,
            data_root=self.data_root,
            seed=self.seed,
            device=self.torch_device,
            dtype=self.torch_dtype,
        )

    @property
    def outer(self) -> OuterSettings:
        """How θ is searched."""
        return OuterSettings(
            episodes=self.episodes,
            meta_batch=self.meta_batch,
            meta_lr=self.meta_lr,
            optimizer=self.optimizer,
            schedule=self.schedule,
            l1=self.penalty_weight,
            penalty=self.penalty,
            scaling=self.scaling,
            clip=self.clip,
            signs=self.signs,
            backtrack=self.backtrack,
        )

    @property
    def refit_outer(self) -> OuterSettings:
        """How θ is refitted while terms are selected."""
        return replace(self.outer, episodes=max(1, self.refit), meta_batch=self.refit_batch, l1=0.0)

    @property
    def torch_device(self) -> torch.device:
        """The device. Whether this machine has it is seen when it is used.

        Raises:
            UserError: if it is the name of none.
        """
        return parse_device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of the unroll."""
        return torch.float64 if self.dtype == "float64" else torch.float32

    def network(self, inputs: int, outputs: int) -> FullyConnected:
        """Return the network for images and classes of these numbers."""
        return FullyConnected((inputs, *self.hidden, outputs), self.activation, self.init)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads back."""
        data = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in data.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DiscoveryConfig:
        """Return the configuration that `to_json` wrote.

        Raises:
            UserError: if a field is missing or unknown: another version wrote it; or if a value
                is of a wrong type or out of range.
        """
        return cls(**from_plain(cls, data, "the configuration"))


# Field overrides that pin the outer loop of Shervani-Tabar & Rosenbaum 2023; an option given by
# hand wins.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "paper": {
        "episodes": 600,
        "meta_batch": 1,
        "meta_lr": 1e-3,
        "optimizer": "Adam",
        "schedule": "constant",
        "penalty": "subgradient",
        "scaling": "none",
        "clip": 0.0,
        "signs": False,
        "backtrack": False,
        "held_out": "images",
        "refit": 0,
    },
}
