"""Convert a user's own data of any kind (tensors, arrays, data frames, lists) to plain tensors.

Everything is copied to the CPU, so later changes to the user's data have no effect.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from episodes.storage import reason
from metaplast.base.coerce import plain_scalar
from metaplast.base.errors import UserError, require, shown

Array = np.ndarray[Any, np.dtype[Any]]


def as_inputs(name: str, value: Any) -> Tensor:
    """Return inputs as a tensor of numbers, a copy in row-major order.

    Args:
        name: the name of the data, for messages.
        value: a tensor (dense or sparse, on any device, with or without gradient), array, data
            frame, SciPy matrix, or lists of numbers.

    Raises:
        UserError: if the inputs are not real numbers, or some numbers are missing.
    """
    if isinstance(value, Tensor):
        return _plain_tensor(name, "images", value)
    array = _array(name, "images", value)
    if array.dtype == object:
        array = _numbers(name, array)
    require(
        array.dtype.kind in "biuf",
        f"{name}: images must be a tensor or an array of real numbers, got {array.dtype}; convert "
        f"it first.",
    )
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    # Copy to the machine's byte order and row-major order, as torch requires.
    array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64 if array.dtype != np.uint64 else np.float64)
    return torch.from_numpy(array)


def as_labels(name: str, value: Any) -> Array:
    """Return labels as an array of int64 or text, or targets as float64, in their own shape.

    Args:
        name: the name of the data, for messages.
        value: a tensor, array, series, data frame or list, either of whole numbers or text, which
            name classes, or of floating-point numbers, which are the targets to learn.

    Raises:
        UserError: if a label is missing, not finite or of another type, such as bool.
    """
    if isinstance(value, Tensor):
        value = _plain_tensor(name, "labels", value)
        kind = value.dtype
        array = (value.double() if kind.is_floating_point else value).numpy()
    else:
        array = _array(name, "labels", value)
        kind = array.dtype
    if array.dtype.kind in "US" and isinstance(value, list | tuple):
        # NumPy turns numbers among text into text.
        array = np.array(value, dtype=object)
    if array.dtype.kind in "US":
        texts: Array = array.astype(str)
        return texts
    if array.dtype == object:
        return _labels_of_objects(name, array)
    # An empty list of labels is an array of floats; its length is refused elsewhere.
    if array.dtype.kind == "f" and array.size:
        return _targets(name, array)
    require(
        array.dtype.kind in "iu" or array.size == 0,
        f"{name}: labels must be integers, got {kind}; convert them with labels.long(), or "
        f"labels.astype(int), if they are numbers of classes, to floating point if they are to be "
        f"learned as numbers.",
    )
    require(
        array.size == 0 or int(array.max()) < 2**63,
        f"{name}: labels must be below 2^63; renumber them.",
    )
    classes: Array = array.astype(np.int64)
    return classes


def _targets(name: str, array: Array) -> Array:
    """Return floating-point targets as float64, after checking that they are finite."""
    finite = np.isfinite(array)
    if not finite.all():
        index = int((~finite).reshape(len(array), -1).any(1).argmax()) if array.ndim else 0
        what = "one is missing (NaN)" if np.isnan(array).any() else "one is infinite"
        raise UserError(
            f"{name}: labels must be integers, or finite numbers for regression, but {what} at "
            f"index {index}; remove that sample, or give its class or number."
        )
    targets: Array = array.astype(np.float64)
    return targets


def _labels_of_objects(name: str, array: Array) -> Array:
    """Return labels that are Python objects: text, classes, or numbers if one is a float."""
    flat = [plain_scalar(label) for label in array.ravel()]
    if flat and all(isinstance(label, str) for label in flat):
        return np.array(flat, dtype=str).reshape(array.shape)
    is_measured = any(isinstance(label, float) for label in flat)
    kinds: Any = (int, float) if is_measured else int
    for index, label in enumerate(flat):
        require(
            isinstance(label, kinds) and not isinstance(label, bool),
            f"{name}: labels must be integers, or all text, or all numbers, got {shown(label)} at "
            f"index {index}; fix or remove it.",
        )
        require(
            is_measured or -(2**63) <= label < 2**63,
            f"{name}: labels must be below 2^63, got {shown(label)} at index {index}; renumber "
            f"them.",
        )
    if is_measured:
        return _targets(name, np.array(flat, dtype=np.float64).reshape(array.shape))
    return np.array(flat, dtype=np.int64).reshape(array.shape)


def scalars(name: str, value: Any) -> list[Any]:
    """Return the labels in `held_out_classes`: one label, or any collection of them."""
    if isinstance(value, Tensor):
        value = _plain_tensor(name, "held_out_classes", value).reshape(-1).tolist()
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    if isinstance(value, np.generic | np.ndarray):
        value = np.asarray(value).reshape(-1).tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        value = [value]
    return [item.item() if isinstance(item, np.generic | Tensor) else item for item in value]


def _plain_tensor(name: str, what: str, value: Tensor) -> Tensor:
    require(
        not (value.is_meta or value.is_complex() or value.is_nested),
        f"{name}: {what} must be a tensor of real numbers with one shape, got {value.dtype} on "
        f"{value.device}; convert it first.",
    )
    plain = value.detach()
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    if plain.is_floating_point() and plain.element_size() == 1:
        plain = plain.float()
    return plain.cpu().clone(memory_format=torch.contiguous_format).resolve_neg()


def _array(name: str, what: str, value: Any) -> Array:
    """Return anything array-like as an array, after checking that no value is masked."""
    if isinstance(value, np.ma.MaskedArray):
        rows = np.ma.getmaskarray(value)
        row = int(rows.reshape(len(rows), -1).any(1).argmax()) if rows.any() else None
        require(
            row is None,
            f"{name}: {what} must not be masked, got a masked value at index {row}; fill or remove "
            f"it.",
        )
        return np.asarray(value.data)
    try:
        if hasattr(value, "toarray"):
            return np.asarray(value.toarray())
        if hasattr(value, "to_numpy"):
            return np.asarray(value.to_numpy())
        if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
            value = [item.detach().cpu().numpy() if isinstance(item, Tensor) else item
                     for item in value]  # fmt: skip
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{name}: {what} must be a tensor or an array of numbers, got "
            f"{type(value).__name__} ({_reason(error)}); convert it first."
        ) from error
    require(
        array.dtype != object or array.ndim > 0,
        f"{name}: {what} must be a tensor or an array of numbers, got {type(value).__name__}; "
        f"convert it first.",
    )
    return array


def _reason(error: Exception) -> str:
    return reason(error).replace(". ", "; ")


def _numbers(name: str, array: Array) -> Array:
    """Return an array of Python objects, numbers or arrays of one shape, as numbers."""
    for index, row in enumerate(array):
        for item in np.ravel(row):
            inner = isinstance(item, np.ndarray | Tensor | list)
            if not inner and not isinstance(item, numbers.Real | np.bool_):
                raise UserError(
                    f"{name}: images must be numbers, got {shown(item)} at index {index}; convert "
                    f"or remove it, and any column of text."
                )
    try:
        return np.array(array.tolist(), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{name}: images must be a tensor or an array of numbers of one shape, got objects "
            f"({_reason(error)}); convert or resize them first."
        ) from error
