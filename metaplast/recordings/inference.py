"""Infer a plasticity rule from recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require
from metaplast.base.words import amount
from metaplast.recordings.certainty import certainties, kept_shares
from metaplast.recordings.checks import scale_notes
from metaplast.recordings.comparison import Judge
from metaplast.recordings.fitted_taus import tau_notes, time_constants, with_fitted_taus
from metaplast.recordings.inference_settings import (
    LINKS_OF,
    InferenceSettings,
    check,
    free_parameters,
    prepared,
)
from metaplast.recordings.journal import Journal
from metaplast.recordings.losses import LOSSES
from metaplast.recordings.model import Layer
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.noise import noises, with_noise
from metaplast.recordings.pieces import DivergedError, Free
from metaplast.recordings.recording import Recording
from metaplast.recordings.result import FoundTerm, Inference
from metaplast.recordings.score import Errors, errors
from metaplast.recordings.search import Selection, Told
from metaplast.recordings.selection import select
from metaplast.recordings.trajectory import Data, arranged

_LOSS = {
    "activity": "gaussian", "counts": "poisson", "binary": "bernoulli", "readout": "bernoulli",
    "options": "categorical", "weights": "gaussian",
}  # fmt: skip
# The result lists absent candidates that are selected in at least this share of the resamples.
_OFTEN = 0.05
# Activations with values between −1 and 1.
_BOUNDED = ("sigmoid", "tanh")


def infer(
    recordings: Sequence[Recording] | Recording, settings: InferenceSettings | None = None, *,
    compare: bool = True, told: Told = lambda _: None, journal: Journal | None = None,
) -> Inference:  # fmt: skip
    """Infer the plasticity rule behind some recordings.

    The network is one layer, y = f(W x), whose weights change by a sum of monomials in x, y, W and
    a reward. Terms are selected on all but the held-out trials.

    Args:
        recordings: one for each animal, session or simulation, all with the same kind of
            observation; or a single one.
        settings: the settings; None for the defaults.
        compare: whether to fit the null models and published rules.
        told: called with one line about each step.
        journal: the journal of an interrupted inference; None for a new one.

    Raises:
        UserError: if the recordings do not match each other or the settings, or if the model
            diverges.
    """
    settings = settings or InferenceSettings()
    recordings = tuple(prepared(each, settings) for each in _each(recordings))
    pool = settings.pool
    free = free_parameters(recordings, settings)
    check(recordings, pool, settings, free)
    data = _arranged(recordings, settings)
    problem = _problem(recordings[0], data, settings, free, journal or Journal())
    problem, selection = _selected(problem, pool, settings, told)
    told("held-out data")
    shares = _shares(problem, selection, settings.seed)
    judge = Judge(problem, replace(problem, data=data.tested()), selection.fit)
    spread = errors(selection.fit, problem.loss)
    constants = time_constants(problem, selection.fit, spread)
    return Inference(
        _terms(selection, judge, shares, spread),
        constants,
        judge.models(known=all(r.weights is not None for r in recordings)) if compare else (),
        selection.steps,
        _first_p(selection),
        len(pool),
        _often(selection, shares),
        *noises(problem, selection.fit),
        selection.fit.parameters.scale if free.scale else None,
        selection.fit.parameters.gain if free.gain else None,
        _described(recordings, data, free),
        (
            *_notes(recordings, data, settings),
            *tau_notes(constants, max(max(r.lengths) for r in recordings)),
        ),
        asdict(settings),
    )


def _selected(
    problem: Problem, pool: tuple[MonomialTerm, ...], settings: InferenceSettings, told: Told
) -> tuple[Problem, Selection]:
    """Return the problem, with fitted time constants and noise of weights, and the selection."""

    def chosen(own: Problem) -> tuple[Problem, Selection]:
        found = select(own, pool, seed=settings.seed, told=told)
        if not settings.fit_tau:
            return own, found
        return with_fitted_taus(own, found, seed=settings.seed, told=told)

    try:
        return with_noise(problem, chosen)
    except DivergedError:
        raise UserError(
            "the model diverges even without plasticity; check the units of inputs and initial "
            "weights."
        ) from None


def _each(given: Sequence[Recording] | Recording) -> Sequence[Recording]:
    """Return the given recordings as a sequence, after checking their types."""
    found = [given] if isinstance(given, Recording) else given
    wrong = [each for each in found if not isinstance(each, Recording)]
    require(
        not wrong,
        f"infer takes recordings, got {', '.join(type(each).__name__ for each in wrong[:1])}; "
        f"write infer([Recording.of(arrays)]), or read_recording(path) for a file.",
    )
    return found


def _arranged(recordings: Sequence[Recording], settings: InferenceSettings) -> Data:
    data = arranged(
        recordings, held_out=settings.held_out, by_animal=settings.by == "animals",
        seed=settings.seed,
    )  # fmt: skip
    require(
        data.clusters > 1,
        f"a fit needs at least 2 {data.cluster_unit}, but these recordings have {data.clusters}; "
        f"give more trials or steps.",
    )
    return data


def _problem(
    first: Recording, data: Data, settings: InferenceSettings, free: Free, journal: Journal
) -> Problem:
    layer = Layer(
        settings.activation, settings.eta, LINKS_OF.get(first.kind, "neurons"), first.readout
    )
    return Problem(data.fitted(), layer, LOSSES[_LOSS[first.kind]], free, journal=journal)


def _terms(
    selection: Selection, judge: Judge, shares: Numbers, spread: Errors
) -> tuple[FoundTerm, ...]:
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
    theta = np.zeros(len(selection.pool))
    theta[selection.kept] = selection.fit.theta
    point = np.concatenate([theta, selection.fit.parameters.others(problem.free)])
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


def _described(recordings: Sequence[Recording], data: Data, free: Free) -> dict[str, str]:
    first = recordings[0]
    steps = sum(r.steps for r in recordings)
    trials = sum(r.trials for r in recordings)
    seen = {
        first.kind: sum(int(np.isfinite(r.observed).sum()) for r in recordings),
        "weights": sum(
            int(np.isfinite(r.seen_weights).sum()) for r in recordings if r.seen_weights is not None
        ),
    }
    weights = "fitted, the same for all trials of a file" if free.initial else "given"
    if free.scale:
        weights = "given up to a scale, which is fitted"
    return {
        "files": ", ".join(r.name for r in recordings),
        "observed": "; ".join(f"{k}, {amount(n, 'numbers')}" for k, n in seen.items() if n),
        "size": ", ".join(
            amount(number, unit)
            for number, unit in (
                *((trials, "trials"), (steps, "steps")),
                *((first.pres, "inputs"), (first.posts, "neurons")),
            )
        ),
        "initial weights": weights
        + ("; they carry over between trials" if first.continues else ""),
        "independent": amount(data.clusters, data.cluster_unit),
        "held out": amount(data.tests, data.test_unit),
    }


def _notes(
    recordings: Sequence[Recording], data: Data, settings: InferenceSettings
) -> tuple[str, ...]:
    found = [note for recording in recordings for note in recording.notes]
    bounded = settings.activation in _BOUNDED
    for each in recordings:
        if each.kind == "activity":
            found += scale_notes(each.observed, each.inputs, bounded, each.name)
    if data.cluster_unit == "parts of trials":
        found.append(
            f"few trials: {data.clusters} stretches of time count as independent; intervals are "
            f"too narrow if noise is correlated for longer than a stretch."
        )
    elif data.clusters < 10:
        found.append(
            f"only {amount(data.clusters, data.cluster_unit)}: intervals use Student's t with "
            f"{amount(data.clusters - 1, 'degrees of freedom')}."
        )
    if not any(r.has_reward for r in recordings):
        return tuple(found)
    unused = not any(term.has_reward for term in settings.pool)
    if unused:
        found.append(f"--terms {settings.terms} has no term with the reward that the files hold.")
    return tuple(found)
