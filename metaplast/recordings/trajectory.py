"""Recordings in the form that a fit needs: steps in order, with the observations at each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.seeds import numpy_generator
from metaplast.recordings.arrays import Flags, Places
from metaplast.recordings.recording import Recording

# With fewer trials than this, trials are split into parts, and the parts are the clusters.
MANY = 20
# The total number of parts in that case, over all trials.
PARTS = 40
# With more trials than this, several of them form a cluster, which bounds memory.
MOST = 200
HELD_OUT = -1
# Fields of a trajectory with a value for each step.
_PER_STEP = ("inputs", "observed", "reward", "plastic", "cluster", "test", "starts")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Consecutive steps that start from given weights.

    Attributes:
        inputs: x, [time, pre].
        observed: what was observed, [time, post], or [time, 1] of a readout; NaN if it was not.
        reward: r, [time].
        plastic: whether the weights change at a step, [time].
        cluster: index of the cluster of each step, [time]; -1 if it is held out.
        test: index of the held-out unit of each step, [time]; -1 if it is used for the fit.
        starts: whether a step is the first of a trial, [time].
        initial: W_0, [post, pre].
        animal: index of the recording (one file for each animal).
        weights: observed weights by step, [post, pre]; NaN where they were not observed.
    """

    inputs: Numbers
    observed: Numbers
    reward: Numbers
    plastic: Flags
    cluster: Places
    test: Places
    starts: Flags
    initial: Numbers
    animal: int
    weights: Mapping[int, Numbers] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Data:
    """All trajectories of a fit.

    Attributes:
        trajectories: in the order of files and trials.
        clusters: number of clusters, the units that count as independent.
        cluster_unit: what a cluster is, in words: "trials", "animals", "groups of trials" or
            "parts of trials".
        tests: number of held-out units.
        test_unit: what a held-out unit is, in words.
    """

    trajectories: tuple[Trajectory, ...]
    clusters: int
    cluster_unit: str
    tests: int
    test_unit: str

    @property
    def animals(self) -> int:
        """Number of animals."""
        return 1 + max(t.animal for t in self.trajectories)

    def fitted(self) -> Data:
        """Return the part that the fit needs.

        Trajectories that are entirely held out, and steps after the last used one, are left out.
        """
        kept = []
        for each in self.trajectories:
            used = np.flatnonzero(each.cluster >= 0)
            if len(used):
                kept.append(_until(each, int(used[-1]) + 1))
        return replace(self, trajectories=tuple(kept))

    def tested(self) -> Data:
        """Return the trajectories with held-out steps."""
        kept = [t for t in self.trajectories if (t.test >= 0).any()]
        return replace(self, trajectories=tuple(kept))


def _until(each: Trajectory, end: int) -> Trajectory:
    weights = {step: seen for step, seen in each.weights.items() if step < end}
    return replace(each, weights=weights, **{n: getattr(each, n)[:end] for n in _PER_STEP})


def arranged(
    recordings: Sequence[Recording], *, held_out: float, by_animal: bool, seed: int
) -> Data:
    """Return recordings as trajectories, with clusters and held-out units.

    Each trial is a trajectory, unless weights carry over from trial to trial: then all trials of an
    animal form one trajectory. A share of the trials is held out: random trials, the last trials if
    weights carry over, or the last steps if there is a single trial. With `by_animal`, whole
    animals are held out.

    Args:
        recordings: one for each animal.
        held_out: the share that is held out.
        by_animal: whether animals are held out, and are the clusters.
        seed: seed of the random choice of held-out trials.
    """
    trials: list[Trajectory] = []
    for animal, recording in enumerate(recordings):
        trials += _trials(recording, animal)
    held = _held_out(recordings, held_out, by_animal=by_animal, seed=seed)
    single = len(trials) == 1
    kept = len(trials) - len(held)
    parts = 1 if kept >= MANY or by_animal else -(-PARTS // max(kept, 1))
    counter = _Counter(parts, -(-kept // MOST), -(-len(held) // MOST), by_animal=by_animal)
    marked = [
        counter.held(each) if index in held
        else counter.used(each, held_out if single else 0.0)
        for index, each in enumerate(trials)
    ]  # fmt: skip
    tests = 1 + max(int(each.test.max()) for each in marked)
    clusters = 1 + max(int(each.cluster.max()) for each in marked)
    test_unit = "parts of the last steps" if single else counter.unit(counter.tests)
    unit = "parts of trials" if parts > 1 else counter.unit(counter.together)
    return Data(_joined(recordings, marked), clusters, unit, tests, test_unit)


class _Counter:
    """Numbers the clusters and held-out units of trials.

    Args:
        parts: clusters that a trial is split into.
        together: number of trials in a cluster, if they are not split.
        tests: number of held-out trials in a unit.
        by_animal: whether animals are the clusters.
    """

    def __init__(self, parts: int, together: int, tests: int, *, by_animal: bool) -> None:
        self.parts, self.together, self.tests, self.by_animal = parts, together, tests, by_animal
        self._trials = self._clusters = self._held = 0
        self._animals: dict[int, int] = {}
        self._held_animals: dict[int, int] = {}

    def held(self, each: Trajectory) -> Trajectory:
        """Return a trial marked as held out."""
        test = np.full(each.steps, self._held // max(self.tests, 1))
        self._held += 1
        if self.by_animal:
            test[:] = self._held_animals.setdefault(each.animal, len(self._held_animals))
        return replace(each, test=test)

    def used(self, each: Trajectory, share: float) -> Trajectory:
        """Return a trial marked for the fit, with the last share of its steps held out."""
        steps = each.steps
        cluster, test = np.full(steps, HELD_OUT), np.full(steps, HELD_OUT)
        end = steps if share == 0 else steps - max(1, round(share * steps))
        last = steps - end
        if last:
            test[end:] = np.arange(last) * min(PARTS, last) // last
        own = min(self.parts, end)
        if self.by_animal:
            start = self._animals.setdefault(each.animal, len(self._animals))
        elif self.parts == 1:
            start = self._trials // max(self.together, 1)
        else:
            start = self._clusters
        cluster[:end] = start + np.arange(end) * own // max(end, 1)
        self._trials, self._clusters = self._trials + 1, start + own
        return replace(each, cluster=cluster, test=test)

    def unit(self, together: int) -> str:
        """Return the word for a unit that holds `together` trials."""
        if self.by_animal:
            return "animals"
        return "trials" if together <= 1 else "groups of trials"


def _held_out(
    recordings: Sequence[Recording], share: float, *, by_animal: bool, seed: int
) -> set[int]:
    """Return the indices of the held-out trials, counted over all files."""
    draw = numpy_generator(seed, "infer", "held out")
    counts = [r.trials for r in recordings]
    starts = np.cumsum([0, *counts])
    if share <= 0 or sum(counts) == 1:
        return set()
    if by_animal:
        number = min(max(1, round(share * len(counts))), len(counts) - 1)
        chosen = draw.permutation(len(counts))[:number]
        return {i for a in chosen for i in range(starts[a], starts[a + 1])}
    found: set[int] = set()
    for animal, recording in enumerate(recordings):
        number = min(round(share * counts[animal]), counts[animal] - 1)
        number = max(number, 1 if len(recordings) == 1 else 0)
        order = np.arange(counts[animal])[::-1]
        if not recording.continues:
            order = draw.permutation(counts[animal])
        found |= {int(starts[animal] + i) for i in order[:number]}
    return found


def _trials(recording: Recording, animal: int) -> list[Trajectory]:
    found = []
    for trial in range(recording.trials):
        steps = recording.lengths[trial]
        weights = _seen_weights(recording, trial)
        # Weights after the last change are observed at an extra step, at which nothing changes.
        more = int(steps in weights)
        nothing = np.full(steps + more, HELD_OUT)
        found.append(Trajectory(
            _followed(recording.inputs[trial, :steps], more, 0.0),
            _followed(recording.observed[trial, :steps], more, np.nan),
            _followed(recording.reward[trial, :steps], more, 0.0),
            _followed(recording.plastic[trial, :steps], more, False),
            nothing, nothing, np.arange(steps + more) == 0, recording.initial(trial), animal,
            weights,
        ))  # fmt: skip
    return found


def _seen_weights(recording: Recording, trial: int) -> dict[int, Numbers]:
    if recording.seen_weights is None:
        return {}
    own = recording.seen_weights[trial]
    return {int(step): own[step] for step in np.flatnonzero(np.isfinite(own).any((1, 2)))}


def _followed(values: Any, more: int, last: float) -> Any:
    """Return the values of steps, padded by `more` steps with the value `last`."""
    width = [(0, more)] + [(0, 0)] * (values.ndim - 1)
    return np.ascontiguousarray(np.pad(values, width, constant_values=last))


def _joined(
    recordings: Sequence[Recording], marked: Sequence[Trajectory]
) -> tuple[Trajectory, ...]:
    """Return the trajectories; those of an animal are joined if its weights carry over."""
    found = []
    for animal, recording in enumerate(recordings):
        own = [each for each in marked if each.animal == animal]
        if recording.continues:
            weights, start = dict[int, Numbers](), 0
            for each in own:
                weights |= {start + step: seen for step, seen in each.weights.items()}
                start += each.steps
            chained = {n: _chained(own, n) for n in _PER_STEP}
            own = [replace(own[0], weights=weights, **chained)]
        found += own
    return tuple(found)


def _chained(own: Sequence[Trajectory], name: str) -> Any:
    return np.concatenate([getattr(each, name) for each in own])
