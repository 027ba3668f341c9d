"""Recordings as the fit sees them: steps in order, with what was observed at each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.seeds import numpy_generator
from metaplast.recordings.arrays import Flags, Places
from metaplast.recordings.recording import Recording

# With fewer trials than this, parts of trials are the clusters.
MANY = 20
# How many parts are made of the trials then.
PARTS = 40
HELD_OUT = -1
# Fields of a trajectory with a value for each step.
_PER_STEP = ("inputs", "observed", "reward", "plastic", "cluster", "test")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Steps that follow each other, from given weights.

    Attributes:
        inputs: x, [time, pre].
        observed: what was observed, [time, post], or [time, 1] of a readout; NaN if it was not.
        reward: r, [time].
        plastic: whether the weights change at a step, [time].
        cluster: number of the cluster of each step, [time]; -1 if it is held out.
        test: number of the held-out unit of each step, [time]; -1 if it is used for the fit.
        initial: W_0, [post, pre].
        animal: number of the file.
    """

    inputs: Numbers
    observed: Numbers
    reward: Numbers
    plastic: Flags
    cluster: Places
    test: Places
    initial: Numbers
    animal: int

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Data:
    """All trajectories of a fit.

    Attributes:
        trajectories: in the order of files and trials.
        clusters: number of clusters, the units that are taken as independent.
        cluster_unit: what a cluster is, in words: "trials", "animals" or "parts of trials".
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
        """Return the part that the fit needs: without trajectories that are wholly held out.

        Steps after the last one that is used are left out as well.
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
    return replace(each, **{name: getattr(each, name)[:end] for name in _PER_STEP})


def arranged(
    recordings: Sequence[Recording], *, held_out: float, by_animal: bool, seed: int
) -> Data:
    """Return recordings as trajectories, with clusters and held-out units.

    A trial is a trajectory, or all trials of an animal are one if its weights carry over from
    trial to trial. Held out is a share of the trials: drawn, or the last ones if weights carry
    over; of a single trial, the last steps. With `by_animal`, whole animals are held out.

    Args:
        recordings: one for each animal.
        held_out: the share that is held out.
        by_animal: whether animals are held out, and are the clusters.
        seed: of the draw.
    """
    trials: list[tuple[int, Trajectory]] = []
    for animal, recording in enumerate(recordings):
        trials += [(animal, each) for each in _trials(recording, animal)]
    held = _held_out(recordings, held_out, by_animal=by_animal, seed=seed)
    kept = [i for i in range(len(trials)) if i not in held]
    single = len(trials) == 1
    parts = 1 if len(kept) >= MANY or by_animal else -(-PARTS // max(len(kept), 1))
    cluster = test = 0
    marked = []
    animals: dict[int, int] = {}
    for index, (animal, each) in enumerate(trials):
        steps = each.steps
        clusters, tests = np.full(steps, HELD_OUT), np.full(steps, HELD_OUT)
        end = steps
        if single and held_out > 0:
            end = steps - max(1, round(held_out * steps))
            tests[end:] = np.arange(steps - end) * min(PARTS, steps - end) // (steps - end)
            test = int(tests[-1]) + 1
        elif index in held:
            tests[:] = test
            test, end = test + 1, 0
        if end and by_animal:
            clusters[:end] = animals.setdefault(animal, len(animals))
            cluster = len(animals)
        elif end:
            own = min(parts, end)
            clusters[:end] = cluster + np.arange(end) * own // end
            cluster += own
        marked.append((animal, replace(each, cluster=clusters, test=tests)))
    unit = "animals" if by_animal else "trials" if parts == 1 else "parts of trials"
    test_unit = (
        "animals' trials" if by_animal else "parts of the last steps" if single else "trials"
    )
    return Data(_joined(recordings, marked), cluster, unit, test, test_unit)


def _held_out(
    recordings: Sequence[Recording], share: float, *, by_animal: bool, seed: int
) -> set[int]:
    """Return the numbers of the held-out trials, over all files."""
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
        nothing = np.full(steps, HELD_OUT)
        found.append(Trajectory(
            np.ascontiguousarray(recording.inputs[trial, :steps]),
            recording.observed[trial, :steps],
            np.ascontiguousarray(recording.reward[trial, :steps]),
            np.ascontiguousarray(recording.plastic[trial, :steps]),
            nothing, nothing, recording.initial(trial), animal,
        ))  # fmt: skip
    return found


def _joined(
    recordings: Sequence[Recording], marked: Sequence[tuple[int, Trajectory]]
) -> tuple[Trajectory, ...]:
    """Return trajectories, with the trials of an animal in one if its weights carry over."""
    found = []
    for animal, recording in enumerate(recordings):
        own = [each for number, each in marked if number == animal]
        if recording.continues:
            own = [replace(own[0], **{n: _chained(own, n) for n in _PER_STEP})]
        found += own
    return tuple(found)


def _chained(own: Sequence[Trajectory], name: str) -> Any:
    return np.concatenate([getattr(each, name) for each in own])
