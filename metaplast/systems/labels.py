"""Labels: a class as a whole number in range, or a vector of class probabilities.

A whole number is a Python or NumPy integer, or an integer tensor or array, signed or not.
Probabilities are one number for each class, not negative, with a sum of 1; a one-hot vector of
whole numbers counts as probabilities. Everything else is refused: a float (which may be a loss), a
bool, None, a function.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import UserError, require

# Largest deviation of a sum of probabilities from 1.
SUM_TOLERANCE = 1e-3
_LARGEST = 2**63 - 1

# One label, or several: whole numbers or probabilities.
Label = Tensor | np.ndarray[Any, Any] | Sequence[Any] | int | np.integer[Any]


def class_targets(
    labels: object,
    classes: int,
    shape: Sequence[int] = (),
    what: str = "the label",
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    nan: bool = False,
) -> Tensor:
    """Return labels in the library's format: int64 indices, or probabilities in `dtype`.

    Args:
        labels: whole numbers of `shape` (a single number may have any shape), or probabilities
            [*shape, class].
        classes: the number of classes.
        shape: () for one example, (n,) for n examples.
        what: the name of the labels in errors.
        device: the device of the result.
        dtype: the dtype of probabilities.
        nan: whether NaN probabilities are accepted; their episode then diverges.

    Returns:
        [*shape] int64, or [*shape, class] in `dtype`.

    Raises:
        UserError: if the labels are anything else, out of range, or not valid probabilities.
    """
    shape = tuple(shape)
    expected = _expected(what, classes, shape)
    values = _numbers(labels, expected)
    # With one class, a vector of one whole number is read as an index: only an index can be wrong.
    is_rows = tuple(values.shape) == (*shape, classes) and (
        values.is_floating_point() or classes > 1 or bool(shape)
    )
    if is_rows:
        rows = values.to(device=device, dtype=dtype)
        require_probabilities(rows, what, nan=nan)
        return rows
    fits = tuple(values.shape) == shape or (not shape and values.numel() == 1)
    if values.is_floating_point() or not fits:
        raise UserError(f"{expected}, got {_shown(labels)}; {_hint(values)}.")
    require_in_range(values, classes, what)
    return values.to(device).reshape(shape)


def _expected(what: str, classes: int, shape: tuple[int, ...]) -> str:
    """Return the first half of an error message, which says what labels must be."""
    if not shape:
        return f"{what} must be a whole number from 0 to {classes - 1}, or {classes} probabilities"
    return (
        f"{what} must be whole numbers from 0 to {classes - 1} of shape {shape}, or "
        f"probabilities of shape {(*shape, classes)}"
    )


def require_in_range(indices: Tensor, classes: int, what: str = "labels") -> None:
    """Raise `UserError` unless all class indices are from 0 to classes − 1."""
    if not indices.numel():
        return
    low, high = map(int, indices.aminmax())
    got = f"{low}" if low == high else f"{low} to {high}"
    require(
        low >= 0 and high < classes,
        f"{what} must be from 0 to {classes - 1}, the network's last class, got {got}; number the "
        f"classes from 0, or set the network's last width to the number of classes.",
    )


def require_probabilities(
    rows: Tensor, what: str = "class probabilities", *, nan: bool = False
) -> None:
    """Raise `UserError` unless rows [..., class] are not negative and sum to 1.

    Args:
        rows: the probabilities.
        what: their name in the error.
        nan: whether NaN is accepted.
    """
    if not rows.numel():
        return
    off = (rows.sum(-1) - 1).abs()
    # nan_to_num() turns an infinite sum into a huge one.
    worst = float((off.nan_to_num() if nan else off).max())
    if bool((rows < 0).any()):
        fault = "a negative one"
    elif worst <= SUM_TOLERANCE:
        return
    else:
        fault = "one that is not a number" if math.isnan(worst) else f"sums off by {worst:.2g}"
    raise UserError(
        f"{what}: class probabilities must not be negative and sum to 1, got {fault}; normalise "
        f"them, with a softmax for instance."
    )


def whole_numbers(labels: Tensor) -> Tensor | None:
    """Return integer labels, signed or not, as int64; None if they are not integers."""
    if labels.dtype == torch.int64:
        return labels
    kind = labels.dtype
    if kind == torch.bool or kind.is_floating_point or kind.is_complex:
        return None
    return labels.to(torch.int64)


def _hint(values: Tensor) -> str:
    if values.is_floating_point() and values.numel() == 1:
        return "give the example's class, not a loss and not a float"
    return "give the example's class"


def _numbers(label: object, expected: str) -> Tensor:
    """Return a label's numbers as int64 or floating point."""
    values = read_numbers(label)
    if values is not None and not values.is_floating_point():
        values = whole_numbers(values)
    if values is None:
        raise UserError(f"{expected}, got {_shown(label)}; give the example's class.")
    return values


def read_numbers(label: Any) -> Tensor | None:
    """Return numbers of any kind as a tensor; None for anything else, or if a number is masked."""
    if isinstance(label, Tensor):
        usable = label.layout == torch.strided and label.device.type != "meta"
        return label.detach() if usable else None
    if isinstance(label, numbers.Integral) and not isinstance(label, bool):
        # A number beyond int64 is out of any range.
        value = max(-_LARGEST, min(_LARGEST, int(label)))
        return torch.tensor(value, dtype=torch.int64, device="cpu")
    return _array(label)


def _array(label: Any) -> Tensor | None:
    """Return anything that NumPy can convert to an array of numbers as a tensor; else None."""
    has_bools = isinstance(label, list | tuple) and any(map(_is_bool, _flat(label)))
    if has_bools or np.ma.is_masked(label):
        return None
    try:
        array = np.asarray(label)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        return None
    if array.dtype.kind == "u":
        # A number beyond int64 is out of any range.
        array = np.minimum(np.atleast_1d(array).astype(np.uint64), np.uint64(_LARGEST)).reshape(
            array.shape
        )
    kinds = {"u": np.int64, "i": np.int64, "f": np.float64}
    if array.dtype.kind not in kinds:
        return None
    # Copied: the array may be read-only.
    return torch.from_numpy(array.astype(kinds[array.dtype.kind]))


def _flat(parts: Sequence[Any]) -> Iterator[Any]:
    for part in parts:
        if isinstance(part, list | tuple):
            yield from _flat(part)
        else:
            yield part


def _is_bool(part: object) -> bool:
    return isinstance(part, bool | np.bool_) or getattr(part, "dtype", None) in (
        torch.bool,
        np.bool_,
    )


def _shown(label: Any) -> str:
    """Return a short description of a label, on one line."""
    if isinstance(label, Tensor):
        return (
            f"a tensor of {str(label.dtype).removeprefix('torch.')} of shape {tuple(label.shape)}"
        )
    if isinstance(label, np.ndarray):
        return f"an array of {label.dtype} of shape {label.shape}"
    if label is None or isinstance(label, bool | int | float | complex | str | np.generic):
        return repr(label)[:60]
    return f"a {type(label).__name__}"
