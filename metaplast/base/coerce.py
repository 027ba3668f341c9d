"""Convert a user's value for a setting into plain Python of the setting's type.

Settings are frozen dataclasses. Each calls `coerce(self)` first in `__post_init__`. The type
annotation of a field decides which values it accepts: NumPy scalars, lists and paths as text work
everywhere, and a value of a wrong type is refused in one sentence that names the field.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch

from metaplast.base.errors import UserError, require, require_choice, shown
from metaplast.base.paths import as_path


def coerce(settings: object) -> None:
    """Replace the value of each field of a dataclass with plain Python of its annotated type.

    - whole numbers: any whole number from Python, NumPy or a tensor without axes, including a
      float without a fraction, such as 1e3. True and False are invalid.
    - numbers: any real number, from the same sources. True and False are invalid.
    - bool: True or False, also NumPy's.
    - text: str; names of devices and dtypes may be torch's own objects.
    - Literal: one of its texts.
    - torch.device, torch.dtype: the object or its name; a dtype must be floating point.
    - Path: text or any path object.
    - tuples: any list, tuple, range or array of valid elements; a single number becomes a tuple of
      one. A tuple of fixed length needs exactly that many elements; a single number is invalid.

    Fields of other types are left as they are.

    Raises:
        UserError: if a field has a value of another type; the message names the field and the
            value.
    """
    cls: Any = type(settings)
    for name, kind in _fields(cls).items():
        object.__setattr__(settings, name, _convert(name, getattr(settings, name), kind))


@cache
def _fields(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _convert(name: str, value: Any, kind: Any, *, one: bool = True) -> Any:
    """Return `value` as type `kind`; with `one`, a number becomes a tuple of one."""
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return _one_of(name, value, get_args(kind))
    if origin is Literal:
        text = _text(name, value)
        require_choice(f"--{name.replace('_', '-')}", text, get_args(kind))
        return text
    if origin is tuple and len(get_args(kind)) == 2 and get_args(kind)[1] is Ellipsis:
        return _tuple(name, value, get_args(kind)[0], one=one)
    if origin is tuple:
        return _record(name, value, get_args(kind))
    return _CONVERTERS[kind](name, value) if kind in _CONVERTERS else value


def _one_of(name: str, value: Any, kinds: Sequence[Any]) -> Any:
    if value is None and type(None) in kinds:
        return None
    others = [k for k in kinds if k is not type(None)]
    if len(others) > 1:  # One number, or several.
        number, several = others
        single = isinstance(value, str | bool) or is_number(value)
        return _convert(name, value, number if single else several)
    return _convert(name, value, others[0])


def _refused(name: str, expected: str, value: object) -> UserError:
    return UserError(f"{name} must be {expected}, got {shown(value)} ({type(value).__name__}).")


def plain_scalar(value: Any) -> Any:
    """Return a NumPy scalar or a 0-d array or tensor as a Python number, other values unchanged."""
    if isinstance(value, torch.Tensor):
        return value.detach().item() if value.dim() == 0 and not value.is_meta else value
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return None if value is np.ma.masked else value.item()
    return value


def is_number(value: Any) -> bool:
    """Return whether a value is one number, of any kind."""
    return isinstance(plain_scalar(value), numbers.Number)


def whole(name: str, value: Any) -> int:
    """Return a whole number as int.

    Raises:
        UserError: if the value is not a whole number.
    """
    plain = plain_scalar(value)
    if isinstance(plain, numbers.Integral) and not isinstance(plain, bool):
        return int(plain)
    if isinstance(plain, float) and plain.is_integer():
        return int(plain)
    raise _refused(name, "a whole number", value)


def _real(name: str, value: Any) -> float:
    plain = plain_scalar(value)
    if isinstance(plain, numbers.Real) and not isinstance(plain, bool):
        try:
            return float(plain)
        except OverflowError:
            raise _refused(name, "a number that a float can hold", value) from None
    raise _refused(name, "a number", value)


def _flag(name: str, value: Any) -> bool:
    plain = plain_scalar(value)
    if isinstance(plain, bool):
        return plain
    raise _refused(name, "True or False", value)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    raise _refused(name, "text", value)


def _tuple(name: str, value: Any, kind: Any, *, one: bool) -> tuple[Any, ...]:
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim:
        value = value.tolist()
    if one and kind in (int, float) and is_number(value):
        value = (value,)
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise _refused(name, "a list or tuple", value)
    return tuple(
        _convert(f"{name}[{index}]", item, kind, one=False) for index, item in enumerate(value)
    )


def _record(name: str, value: Any, kinds: Sequence[Any]) -> tuple[Any, ...]:
    """Return the elements of a value of fixed length, each converted to its own type."""
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim:
        value = value.tolist()
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not is_list or len(value) != len(kinds):
        raise _refused(name, f"a list or tuple of {len(kinds)} values", value)
    parts = enumerate(zip(value, kinds, strict=True))
    return tuple(_convert(f"{name}[{i}]", item, kind, one=False) for i, (item, kind) in parts)


def _device(name: str, value: Any) -> torch.device:
    try:
        return torch.device(value)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise _refused(name, "a device such as cpu or cuda", value) from None


def _dtype(name: str, value: Any) -> torch.dtype:
    found = getattr(torch, value, None) if isinstance(value, str) else value
    if isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    raise _refused(name, "torch.float32 or torch.float64", value)


def _path(name: str, value: Any) -> Path:
    return as_path(value, name)


_CONVERTERS: Mapping[Any, Callable[[str, Any], Any]] = {
    int: whole,
    float: _real,
    bool: _flag,
    str: _text,
    Path: _path,
    torch.device: _device,
    torch.dtype: _dtype,
}


def as_json(value: Any) -> Any:
    """Return plain data for JSON: NumPy numbers, arrays, tensors and paths are converted."""
    value = plain_scalar(value)
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def finite_json(value: Any) -> Any:
    """Return `as_json` of a value, with None for non-finite numbers, which JSON lacks."""
    return _finite(as_json(value))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(item) for name, item in data.items()}
    if isinstance(data, list):
        return [_finite(item) for item in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def from_plain(cls: type, data: object, what: str) -> dict[str, Any]:
    """Return the fields of a dataclass from plain data, which must have exactly these fields.

    Args:
        cls: the dataclass.
        data: the contents of a JSON file.
        what: name of the expected data, for error messages.

    Raises:
        UserError: if `data` is not an object, or a field is missing or unknown.
    """
    if not isinstance(data, Mapping):
        raise UserError(
            f"{what} must be an object of fields by name, got {shown(data)}; use the file "
            f"unchanged."
        )
    known = {f.name for f in dataclasses.fields(cls)}
    require(
        set(data) == known,
        f"{what} has other fields than this metaplast knows "
        f"({', '.join(sorted(map(str, known ^ set(data))))}); use the version that wrote it.",
    )
    return dict(data)
