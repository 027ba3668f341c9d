"""The settings of an inference, and checks that recordings match them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import require, require_choice, require_seed, require_within
from metaplast.base.settings import Settings
from metaplast.recordings.model import Layer
from metaplast.recordings.monomial import MonomialTerm, candidates
from metaplast.recordings.odours import less_expected
from metaplast.recordings.pieces import Free
from metaplast.recordings.recording import Recording
from metaplast.recordings.remembering import time_constants, with_memory

Initial = Literal["auto", "given", "scale", "fitted"]
# The link of each kind of observation of the whole layer; other kinds observe each neuron.
LINKS_OF: Mapping[str, str] = MappingProxyType({"readout": "readout", "options": "softmax"})
# With fewer than 7 clusters, no pattern of random signs is rarer than 2 %, so no term can be
# significant. Some animals are held out.
_FEWEST_ANIMALS = 10


@dataclass(frozen=True)
class InferenceSettings(Settings):
    """How a rule is inferred; candidates are those of `monomial.candidates`."""

    GROUP: ClassVar[str] = "inference"

    terms: str = "taylor"
    """Candidates: taylor, taylor-reward, monomials:2, monomials:3, or names such as xy,y2W."""
    activation: str = "sigmoid"
    """The layer's f: linear, sigmoid, tanh, relu or softplus."""
    eta: float = 1.0
    """Rate that multiplies all coefficients."""
    initial: Initial = "auto"
    """Initial weights: as given in the files, given up to a fitted scale, or fitted; auto: as given
    if the files have them, else fitted."""
    gain: bool = False
    """Fit a gain between the model's and the observed activity."""
    held_out: float = 0.2
    """Share of the trials, or of the animals, that is held out to compare models."""
    by: str = "trials"
    """Unit that is held out and counts as independent: trials or animals."""
    reward_memory: int = 0
    """Subtract the mean reward of the last N trials from the reward."""
    seed: int = 0
    """Seed of all random numbers."""
    traces: str = ""
    """Add candidates with a trace instead of x or y, for each time constant, such as 5,20,80."""
    eligibilities: str = ""
    """Add candidates with an eligibility times the reward, for each time constant."""
    fit_tau: bool = True
    """Fit the time constants of the traces and eligibilities in the rule."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: if a value is invalid, or has the wrong type.
        """
        super().__post_init__()
        _ = self.pool
        Layer(self.activation, self.eta)
        require_choice("--by", self.by, ("trials", "animals"))
        require(
            0 < self.held_out <= 0.8,
            f"--held-out must be a share above 0, at most 0.8, got {self.held_out:g}.",
        )
        require_within("--reward-memory", self.reward_memory, 0, 10**6)
        require_seed("--seed", self.seed)

    @property
    def pool(self) -> tuple[MonomialTerm, ...]:
        """All candidates.

        Raises:
            UserError: if a name is unknown, or a time constant is invalid.
        """
        plain = candidates(self.terms)
        traces = time_constants("--traces", self.traces)
        eligibilities = time_constants("--eligibilities", self.eligibilities)
        require(
            not traces or any(term.pre == 1 or term.post == 1 for term in plain),
            f"--traces needs candidates with x or y, but --terms {self.terms} has none.",
        )
        require(
            not eligibilities or any(term.reward == 1 and term.degree > 1 for term in plain),
            f"--eligibilities needs candidates with the reward, such as xyr, but --terms "
            f"{self.terms} has none; choose monomials:2,reward.",
        )
        return with_memory(plain, traces, eligibilities)


def prepared(recording: Recording, settings: InferenceSettings) -> Recording:
    """Return a recording with the expected reward subtracted, and without unobserved neurons.

    Within a layer, a neuron that was never observed does not affect the other neurons.
    """
    memory = settings.reward_memory
    if memory:
        less = less_expected(recording.reward, recording.lengths, memory)
        recording = replace(recording, reward=less)
    if recording.kind in LINKS_OF:
        return recording
    seen = np.isfinite(recording.observed).any((0, 1))
    weights, later = recording.weights, recording.seen_weights
    if later is not None:
        seen |= np.isfinite(later).any((0, 1, 3))
    return replace(
        recording,
        observed=recording.observed[:, :, seen],
        weights=None if weights is None else weights[..., seen, :],
        seen_weights=None if later is None else later[:, :, seen],
    )


def free_parameters(recordings: Sequence[Recording], settings: InferenceSettings) -> Free:
    """Return which parameters are fitted together with the coefficients.

    Raises:
        UserError: if the settings take initial weights from the files, and a file has none.
    """
    known = all(recording.weights is not None for recording in recordings)
    initial = settings.initial
    if initial == "auto":
        initial = "given" if known else "fitted"
    lacking = [r.name for r in recordings if r.weights is None]
    require(
        initial == "fitted" or known,
        f"--initial {initial} needs initial_weights in every file, but these have none: "
        f"{', '.join(lacking[:3])}; give --initial fitted.",
    )
    return Free(initial == "scale", settings.gain, initial == "fitted")


def check(
    recordings: Sequence[Recording], pool: tuple[MonomialTerm, ...], settings: InferenceSettings,
    free: Free,
) -> None:  # fmt: skip
    """Check that recordings match each other, the candidates and the settings.

    Raises:
        UserError: if something does not match.
    """
    _check_alike(recordings)
    _check_rewards(recordings, pool, settings)
    require(
        any(map(_shows_plasticity, recordings)),
        "nothing was observed after a step at which weights change, so no rule can be inferred; "
        "give trials with more steps, or the array continues.",
    )
    _check_choices(recordings[0].kind, settings, free)
    require(
        not (settings.gain and recordings[0].kind == "weights"),
        "--gain fits the gain of observed activity, but only weights were observed; leave it out.",
    )
    by_animal = settings.by == "animals"
    require(
        not by_animal or len(recordings) >= _FEWEST_ANIMALS,
        f"--by animals needs at least {_FEWEST_ANIMALS} files, because with fewer no result is "
        f"significant, got {len(recordings)}; choose --by trials.",
    )
    require(
        not (by_animal and free.initial),
        "--by animals needs initial_weights in every file, because the initial weights of a "
        "held-out animal cannot be fitted; choose --by trials.",
    )


def _check_alike(recordings: Sequence[Recording]) -> None:
    require(bool(recordings), "infer needs at least one recording.")
    kinds = {r.kind for r in recordings}
    require(
        len(kinds) == 1,
        f"all files must hold the same kind of observation, got {' and '.join(sorted(kinds))}.",
    )
    shapes = {(r.pres, r.readout) for r in recordings}
    require(
        len(shapes) == 1,
        "all files must have the same number of inputs and the same readout; run infer on each "
        "file by itself.",
    )


def _check_rewards(
    recordings: Sequence[Recording], pool: tuple[MonomialTerm, ...], settings: InferenceSettings
) -> None:
    rewarded = any(term.has_reward for term in pool)
    lacking = [r.name for r in recordings if not r.has_reward]
    require(
        not rewarded or not lacking,
        f"--terms {settings.terms} has terms with a reward, but these files have no reward: "
        f"{', '.join(lacking[:3])}; choose taylor, or add the array reward.",
    )
    require(
        not rewarded or any(r.reward.any() for r in recordings),
        f"--terms {settings.terms} has terms with a reward, but all rewards are 0, so these terms "
        f"have no effect; choose taylor.",
    )


def _check_choices(kind: str, settings: InferenceSettings, free: Free) -> None:
    require(
        not free.initial or kind not in LINKS_OF,
        "initial weights cannot be fitted from choices of the whole layer; add the array "
        "initial_weights.",
    )
    if kind == "binary":
        require(
            settings.activation == "sigmoid",
            f"choices of neurons need --activation sigmoid, whose values are probabilities, got "
            f"{settings.activation}.",
        )


def _shows_plasticity(recording: Recording) -> bool:
    """Return whether there is an observation after a step at which the weights change."""
    before: Numbers = np.cumsum(recording.plastic, axis=1) - recording.plastic
    if recording.continues:
        # Weights that changed in an earlier trial are seen in a later one.
        before[1:] += np.cumsum(recording.plastic.sum(1))[:-1, None]
    if (np.isfinite(recording.observed).any(2) & (before > 0)).any():
        return True
    if recording.seen_weights is None:
        return False
    last = before[:, -1:] + recording.plastic[:, -1:]
    after = np.concatenate([before, last], 1) > 0
    return bool((np.isfinite(recording.seen_weights).any((2, 3)) & after).any())
