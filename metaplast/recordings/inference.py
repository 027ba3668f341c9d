"""Infer a plasticity rule from recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require, require_choice, require_seed, require_within
from metaplast.recordings.certainty import certainties, kept_shares
from metaplast.recordings.checks import require_scale
from metaplast.recordings.comparison import Judge
from metaplast.recordings.fit import Fit
from metaplast.recordings.losses import LOSSES
from metaplast.recordings.model import Layer
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import MonomialTerm, candidates
from metaplast.recordings.odours import less_expected
from metaplast.recordings.pieces import DivergedError, Free
from metaplast.recordings.recording import Recording
from metaplast.recordings.result import FoundTerm, Inference
from metaplast.recordings.score import dispersion, errors
from metaplast.recordings.selection import Selection, Told, select
from metaplast.recordings.trajectory import Data, arranged

Initial = Literal["auto", "given", "scale", "fitted"]
_LOSS = {
    "activity": "gaussian", "counts": "poisson", "binary": "bernoulli", "readout": "bernoulli",
    "options": "categorical",
}  # fmt: skip
_LINK = {"readout": "readout", "options": "softmax"}
# Absent candidates that are selected in at least this share of the draws are named.
_OFTEN = 0.05
# With fewer clusters than 7, no pattern of signs is rarer than 2 %; some are held out.
_FEWEST_ANIMALS = 10
# Activations with values between −1 and 1.
_BOUNDED = ("sigmoid", "tanh")


@dataclass(frozen=True)
class InferenceSettings:
    """How a rule is inferred.

    Attributes:
        terms: candidates, see `monomial.candidates`.
        activation: f of the layer, y = f(W x).
        eta: rate that multiplies all coefficients.
        initial: initial weights: "given" in the files, given up to a "scale" that is fitted, or
            "fitted"; "auto" is given if the files have them, else fitted.
        gain: whether a gain between the model's and the observed activity is fitted.
        held_out: share of the trials, or animals, that is held out.
        reward_memory: number of trials whose mean reward is subtracted from the reward; 0 for none.
        by: what is held out and taken as independent: "trials" or "animals".
        seed: of the draws.
    """

    terms: str = "taylor"
    activation: str = "sigmoid"
    eta: float = 1.0
    initial: Initial = "auto"
    gain: bool = False
    held_out: float = 0.2
    by: str = "trials"
    reward_memory: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: if one is invalid.
        """
        candidates(self.terms)
        Layer(self.activation, self.eta)
        require_choice("--initial", self.initial, ("auto", "given", "scale", "fitted"))
        require_choice("--by", self.by, ("trials", "animals"))
        require(
            0 < self.held_out <= 0.8,
            f"--held-out must be a share above 0, at most 0.8, got {self.held_out:g}.",
        )
        require_within("--reward-memory", self.reward_memory, 0, 10**6)
        require_seed("--seed", self.seed)


def infer(
    recordings: Sequence[Recording], settings: InferenceSettings | None = None, *,
    compare: bool = True, told: Told = lambda _: None,
) -> Inference:  # fmt: skip
    """Return the rule that made some recordings, as far as they tell.

    The network is one layer, y = f(W x), whose weights change by a sum of monomials in x, y, W and
    a reward. Terms are selected on all but the held-out trials.

    Args:
        recordings: one for each animal, session or simulation, of one kind.
        settings: how; None for the usual ones.
        compare: whether to fit the null models and published rules.
        told: receives a line about each step.

    Raises:
        UserError: if the recordings do not fit together or the settings, or the model diverges.
    """
    settings = settings or InferenceSettings()
    recordings = tuple(_prepared(recording, settings) for recording in recordings)
    pool = candidates(settings.terms)
    free = _free(recordings, settings)
    _check(recordings, pool, settings, free)
    data = arranged(
        recordings, held_out=settings.held_out, by_animal=settings.by == "animals",
        seed=settings.seed,
    )  # fmt: skip
    first = recordings[0]
    layer = Layer(
        settings.activation, settings.eta, _LINK.get(first.kind, "neurons"), first.readout
    )
    problem = Problem(data.fitted(), layer, LOSSES[_LOSS[first.kind]], free)
    try:
        selection = select(problem, pool, seed=settings.seed, told=told)
    except DivergedError:
        raise UserError(
            "the model diverges without any plasticity already; check the units of inputs and "
            "initial weights."
        ) from None
    told("held-out data")
    shares = _shares(problem, selection, settings.seed)
    judge = Judge(problem, replace(problem, data=data.tested()), selection.fit)
    return Inference(
        _terms(problem, selection, judge, shares),
        judge.models(known=all(r.weights is not None for r in recordings)) if compare else (),
        selection.steps,
        _first_p(selection),
        len(pool),
        _often(selection, shares),
        _noise(problem, selection.fit),
        selection.fit.parameters.scale if free.scale else None,
        selection.fit.parameters.gain if free.gain else None,
        _described(recordings, data, free),
        _notes(recordings, data, settings),
        asdict(settings),
    )


def _prepared(recording: Recording, settings: InferenceSettings) -> Recording:
    """Return a recording less the expected reward, and less what cannot matter.

    Neurons that were never observed matter to nothing else in a layer.
    """
    memory = settings.reward_memory
    if memory:
        less = less_expected(recording.reward, recording.lengths, memory)
        recording = replace(recording, reward=less)
    if recording.kind in _LINK:
        return recording
    seen = np.isfinite(recording.observed).any((0, 1))
    weights = recording.weights
    return replace(
        recording,
        observed=recording.observed[:, :, seen],
        weights=None if weights is None else weights[..., seen, :],
    )


def _free(recordings: Sequence[Recording], settings: InferenceSettings) -> Free:
    known = all(recording.weights is not None for recording in recordings)
    initial = settings.initial
    if initial == "auto":
        initial = "given" if known else "fitted"
    lacking = [r.name for r in recordings if r.weights is None]
    require(
        initial == "fitted" or known,
        f"--initial {initial} needs initial_weights in every file, which {', '.join(lacking[:3])} "
        f"lacks; give --initial fitted.",
    )
    return Free(initial == "scale", settings.gain, initial == "fitted")


def _check(
    recordings: Sequence[Recording], pool: tuple[MonomialTerm, ...], settings: InferenceSettings,
    free: Free,
) -> None:  # fmt: skip
    require(bool(recordings), "infer needs at least one recording.")
    kinds = {r.kind for r in recordings}
    require(
        len(kinds) == 1,
        f"all files must hold the same kind of observation, got {' and '.join(sorted(kinds))}.",
    )
    shapes = {(r.pres, r.readout) for r in recordings}
    require(
        len(shapes) == 1,
        "all files must have the same number of inputs and the same readout; infer from one after "
        "the other.",
    )
    kind = recordings[0].kind
    rewarded = any(term.reward for term in pool)
    lacking = [r.name for r in recordings if not r.has_reward]
    require(
        not rewarded or not lacking,
        f"--terms {settings.terms} has terms with a reward, which "
        f"{', '.join(lacking[:3])} lacks; choose taylor, or add the array reward.",
    )
    require(
        not free.initial or kind not in _LINK,
        "initial weights cannot be fitted from choices of the whole layer; add the array "
        "initial_weights.",
    )
    by_animal = settings.by == "animals"
    require(
        not by_animal or len(recordings) >= _FEWEST_ANIMALS,
        f"--by animals needs at least {_FEWEST_ANIMALS} files, because fewer cannot rule out "
        f"chance, got {len(recordings)}; choose --by trials.",
    )
    require(
        not (by_animal and free.initial),
        "--by animals needs initial_weights in every file, because those of a held-out animal "
        "cannot be fitted; choose --by trials.",
    )
    if kind == "binary":
        require(
            settings.activation == "sigmoid",
            f"choices of neurons need --activation sigmoid, whose values are probabilities, got "
            f"{settings.activation}.",
        )


def _terms(
    problem: Problem, selection: Selection, judge: Judge, shares: Numbers
) -> tuple[FoundTerm, ...]:
    spread = errors(selection.fit, problem.loss)
    widening = np.maximum(1.0, spread.value / np.maximum(spread.by_model, 1e-300))
    pool, kept = selection.pool, selection.kept
    sure = certainties(selection.quadratic, kept, len(pool), selection.threshold, widening.tolist())
    labels = [term.label for term in pool]
    return tuple(
        FoundTerm(
            term, float(theta), float(theta - spread.quantile * error),
            float(theta + spread.quantile * error), float(shares[k]),
            tuple(labels[i] for i in each.alone),
            tuple((labels[i], labels[j]) for i, j in each.together),
            each.least, judge.without(term),
        )
        for term, theta, error, each, k in zip(
            selection.fit.terms, selection.fit.theta, spread.value, sure, kept, strict=True
        )
    )  # fmt: skip


def _shares(problem: Problem, selection: Selection, seed: int) -> Numbers:
    at, free = selection.fit.parameters, problem.free
    theta = np.zeros(len(selection.pool))
    theta[selection.kept] = selection.fit.theta
    point = np.concatenate([theta, [at.scale] * free.scale + [at.gain] * free.gain])
    return kept_shares(
        selection.moments, selection.quadratic, point, len(selection.pool), selection.threshold,
        seed=seed,
    )  # fmt: skip


def _often(selection: Selection, shares: Numbers) -> dict[str, float]:
    absent = [
        k for k in range(len(selection.pool)) if k not in selection.kept and shares[k] >= _OFTEN
    ]
    absent.sort(key=lambda k: -shares[k])
    return {selection.pool[k].name: float(shares[k]) for k in absent}


def _first_p(selection: Selection) -> float:
    if selection.steps:
        return selection.steps[0].p
    return float(selection.test.p.min())


def _noise(problem: Problem, found: Fit) -> float | None:
    if not problem.loss.has_noise:
        return None
    count = len(found.terms) + problem.free.count
    return float(np.sqrt(dispersion(found.moments, count, problem.loss)))


def _described(recordings: Sequence[Recording], data: Data, free: Free) -> dict[str, str]:
    first = recordings[0]
    steps = sum(r.steps for r in recordings)
    trials = sum(r.trials for r in recordings)
    seen = sum(int(np.isfinite(r.observed).sum()) for r in recordings)
    weights = "fitted, the same for all trials of a file" if free.initial else "given"
    if free.scale:
        weights = "given up to a scale, which is fitted"
    return {
        "files": ", ".join(r.name for r in recordings),
        "observed": f"{first.kind}, {seen} numbers",
        "size": f"{trials} trials, {steps} steps, {first.pres} inputs, {first.posts} neurons",
        "initial weights": weights
        + ("; they carry over between trials" if first.continues else ""),
        "clusters": f"{data.clusters} {data.cluster_unit}",
        "held out": f"{data.tests} {data.test_unit}",
    }


def _notes(
    recordings: Sequence[Recording], data: Data, settings: InferenceSettings
) -> tuple[str, ...]:
    found = [note for recording in recordings for note in recording.notes]
    bounded = settings.activation in _BOUNDED
    for each in recordings:
        if each.kind == "activity":
            found += require_scale(each.observed, each.inputs, bounded, each.name)
    if data.cluster_unit == "parts of trials":
        found.append(
            f"few trials: {data.clusters} stretches of time are taken as independent, which noise "
            f"that lasts longer than a stretch would violate."
        )
    elif data.clusters < 10:
        found.append(
            f"only {data.clusters} {data.cluster_unit}: intervals use Student's t with "
            f"{data.clusters - 1} degrees of freedom."
        )
    if not any(r.has_reward for r in recordings):
        return tuple(found)
    unused = not any(term.reward for term in candidates(settings.terms))
    if unused:
        found.append(f"--terms {settings.terms} has no term with the reward that the files hold.")
    return tuple(found)
