"""Recordings as NWB files. metaplast reads these objects, by name:

    table trials            start_time and stop_time; optional columns reward, and choice (at the
                            last step of a trial)
    TimeSeries              inputs [time, n] and one of activity [time, m], counts [time, m] and
                            choices [time] or [time, m]; optional reward and plastic [time];
                            optional weights [time, m, n], observed at times of their own
    scratch                 optional arrays initial_weights, readout and continues

The steps of a trial are the samples of `inputs` from its start time up to, but not including, its
stop time; other samples are left out. All series except `weights` must have the same times. Weights
belong to the first step at or after their time; weights that were observed after the last step of a
trial are those after its last change. Values are data · conversion + offset.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require
from metaplast.base.optional import optional
from metaplast.base.paths import AnyPath, as_path
from metaplast.recordings.damaged import DAMAGE, damaged

_SERIES = ("activity", "counts", "choices", "reward", "plastic")
_ARRAYS = ("initial_weights", "readout", "continues")
# Two times are the same if they differ by at most this share of a sampling interval.
_SAME = 1e-3


def require_pynwb() -> ModuleType:
    """Return the package pynwb.

    Raises:
        UserError: if it is not installed.
    """
    return optional("pynwb", "metaplast[nwb]", "NWB files need", "convert them to .npz files")


def read_nwb(path: AnyPath) -> dict[str, Any]:
    """Return the arrays in a file, as `Recording.of` takes them.

    Raises:
        UserError: if the file is damaged, lacks trials or inputs, its series have different times,
            or pynwb is not installed.
    """
    path = as_path(path, "recording")
    pynwb = require_pynwb()
    try:
        with pynwb.NWBHDF5IO(str(path), "r") as stream:
            return _arrays(stream.read(), pynwb.TimeSeries, path.name)
    except (*DAMAGE, TypeError) as error:
        # pynwb raises a TypeError for an HDF5 file that is not an NWB file.
        raise damaged(path, "an NWB file", error) from None


def write_nwb(path: AnyPath, _: Mapping[str, Any]) -> None:
    """Refuse to write.

    Raises:
        UserError: always.
    """
    path = as_path(path, "recording")
    raise UserError(f"NWB files are only read; write {path.stem}.npz or {path.stem}.h5 instead.")


def _arrays(file: Any, kind: type, name: str) -> dict[str, Any]:
    series = _series(file, kind, name)
    require(
        "inputs" in series,
        f"{name} has no TimeSeries inputs [time, n]; it has {', '.join(sorted(series)) or 'none'}.",
    )
    times = _times(series["inputs"])
    trials = _trials(file, times, name)
    found: dict[str, Any] = {"lengths": np.array([len(steps) for steps in trials])}
    found["inputs"] = _stacked(_values(series["inputs"]).reshape(len(times), -1), trials)
    found["times"] = _stacked(times, trials)
    for field in _SERIES:
        if field in series:
            _require_times(times, _times(series[field]), field, name)
            found[field] = _stacked(_values(series[field]), trials)
    if "weights" in series:
        found["weights"] = _weights(series["weights"], file.trials, times, trials, name)
    _add_columns(found, file.trials)
    scratch = file.scratch or {}
    found |= {field: np.asarray(scratch[field].data[()]) for field in _ARRAYS if field in scratch}
    for field in ("activity", "counts"):
        if field in found and found[field].ndim == 2:
            found[field] = found[field][:, :, None]
    return found


def _series(file: Any, kind: type, name: str) -> dict[str, Any]:
    """Return all time series by name; a series that is read must not occur twice."""
    found: dict[str, Any] = {}
    for each in file.objects.values():
        if isinstance(each, kind):
            own = str(each.name)  # type: ignore[attr-defined]
            require(
                own not in found or own not in ("inputs", "weights", *_SERIES),
                f"{name} has two TimeSeries {own}; rename one of them.",
            )
            found[own] = each
    return found


def _values(series: Any) -> Numbers:
    data = np.asarray(series.data[()], dtype=float)
    return np.asarray(data * series.conversion + series.offset)


def _times(series: Any) -> Numbers:
    if series.timestamps is not None:
        return np.asarray(series.timestamps[()], dtype=float)
    start = series.starting_time or 0.0
    return np.asarray(start + np.arange(len(series.data)) / series.rate)


def _trials(file: Any, times: Numbers, name: str) -> list[Any]:
    """Return the samples of each trial."""
    table = file.trials
    require(
        table is not None and len(table) > 0,
        f"{name} has no table of trials; add trials with start_time and stop_time.",
    )
    starts, stops = (np.asarray(table[column].data[()]) for column in ("start_time", "stop_time"))
    order = np.argsort(starts)
    require(
        bool((starts[order][1:] >= stops[order][:-1]).all() and (stops > starts).all()),
        f"{name}: trials must not overlap, and each must stop after its start; check the table.",
    )
    found = [np.flatnonzero((a <= times) & (times < b)) for a, b in zip(starts, stops, strict=True)]
    empty = [number for number, steps in enumerate(found) if not len(steps)]
    require(
        not empty,
        f"{name}: trial {empty[0] if empty else 0} has no sample of inputs; check that the trials "
        f"and the series count time from the start of the session, in seconds.",
    )
    return found


def _stacked(values: Numbers, trials: list[Any]) -> Numbers:
    """Return samples as [trial, time, …], with NaN after the end of a trial."""
    found = np.full((len(trials), max(map(len, trials)), *values.shape[1:]), np.nan)
    for trial, steps in enumerate(trials):
        found[trial, : len(steps)] = values[steps]
    return found


def _interval(times: Numbers) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else 1.0


def _require_times(times: Numbers, other: Numbers, field: str, name: str) -> None:
    same = times.shape == other.shape
    require(
        same and bool((np.abs(times - other) <= _SAME * _interval(times)).all()),
        f"{name}: {field} and inputs have different times ({len(other)} and {len(times)} samples); "
        f"resample one of them to the times of the other.",
    )


def _weights(series: Any, table: Any, times: Numbers, trials: list[Any], name: str) -> Numbers:
    """Return observed weights, [trial, time + 1, post, pre]."""
    values, own = _values(series), _times(series)
    starts, stops = (np.asarray(table[column].data[()]) for column in ("start_time", "stop_time"))
    longest = max(map(len, trials))
    found = np.full((len(trials), longest + 1, *values.shape[1:]), np.nan)
    little = _SAME * _interval(times)
    for time, value in zip(own, values, strict=True):
        inside = np.flatnonzero((starts <= time) & (time < stops))
        inside = inside if len(inside) else np.flatnonzero(np.abs(stops - time) <= little)
        require(
            len(inside) > 0,
            f"{name}: weights were observed at {time:g} s, which is in no trial; leave them out, "
            f"or make the trial longer.",
        )
        trial = int(inside[0])
        found[trial, int((times[trials[trial]] < time - little).sum())] = value
    return found


def _add_columns(found: dict[str, Any], table: Any) -> None:
    """Add the rewards and the choices of whole trials."""
    if "reward" in table.colnames and "reward" not in found:
        found["reward"] = np.asarray(table["reward"].data[()], dtype=float)
    if "choice" in table.colnames and "choices" not in found:
        choices = np.full(found["inputs"].shape[:2], np.nan)
        last = found["lengths"] - 1
        choices[np.arange(len(last)), last] = np.asarray(table["choice"].data[()], dtype=float)
        found["choices"] = choices
