"""The configuration of a discovery: one frozen object, checked once, saved with the results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from metaplast.base.coerce import from_plain
from metaplast.base.errors import require
from metaplast.base.settings import part
from metaplast.discovery.settings import (
    OBJECTIVE,
    DtypeName,
    NetworkSettings,
    RuleSettings,
    RunSettings,
    SelectionSettings,
    TaskSettings,
    ThetaKind,
)
from metaplast.meta.growth_settings import GrowthSettings
from metaplast.meta.settings import OuterSettings, Penalty, SearchSettings
from metaplast.systems.constrained import constrained
from metaplast.systems.constraint import NONE
from metaplast.systems.feedback import serving
from metaplast.systems.kind import DEFAULT, SystemRequest, get_system
from metaplast.systems.learner import Learner
from metaplast.systems.objective import Objective, get_objective
from metaplast.systems.served_terms import offers
from metaplast.systems.system import System
from metaplast.systems.timing import Timing
from metaplast.tasks.library import default_source, get_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.terms.library import TermChoice, choose_terms
from metaplast.terms.term import Term

__all__ = [
    "DEFAULT_L1",
    "OBJECTIVE",
    "PRESETS",
    "DiscoveryConfig",
    "DtypeName",
    "ThetaKind",
]

# Default λ. Proximal: a term moves off zero only if its averaged gradient exceeds this
# (docs/discovery.md). Subgradient: the value of a pre-release of the published code.
DEFAULT_L1: Mapping[Penalty, float] = {"proximal": 0.03, "subgradient": 1.5}

# Number of tasks to train on after a candidate enters, for pools whose rules grow.
ENTRY = 160
# The values that a growing rule tries for a candidate's coefficient, in multiples of the rule's
# largest scaled coefficient.
VALUES = (0.1, 0.3, 1.0)
# Version 1 did not have these fields. A field with this value is not written to files, so that runs
# of version 1 keep their identity.
_UNSAID: Mapping[str, Any] = {
    "entry": None, "look": 64, "positive": None, "negative": None,
    "estimator": "gradient", "pairs": 8, "spread": None, "weights": NONE,
    "learn_tau": False, "tau_lr": 0.05,
}  # fmt: skip


# The fields of the last base come first, and are checked first.
@dataclass(frozen=True)
class DiscoveryConfig(
    RunSettings, SelectionSettings, SearchSettings, NetworkSettings, TaskSettings, RuleSettings
):
    """All settings that decide the outcome of a discovery.

    The defaults are the published setting, except for the data set, the held-out part and the
    outer loop, which are our own choice. Each group of settings has its own class, which declares
    and checks its fields.
    """

    def __post_init__(self) -> None:
        """Check everything that needs neither data nor a particular machine.

        Values are converted by `coerce`: NumPy scalars, lists and paths as text become plain
        Python; `terms` may be a list of names.

        Raises:
            UserError: if a value has the wrong type or is out of range, or a name is unknown.
        """
        super().__post_init__()
        _ = self.feedback_name, self.request
        self._check_least_effect()
        Learner(self.build_system(1, 2), self.choice.terms)

    def _check_least_effect(self) -> None:
        # The objective's own value is stored as None. So a copy of this configuration with another
        # objective gets the value of that objective; commands make such copies.
        if self.least_effect == self.score_objective.least_effect:
            object.__setattr__(self, "least_effect", None)
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
        """The objective whose score compares rules."""
        return get_objective(self.objective)

    @property
    def feedback_name(self) -> str:
        """The source of errors; by default, the terms' usual feedback if the system has it."""
        choice, served = choose_terms(self.terms), self.served
        if not self.feedback and choice.choose_feedback(None) not in served:
            fitting = [name for name in served if not choice.feedback or name in choice.feedback]
            require(
                bool(fitting),
                f"--terms {choice.text} goes with feedback {' or '.join(choice.feedback)}, but the "
                f"system {get_system(self.system)[0].name} has {' or '.join(served)}; choose "
                f"--terms all, or name the terms one by one.",
            )
            return fitting[0]
        return choice.choose_feedback(self.feedback or None)

    @property
    def least_gain(self) -> float:
        """The least effect: as configured, or the objective's own."""
        own = self.score_objective.least_effect
        return own if self.least_effect is None else self.least_effect

    @property
    def config(self) -> DiscoveryConfig:
        """These settings, without the options that a command adds."""
        return part(DiscoveryConfig, self)

    @property
    def choice(self) -> TermChoice:
        """The candidate terms; from a pool, those that the system supports and `only` keeps."""
        system = self.build_system(1, 2)
        matrices = {group.matrix for group in system.groups}

        def is_usable(term: Term) -> bool:
            # Backward terms stay even without backward weights, so that the user gets an error.
            return term.matrix not in matrices or offers(system, term)

        return choose_terms(self.terms).usable(is_usable).limited(self.only)

    @property
    def penalty_weight(self) -> float:
        """λ: as configured, or the default; 0 for known rules, whose terms are not selected."""
        if self.l1 is not None:
            return self.l1
        return DEFAULT_L1[self.penalty] if self.choice.is_pool else 0.0

    @property
    def request(self) -> EpisodeRequest:
        """The request for the episode source."""
        return part(
            EpisodeRequest,
            self,
            shots=max(self.lengths, default=get_source(self.dataset_name)[0].shots),
            device=self.torch_device,
            dtype=self.torch_dtype,
        )

    @property
    def outer(self) -> OuterSettings:
        """Settings of the search for θ."""
        return part(OuterSettings, self, l1=self.penalty_weight)

    @property
    def growth(self) -> GrowthSettings | None:
        """Settings for adding candidates; None to train all terms from the start."""
        choice = self.choice
        # The published penalty gives no exact zeros, so terms would never leave a growing rule.
        grows = choice.grows and self.penalty == "proximal" if self.entry is None else self.entry
        # The rule initially has the terms that do not start at zero.
        starts = any(choice.begin(term).initial != 0 for term in choice.terms)
        if not (grows and choice.is_pool and starts):
            return None
        return replace(self.bars, waiting=choice.waiting)

    @property
    def bars(self) -> GrowthSettings:
        """The evidence that a candidate needs before the search or selection tries it."""
        entry = ENTRY if self.entry is None else self.entry
        proximal = self.penalty == "proximal"
        return GrowthSettings(
            train=math.ceil(entry / self.meta_batch), look=math.ceil(self.look / self.meta_batch),
            bar=self.penalty_weight if proximal else DEFAULT_L1["proximal"],
            clip=self.clip, least=self.least_gain, values=VALUES,
        )  # fmt: skip

    @property
    def refit_outer(self) -> OuterSettings:
        """The settings of the refits during selection."""
        return replace(self.outer, episodes=max(1, self.refit), meta_batch=self.refit_batch, l1=0.0)

    @property
    def dataset_name(self) -> str:
        """The source of episodes; the default depends on the system."""
        return self.dataset or default_source(get_system(self.system)[0].name)

    @property
    def served(self) -> tuple[str, ...]:
        """Names of the feedbacks that the system supports."""
        return serving(get_system(self.system)[0].name)

    def build_system(
        self,
        inputs: int,
        outputs: int,
        feedback: str | None = None,
        timing: Timing | None = None,
    ) -> System:
        """Return the system for these numbers of inputs and outputs.

        Args:
            inputs: length of an input's last axis.
            outputs: number of output neurons.
            feedback: the source of errors; None for the configured one.
            timing: the timing of sequences; None if inputs are vectors, or the data are not known
                yet.
        """
        kind, argument = get_system(self.system)
        given = self.feedback_name if feedback is None else feedback
        sizes = {"inputs": inputs, "outputs": outputs, "timing": timing}
        request = part(SystemRequest, self, **sizes, feedback=given, argument=argument)
        return constrained(kind.build(request), self.weights)

    @classmethod
    def for_system(cls, system: str, **settings: Any) -> DiscoveryConfig:
        """Return the configuration for a system, with the system's defaults.

        Args:
            system: name or name:argument.
            settings: as for the class; they override the system's defaults.

        Raises:
            UserError: as for the class.
        """
        kind, _ = get_system(system)
        return cls(**{**kind.defaults, **settings, "system": system})

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`."""
        data = asdict(self) | {"least_effect": self.least_gain}
        if self.only == "any":
            # Version 1 had only whole pools; its runs keep their identity without the field.
            del data["only"]
        # `look` is also written at its default if the user has set `entry`.
        said = set() if self.entry is None else {"look"}
        data = {k: v for k, v in data.items() if k in said or v != _UNSAID.get(k, ...)}
        return {k: str(v) if isinstance(v, Path) else v for k, v in data.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DiscoveryConfig:
        """Read a configuration that `to_json` wrote.

        Raises:
            UserError: if a field is missing or unknown, because another version wrote it; or if a
                value has the wrong type or is out of range.
        """
        if isinstance(data, Mapping):
            # Version 1 had one system, one objective and whole pools, and its rules did not grow.
            data = {"system": DEFAULT, "objective": OBJECTIVE, "only": "any", **_UNSAID, **data}
        return cls(**from_plain(cls, data, "the configuration"))


def all_constrained(config: DiscoveryConfig) -> str:
    """Return the end of a caption that names the constraint on all rules; "" without one."""
    return "" if config.weights == NONE else f"; every rule learns with --weights {config.weights}"


# Settings of the outer loop of Shervani-Tabar & Rosenbaum 2023; explicit options override them.
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
