"""Checks of recordings. A fault raises an error; something unusual only leads to a note."""

from __future__ import annotations

from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import amount
from metaplast.recordings.arrays import Flags

# A sampling interval this far from the usual one is a gap.
_GAP = 1.5
# If two scales differ by this factor, a unit is probably wrong.
_UNITS = 100.0
# For numbers up to this size, sums of squares and of products stay finite.
_MOST = 1e50


def numbers(value: Any, what: str) -> Numbers:
    """Return a value as an array of float64.

    Raises:
        UserError: if the value is ragged, or holds anything but numbers.
    """
    try:
        found = np.asarray(value)
        reason = f"its type is {found.dtype}"
        # Converting complex numbers would drop the imaginary part.
        if found.dtype == bool or (np.issubdtype(found.dtype, np.number) and np.isrealobj(found)):
            return _moderate(np.array(found, dtype=np.float64), what)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")
    raise UserError(
        f"{what} must be an array of numbers, but {reason[:120]}; pad trials of unequal length "
        f"with NaN, and give the array lengths."
    )


def _moderate(found: Numbers, what: str) -> Numbers:
    """Return the numbers, after checking that their squares are finite.

    Raises:
        UserError: if a number is too large; other checks look for infinite ones.
    """
    most = np.abs(found[np.isfinite(found)]).max(initial=0.0)
    require(most <= _MOST, f"{what} has numbers as large as {most:.3g}; give it in another unit.")
    return found


def checked_lengths(value: Any, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Return the number of steps of each trial.

    Raises:
        UserError: if a length is not a whole number from 1 to the number of steps in the arrays.
    """
    if value is None:
        return (shape[1],) * shape[0]
    found = numbers(value, f"{name}: lengths")
    fits = found.shape == (shape[0],) and bool(
        ((found >= 1) & (found <= shape[1]) & (found == np.round(found))).all()
    )
    require(
        fits,
        f"{name}: lengths must hold {amount(shape[0], 'whole numbers')} from 1 to {shape[1]}, one "
        f"for each trial, got {shown(found.ravel().tolist())}.",
    )
    return tuple(map(int, found))


def filled_inputs(inputs: Numbers, inside: Flags, name: str) -> Numbers:
    """Return inputs with zeros where trials are padded.

    Raises:
        UserError: if an input inside a trial is not finite.
    """
    missing = ~np.isfinite(inputs) & inside[:, :, None]
    if missing.any():
        trial, step, neuron = (int(i[0]) for i in np.nonzero(missing))
        raise UserError(
            f"{name}: {amount(int(missing.sum()), 'inputs are', 'input is')} NaN or infinite, the "
            f"first in trial {trial} at step {step}, input {neuron}; the network needs every "
            f"input, so interpolate them or shorten the trials with lengths."
        )
    return np.where(inside[:, :, None], inputs, 0.0)


def checked_times(value: Any, lengths: tuple[int, ...], name: str) -> list[str]:
    """Return notes about gaps in times.

    Raises:
        UserError: if times do not increase within a trial.
    """
    found = numbers(value, f"{name}: times")
    most = max(lengths)
    if found.ndim == 1:
        found = np.broadcast_to(found, (len(lengths), len(found)))
    require(
        found.ndim == 2 and len(found) == len(lengths) and found.shape[1] >= most,
        f"{name}: times must be [time] or [trial, time] with {amount(most, 'steps')}, got the "
        f"shape {found.shape}.",
    )
    steps = []
    for trial, length in enumerate(lengths):
        rises = np.diff(found[trial, :length])
        # The comparison is False for NaN too.
        wrong = np.flatnonzero(~(rises > 0))
        if len(wrong):
            at = int(wrong[0])
            raise UserError(
                f"{name}: times must increase within a trial, but in trial {trial} they go from "
                f"{found[trial, at]:g} to {found[trial, at + 1]:g} at step {at + 1}; sort the "
                f"samples."
            )
        steps.append(rises)
    every = np.concatenate(steps)
    usual = float(np.median(every)) if len(every) else 0.0
    gaps = int((every > _GAP * usual).sum())
    if not gaps:
        return []
    return [
        f"{name}: {gaps} of {amount(len(every), 'intervals')} between samples {_be(gaps)} longer "
        f"than {_GAP:g} times the usual {usual:g}, the longest "
        f"{every.max():g}; every sample counts as one step."
    ]


def per_step(value: Any, shape: tuple[int, ...], what: str, default: float) -> Numbers:
    """Return values [trial, time] from one value for each step or each trial; NaN becomes 0.

    Raises:
        UserError: if the shape does not fit.
    """
    if value is None:
        return np.full(shape, default)
    found = numbers(value, what)
    if found.shape == shape[:1]:
        found = np.broadcast_to(found[:, None], shape)
    require(
        found.shape == shape,
        f"{what} must be [trial, time] = {list(shape)} or [trial], got the shape {found.shape}.",
    )
    require(
        not np.isinf(found).any(),
        f"{what} holds infinite numbers; write 0 where there is no value.",
    )
    return np.nan_to_num(found)


def checked_choices(
    found: Numbers, name: str, *, is_readout: bool, options: int = 0
) -> tuple[str, Numbers]:
    """Return the kind of the choices, and the choices as [trial, time, neuron or option].

    Args:
        found: the choices.
        name: name of the file.
        is_readout: whether they are binary choices of a readout.
        options: the minimum number of options.

    Raises:
        UserError: if they are neither binary nor indices of options.
    """
    values = np.unique(found[np.isfinite(found)])
    if is_readout or found.ndim == 3:
        require(
            bool(np.isin(values, (0, 1)).all()),
            f"{name}: choices must be 0, 1 or NaN for none, got {_listed(values)}; recode them.",
        )
        return ("readout", found[:, :, None]) if is_readout else ("binary", found)
    require(
        bool(((values >= 0) & (values == np.round(values))).all()) and len(values) > 0,
        f"{name}: choices [trial, time] must number the options from 0, or be NaN for none, got "
        f"{_listed(values)}; recode them, or give readout if they are binary.",
    )
    options = max(int(values.max()) + 1, options)
    require(
        2 <= options <= 1000,
        f"{name}: choices are among {amount(options, 'options')}; give at least 2 and at most "
        f"1000 options.",
    )
    chosen = (found[:, :, None] == np.arange(options)).astype(float)
    return "options", np.where(np.isfinite(found)[:, :, None], chosen, np.nan)


def _be(number: int) -> str:
    return "is" if number == 1 else "are"


def _listed(values: Numbers) -> str:
    few = ", ".join(f"{v:g}" for v in values[:5])
    return f"{few} and others" if len(values) > 5 else few or "none"


def observation_notes(observed: Numbers, inside: Flags, kind: str, name: str) -> list[str]:
    """Return notes about gaps and silent neurons.

    Raises:
        UserError: if counts are negative or not whole numbers.
    """
    seen = np.isfinite(observed)
    notes, inner = [], inside[:, :, None] & np.ones(observed.shape[2], dtype=bool)
    never: Flags = ~np.asarray(seen.any((0, 1)))
    if never.any() and kind != "options":
        was = "was" if never.sum() == 1 else "were"
        notes.append(
            f"{name}: {int(never.sum())} of {amount(len(never), 'neurons')} {was} never observed."
        )
    gaps = int((inner & ~seen & ~never).sum())
    if gaps:
        notes.append(
            f"{name}: {gaps} of {amount(int(inner.sum()), 'observations')} {_be(gaps)} missing "
            f"(NaN) and {_be(gaps)} left out."
        )
    if kind == "counts":
        values = observed[seen]
        require(
            bool((values >= 0).all() and (values == np.round(values)).all()),
            f"{name}: counts must be whole numbers of at least 0, got "
            f"{_listed(np.unique(values))}; give rates as activity.",
        )
    if kind in ("activity", "counts", "binary"):
        silent = (np.where(seen, observed, 0.0) == 0).all((0, 1)) & ~never
        if silent.any():
            many = amount(int(silent.sum()), "observed neurons are", "observed neuron is")
            notes.append(f"{name}: {many} never active.")
    return notes


def scale_notes(observed: Numbers, inputs: Numbers, bounded: bool, name: str) -> list[str]:
    """Return notes about scales that suggest wrong units.

    Args:
        observed: activities; NaN where there are none.
        inputs: activities of the inputs.
        bounded: whether the model's activity is between −1 and 1.
        name: name of the file.
    """
    notes = []
    seen = observed[np.isfinite(observed)]
    size = float(np.median(np.abs(seen))) if len(seen) else 0.0
    if bounded and size > _UNITS:
        notes.append(
            f"{name}: the usual size of the activity is {size:.3g}, but the model's is at most 1; "
            f"check the unit, or choose --activation linear, relu or softplus."
        )
    large = float(np.median(np.abs(inputs[inputs != 0]))) if (inputs != 0).any() else 0.0
    if large > _UNITS or 0 < large < 1 / _UNITS:
        notes.append(
            f"{name}: the usual size of an input is {large:.3g}; coefficients depend on this unit, "
            f"check that it is not off by a thousand."
        )
    return notes
