"""Read the checkpoint of a simulation, and check it before the simulation continues from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch

from metaplast.base.bands import Numbers
from metaplast.base.plain_data import check, entry
from metaplast.reservoirs.mastery import PENDING
from metaplast.reservoirs.network import Schedule


class Kept(NamedTuple):
    """The state of a simulation after some steps.

    Attributes:
        step: the number of steps that are done, a whole number of periods.
        counts: the number of updates of P that are kept separately, for each lane that masters.
        arrays: everything else that changes, by name.
    """

    step: int
    counts: Mapping[int, int]
    arrays: Mapping[str, Numbers]


def read_kept(
    data: Mapping[str, Any],
    like: Mapping[str, Numbers],
    lanes: Collection[int],
    schedule: Schedule,
) -> Kept:
    """Return the state in a checkpoint.

    Args:
        data: the contents of the checkpoint.
        like: arrays with the names and shapes that the checkpoint must have.
        lanes: numbers of the lanes that master.
        schedule: all steps, and the period after which a checkpoint is written.

    Raises:
        DataError: if a part is missing or does not fit the simulation.
    """
    step = entry(data, "step", int, "it")
    check(
        0 <= step <= schedule.steps and step % schedule.period == 0,
        f"its step {step} is not a whole number of periods",
    )
    written = entry(data, "counts", dict, "it")
    counts = {lane: entry(written, str(lane), int, "its counts") for lane in lanes}
    check(all(0 <= n < PENDING for n in counts.values()), "a count of updates is out of range")
    arrays = entry(data, "arrays", dict, "it")
    return Kept(step, counts, {n: _array(arrays, n, like[n]) for n in like})


def _array(arrays: Mapping[str, Any], name: str, like: Numbers) -> Numbers:
    # A recorded value may be NaN, because a run that diverges continues.
    found: Numbers = entry(arrays, name, torch.Tensor, "the list of its arrays").numpy(force=True)
    check(
        (found.dtype, found.shape) == (like.dtype, like.shape),
        f"{name} is {list(found.shape)} of {found.dtype}, not {list(like.shape)} of {like.dtype}",
    )
    return found
