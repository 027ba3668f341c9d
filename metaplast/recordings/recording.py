"""A recording: the inputs of a network over time, and the observations of the network.

Arrays and files have this layout (n inputs, m neurons, arrays [trial, time, …]):

    inputs           [trial, time, n]  activity x of the inputs
    one of
      activity       [trial, time, m]  activity y of the neurons; NaN where it was not observed
      counts         [trial, time, m]  spike counts; NaN where they were not observed
      choices        [trial, time, m]  0 or 1 for each neuron; NaN where there was no choice
                     [trial, time]     with `readout`: 0 or 1; without: index of the chosen neuron
    reward           [trial, time] or [trial]       a third factor r; optional
    initial_weights  [m, n] or [trial, m, n]        W at the start of a trial; optional
    weights          [trial, time, m, n]            W before the change of a step; NaN where it was
                     [trial, time + 1, m, n]        not observed; also after the last step. May be
                                                    given with one of the above, or instead of it
    lengths          [trial]           steps of each trial, if some are padded; optional
    times            [time] or [trial, time]        in any unit; must increase; optional
    plastic          [trial, time]     whether the weights change at a step; optional, default all
    readout          [m]               fixed weights from the neurons to a binary choice; optional
    continues        0 or 1            whether a trial starts from the weights at the end of the
                                       previous trial; optional, default 0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require
from metaplast.base.words import amount
from metaplast.recordings.arrays import Flags
from metaplast.recordings.checks import (
    checked_choices,
    checked_lengths,
    checked_times,
    filled_inputs,
    numbers,
    observation_notes,
    per_step,
)
from metaplast.recordings.observed_weights import observed_weights, weight_notes

OBSERVED = ("activity", "counts", "choices")
FIELDS = (
    "inputs", *OBSERVED, "weights", "reward", "initial_weights", "lengths", "times", "plastic",
    "readout", "continues",
)  # fmt: skip
# Fields that a file may hold but that a fit does not use: the ground truth of a simulation.
IGNORED = ("rule", "settings")


@dataclass(frozen=True, eq=False)
class Recording:
    """A checked recording of one animal, session or simulation.

    Attributes:
        name: the name of the file, for messages.
        kind: what was observed: "activity", "counts", "binary", "readout", "options", or
            "weights" if only weights were.
        inputs: x, [trial, time, pre]; 0 where padded.
        observed: [trial, time, post]; [trial, time, 1] for a readout; one-hot for options. NaN
            where nothing was observed.
        reward: r, [trial, time]; 0 if there is none.
        plastic: whether the weights change, [trial, time].
        lengths: steps of each trial.
        weights: initial weights, [post, pre] or [trial, post, pre]; None if unknown.
        readout: fixed weights to a binary choice; empty if there is none.
        continues: whether the weights carry over from trial to trial.
        has_reward: whether a reward was given.
        notes: sentences about missing or unusual values, with numbers.
        seen_weights: the observed weights, [trial, time + 1, post, pre]; NaN where they were not
            observed. None if no weights were observed.
    """

    name: str
    kind: str
    inputs: Numbers
    observed: Numbers
    reward: Numbers
    plastic: Flags
    lengths: tuple[int, ...]
    weights: Numbers | None
    readout: tuple[float, ...]
    continues: bool
    has_reward: bool
    notes: tuple[str, ...]
    seen_weights: Numbers | None = None

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.inputs)

    @property
    def pres(self) -> int:
        """Number of inputs."""
        return int(self.inputs.shape[2])

    @property
    def posts(self) -> int:
        """Number of neurons."""
        return len(self.readout) or int(self.observed.shape[2])

    @property
    def steps(self) -> int:
        """Total number of time steps, over all trials."""
        return sum(self.lengths)

    def initial(self, trial: int) -> Numbers:
        """Return the given weights at the start of a trial; zeros if they are unknown."""
        if self.weights is None:
            return np.zeros((self.posts, self.pres))
        return self.weights if self.weights.ndim == 2 else self.weights[trial]

    @classmethod
    def of(cls, arrays: Mapping[str, Any], name: str = "the recording") -> Recording:
        """Return a recording made from arrays in the layout above.

        Args:
            arrays: the arrays by field.
            name: name of the file, for messages.

        Raises:
            UserError: if a field is missing or unknown, or does not fit the others.
        """
        _require_known(arrays, name)
        inputs, lengths, inside, notes = _inputs(arrays, name)
        kind, observed, seen, more = _all_observed(arrays, inputs, lengths, name)
        shape, notes = inputs.shape[:2], notes + more
        reward = per_step(arrays.get("reward"), shape, f"{name}: reward", 0.0)
        plastic = per_step(arrays.get("plastic"), shape, f"{name}: plastic", 1.0)
        readout = _readout(arrays, name)
        posts = len(readout) or observed.shape[2]
        weights = _weights(arrays.get("initial_weights"), (shape[0], posts, inputs.shape[2]), name)
        continues = bool(np.any(numbers(arrays.get("continues", 0), f"{name}: continues")))
        if continues and weights is not None and weights.ndim == 3:
            weights = weights[0]
        if seen is not None:
            notes += weight_notes(seen, weights, continues=continues, name=name)
        return cls(
            name, kind, inputs, observed, np.where(inside, reward, 0.0),
            inside & (plastic > 0.5), lengths, weights, readout, continues,
            arrays.get("reward") is not None, tuple(notes), seen,
        )  # fmt: skip


def _inputs(
    arrays: Mapping[str, Any], name: str
) -> tuple[Numbers, tuple[int, ...], Flags, list[str]]:
    """Return inputs, trial lengths, a mask of the steps that are not padding, and notes."""
    require("inputs" in arrays, f"{name} has no inputs; give an array inputs [trial, time, n].")
    inputs = numbers(arrays["inputs"], f"{name}: inputs")
    require(
        inputs.ndim == 3 and inputs.size > 0,
        f"{name}: inputs must be [trial, time, neuron], got the shape {inputs.shape}; pad "
        f"shorter trials, and give the array lengths.",
    )
    lengths = checked_lengths(arrays.get("lengths"), inputs.shape[:2], name)
    inside, notes = _within(lengths, inputs.shape[1]), list[str]()
    if min(lengths) < max(lengths):
        notes.append(f"{name}: trials have {min(lengths)} to {max(lengths)} steps.")
    inputs = filled_inputs(inputs, inside, name)
    if arrays.get("times") is not None:
        notes += checked_times(arrays["times"], lengths, name)
    return inputs, lengths, inside, notes


def _within(lengths: tuple[int, ...], steps: int) -> Flags:
    """Return a mask of the steps that are not padding, [trial, time]."""
    return np.arange(steps) < np.array(lengths)[:, None]


def _all_observed(
    arrays: Mapping[str, Any], inputs: Numbers, lengths: tuple[int, ...], name: str
) -> tuple[str, Numbers, Numbers | None, list[str]]:
    """Return the kind of observation, the observations, observed weights or None, and notes."""
    trials, steps, pres = inputs.shape
    readout = len(_readout(arrays, name))
    kind, observed = _observed(arrays, (trials, steps), readout, name)
    posts = readout or (None if observed is None else observed.shape[2])
    given = arrays.get("weights")
    seen = observed_weights(given, (trials, steps), posts, pres, lengths, name)
    if observed is None:
        assert seen is not None
        return kind, np.full((trials, steps, seen.shape[2]), np.nan), seen, []
    inside = _within(lengths, steps)
    observed = _inside(observed, inside, arrays, name)
    return kind, observed, seen, observation_notes(observed, inside, kind, name)


def _inside(observed: Numbers, inside: Flags, arrays: Mapping[str, Any], name: str) -> Numbers:
    """Return the observations, with NaN where trials are padded."""
    observed = np.where(inside[:, :, None], observed, np.nan)
    require(
        bool(np.isfinite(observed).any()),
        f"{name}: nothing was observed: all of {_field(arrays)} is NaN; check the file.",
    )
    return observed


def _require_known(arrays: Mapping[str, Any], name: str) -> None:
    from metaplast.base.errors import unknown_name

    for field in arrays:
        if field not in (*FIELDS, *IGNORED):
            error = unknown_name(f"array in {name}", field, FIELDS)
            raise error


def _field(arrays: Mapping[str, Any]) -> str:
    return next(field for field in OBSERVED if field in arrays)


def _readout(arrays: Mapping[str, Any], name: str) -> tuple[float, ...]:
    if arrays.get("readout") is None:
        return ()
    found = numbers(arrays["readout"], f"{name}: readout")
    require(
        found.ndim == 1 and bool(np.isfinite(found).all()) and len(found) > 0,
        f"{name}: readout must be one finite number for each neuron, got the shape {found.shape}.",
    )
    return tuple(map(float, found))


def _observed(
    arrays: Mapping[str, Any], shape: tuple[int, ...], readout: int, name: str
) -> tuple[str, Numbers | None]:
    """Return the kind of observation, and the array [trial, time, neuron or option].

    The array is None if only weights were observed.
    """
    present = [field for field in OBSERVED if arrays.get(field) is not None]
    if not present and not readout and arrays.get("weights") is not None:
        return "weights", None
    require(
        len(present) == 1,
        f"{name} must hold one of activity, counts and choices, or weights, got "
        f"{' and '.join(present) or 'none'}; give one of them.",
    )
    field = present[0]
    found = numbers(arrays[field], f"{name}: {field}")
    flat = field == "choices" and found.ndim == 2
    require(
        found.shape[:2] == shape and (flat or (found.ndim == 3 and found.shape[2] > 0)),
        f"{name}: {field} must be [trial, time, neuron] with {amount(shape[0], 'trials')} of "
        f"{amount(shape[1], 'steps')}, like inputs, got the shape {found.shape}.",
    )
    if readout:
        require(
            flat,
            f"{name}: with a readout, choices must be [trial, time], got {field} of the shape "
            f"{found.shape}; leave out readout, or give one choice for each step.",
        )
    infinite = np.isinf(found).sum()
    if infinite:
        many = amount(int(infinite), f"numbers of {field} are", f"number of {field} is")
        raise UserError(f"{name}: {many} infinite; write NaN for a gap.")
    if field != "choices":
        return field, found
    known = arrays.get("initial_weights")
    given = np.shape(arrays.get("weights", 0) if known is None else known)
    options = given[-2] if len(given) >= 2 else 0
    return checked_choices(found, name, is_readout=bool(readout), options=options)


def _weights(given: Any, shape: tuple[int, int, int], name: str) -> Numbers | None:
    if given is None:
        return None
    found = numbers(given, f"{name}: initial_weights")
    require(
        found.shape in (shape, shape[1:]) and bool(np.isfinite(found).all()),
        f"{name}: initial_weights must be finite, [post, pre] = {list(shape[1:])} or [trial, post, "
        f"pre], got the shape {found.shape}.",
    )
    return found
