"""The configuration of a discovery: one frozen record, checked once, saved with the results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from metaplast.base.coerce import coerce, from_plain
from metaplast.base.device import parse_device
from metaplast.base.errors import require, require_within, shown
from metaplast.engines import get_engine
from metaplast.meta.settings import OuterSettings, Penalty, Scaling, Schedule
from metaplast.systems.kind import DEFAULT, SystemRequest, get_system
from metaplast.systems.learner import Learner
from metaplast.systems.objective import Objective, get_objective
from metaplast.systems.system import System
from metaplast.tasks.library import default_source, get_source
from metaplast.tasks.request import EpisodeRequest, HeldOut, LabelKind
from metaplast.terms.library import TermChoice, choose_terms

# The objective of configurations from version 1, which do not name one.
OBJECTIVE = "cross-entropy"

ThetaKind = Literal["shared", "per-layer"]
DtypeName = Literal["float32", "float64"]

# Default λ. Proximal: a term moves off zero only if its averaged gradient is steadier than this
# (docs/discovery.md). Subgradient: the value of a pre-release of the published code.
DEFAULT_L1: Mapping[Penalty, float] = {"proximal": 0.03, "subgradient": 1.5}


@dataclass(frozen=True)
class DiscoveryConfig:
    """All settings that decide the outcome of a discovery.

    The defaults are the published setting, except for the data set, the held-out part and the
    outer loop, which are ours.
    """

    terms: str = "all"
    """Candidate terms: all, all+backward, a known rule such as bio, or names with commas."""
    dataset: str = ""
    """Source of episodes: name or name:argument. If empty, the default source."""
    data_root: Path | None = None
    """Folder with data sets; default: METAPLAST_DATA, then a cache folder."""
    theta: ThetaKind = "shared"
    """One set of coefficients for all layers, or one per layer. A pool is searched with one set for
    all layers, and the remaining candidates are refitted per layer."""
    feedback: str | None = None
    """Where errors come from; by default the usual feedback for the terms (fixed random)."""
    system: str = DEFAULT
    """What learns; name or name:argument."""
    objective: str = OBJECTIVE
    """The loss, its gradient at the output, and the score by which rules are compared."""
    hidden: tuple[int, ...] = (170, 130, 100, 70)
    """Widths of the hidden layers."""
    activation: str = "softplus:10"
    """Activation of the hidden layers: softplus:BETA, tanh or relu."""
    init: str = "xavier"
    """How weights are drawn: xavier or normal:STD."""
    ways: int = 5
    """Classes in an episode."""
    shots: int | None = None
    """Support images of each class; default: 50, fewer if a data set has few."""
    queries: int = 10
    """Query images of each class."""
    labels: LabelKind = "global"
    """global: each class has its own output neuron; remapped: renumbered in each episode."""
    held_out: HeldOut = "auto"
    """What the test does not share with meta-training: classes or images."""
    episodes: int = 600
    """Tasks in the search."""
    meta_batch: int = 4
    """Tasks per outer step."""
    meta_lr: float = 1e-3
    """Step size of the outer optimizer, on scaled θ."""
    optimizer: str = "Adam"
    """A class of torch.optim, except LBFGS, SparseAdam and Muon."""
    schedule: Schedule = "cosine"
    """Schedule of the step size."""
    l1: float | None = None
    """Weight of the L1 penalty; the default depends on the terms, and is 0 for known rules."""
    penalty: Penalty = "proximal"
    """Soft threshold (exact zeros), or the published subgradient."""
    scaling: Scaling = "down"
    """Whether terms with large updates are scaled down before they compete."""
    clip: float = 1.0
    """Largest norm of the gradient of one episode; 0 disables clipping."""
    signs: bool = True
    """Whether coefficients of decay terms are kept from changing sign."""
    backtrack: bool = True
    """Whether a divergent task undoes the last step and shortens the next ones."""
    threshold: float = 0.01
    """Terms below this share of the largest scaled coefficient are dropped."""
    refit: int = 800
    """Tasks in each refit without penalty; if 0, only the threshold selects terms."""
    refit_batch: int = 16
    """Tasks per outer step of a refit; more than in the search, because refits are compared."""
    validation: int = 400
    """Meta-training tasks on which selection compares rules with and without a term."""
    least_effect: float | None = None
    """A term is kept only if removing it loses at least this much of the score; default: 0.002 (0.2
    points of accuracy), unless the objective says otherwise."""
    test_episodes: int = 400
    """Held-out tasks."""
    seed: int = 0
    """Seed of all random numbers."""
    engine: str = "auto"
    """Engine that computes the gradients; all engines give the same answer."""
    device: str = "cpu"
    """cpu or cuda."""
    dtype: DtypeName = "float32"
    """Precision of the unroll."""

    def __post_init__(self) -> None:
        """Check everything that needs neither data nor a particular machine.

        Values are converted by `coerce`: NumPy scalars, lists and paths as text become plain
        Python; `terms` may be a list of names.

        Raises:
            UserError: if a value has the wrong type or is out of range, or a name is unknown.
        """
        if isinstance(self.terms, list | tuple) and all(isinstance(n, str) for n in self.terms):
            object.__setattr__(self, "terms", ",".join(self.terms))
        coerce(self)
        require_within("--refit", self.refit, 0)
        require_within("--refit-batch", self.refit_batch, 1)
        require_within("--validation", self.validation, 2)
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
        self._set_least_effect()
        Learner(self.build_system(1, 2), self.choice.terms)
        if self.engine != "auto":
            get_engine(self.engine)
        get_source(self.dataset_name)

    def _set_least_effect(self) -> None:
        if self.least_effect is None:
            object.__setattr__(self, "least_effect", self.score_objective.least_effect)
        scale, least = self.score_objective.score_scale, self.least_gain
        widest = scale.best - scale.worst
        require(
            math.isfinite(least) and 0 <= least < widest,
            f"--least-effect must be a change of {scale.name}, at least 0"
            + (f" and below {widest:g}" if math.isfinite(widest) else "")
            + f", got {least}.",
        )

    @property
    def score_objective(self) -> Objective:
        """The objective, by whose score rules are compared."""
        return get_objective(self.objective)

    @property
    def least_gain(self) -> float:
        """The least effect, as a number."""
        assert self.least_effect is not None  # Set when the configuration is made.
        return self.least_effect

    @property
    def config(self) -> DiscoveryConfig:
        """These settings without the options that a command adds."""
        return DiscoveryConfig(**{f.name: getattr(self, f.name) for f in fields(DiscoveryConfig)})

    @property
    def choice(self) -> TermChoice:
        """The candidate terms; from a pool, only those whose signals the system offers."""
        groups = self.build_system(1, 2).groups
        signals = frozenset(signal for group in groups for signal in group.offers)
        scalars = frozenset(name for group in groups for name in group.scalars)
        return choose_terms(self.terms).served(signals, scalars)

    @property
    def feedback_name(self) -> str:
        """Where errors come from."""
        return choose_terms(self.terms).choose_feedback(self.feedback)

    @property
    def dataset_name(self) -> str:
        """The source of episodes."""
        return self.dataset or default_source()

    @property
    def penalty_weight(self) -> float:
        """λ: as configured, or the default, which is 0 for known rules: they need no selection."""
        if self.l1 is not None:
            return self.l1
        return DEFAULT_L1[self.penalty] if self.choice.is_pool else 0.0

    @property
    def request(self) -> EpisodeRequest:
        """The request to the episode source."""
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
        """Settings of the search for θ."""
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
        """Settings of the refits during selection."""
        return replace(self.outer, episodes=max(1, self.refit), meta_batch=self.refit_batch, l1=0.0)

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

    def build_system(self, inputs: int, outputs: int, feedback: str | None = None) -> System:
        """Return the system for these numbers of inputs and outputs.

        Args:
            inputs: length of an input's last axis.
            outputs: number of output neurons.
            feedback: where errors come from; None for this run's own.
        """
        kind, argument = get_system(self.system)
        return kind.build(
            SystemRequest(
                inputs,
                outputs,
                self.hidden,
                self.activation,
                self.init,
                self.feedback_name if feedback is None else feedback,
                self.objective,
                argument,
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`."""
        data = asdict(self)
        return {k: str(v) if isinstance(v, Path) else v for k, v in data.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DiscoveryConfig:
        """Read a configuration that `to_json` wrote.

        Raises:
            UserError: if a field is missing or unknown, because another version wrote it; or if a
                value has the wrong type or is out of range.
        """
        if isinstance(data, Mapping):
            # Version 1 had one system and one objective.
            data = {"system": DEFAULT, "objective": OBJECTIVE, **data}
        return cls(**from_plain(cls, data, "the configuration"))


# Settings of the outer loop of Shervani-Tabar & Rosenbaum 2023; explicit options win over them.
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
