"""Convert words of the command line to values: tyro's types, with our own numbers and paths."""

from __future__ import annotations

import errno
import functools
import operator
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from metaplast.base.errors import UserError, shown
from metaplast.base.words import words

# How an empty list is written.
NONE = "none"


def registry() -> tyro.constructors.ConstructorRegistry:
    """Return tyro's registry of types, with our own parsers for numbers, lists and paths."""
    made = tyro.constructors.ConstructorRegistry()

    @made.primitive_rule
    def _read(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        kind, optional = _without_none(info.type)
        if kind in (int, float, Path) or (kind is str and optional):
            return _one(kind, optional=optional)
        if kind == int | tuple[int, ...]:
            return _one_or_several()
        entry = get_args(kind)
        # Matched by element type: with a default of two entries, tyro writes the type differently.
        if get_origin(kind) is tuple and entry in ((int, ...), (float, ...)):
            return _several(entry[0])
        return None

    return made


def _without_none(kind: Any) -> tuple[Any, bool]:
    """Return T and True for `T | None`; return any other type unchanged, and False."""
    if get_origin(kind) in (Union, UnionType):
        parts = [part for part in get_args(kind) if part is not NoneType]
        if NoneType in get_args(kind):
            return functools.reduce(operator.or_, parts), True
    return kind, False


def _one(kind: type[Any], *, optional: bool) -> Any:
    read: Callable[[str], Any] = _READERS[kind]

    def from_texts(texts: list[str]) -> Any:
        # A file or a name may be called "none"; a number may not.
        empty = ("None", NONE) if kind in (int, float) else ("None",)
        return None if optional and texts[0] in empty else read(texts[0])

    def is_instance(value: Any) -> bool:
        whole = kind is float and isinstance(value, int)
        return (optional and value is None) or whole or isinstance(value, kind)

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=from_texts,
        is_instance=is_instance,
        str_from_instance=lambda value: [str(value)],
    )


def _several(kind: type[Any]) -> Any:
    read: Callable[[str], Any] = _READERS[kind]

    def from_texts(texts: list[str]) -> tuple[Any, ...]:
        if texts[0].strip().lower() == NONE:
            return ()
        try:
            return tuple(read(part) for part in words("it", texts[0]))
        except (UserError, ValueError):
            example = "20,10" if kind is int else "0.1,0.03"
            what = "whole numbers" if kind is int else "numbers"
            raise ValueError(
                f"must be {what} separated by commas, such as {example}, or {NONE}, got "
                f"{shown(texts[0])}"
            ) from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="N,N,…",
        instance_from_str=from_texts,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value)) or NONE],
    )


def _one_or_several() -> Any:
    """Return the parser of one number or several; None means the default."""
    several = _several(int)

    def from_texts(texts: list[str]) -> int | tuple[int, ...] | None:
        found: tuple[int, ...] = () if texts[0] == "None" else several.instance_from_str(texts)
        return found[0] if len(found) == 1 else found or None

    return replace(
        several,
        instance_from_str=from_texts,
        is_instance=lambda value: value is None or isinstance(value, int | tuple),
        str_from_instance=lambda value: (
            several.str_from_instance(value) if isinstance(value, tuple) else [str(value)]
        ),
    )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, such as 5, got {shown(text)}") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"must be a number, such as 0.01, got {shown(text)}") from None
    digits = re.split("e", text, flags=re.IGNORECASE)[0]
    if value == 0 and re.search("[1-9]", digits):
        raise ValueError(f"is too close to zero, got {shown(text)}; write 0 for zero")
    return value


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError(f"must be a path, got {shown(text)}")
    path = Path(text)
    try:
        path.lstat()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise ValueError(f"cannot be {shown(text)} ({error.strerror})") from None
    return path


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError(f"must not be empty, got {shown(text)}; leave it out")
    return text


_READERS: dict[Any, Callable[[str], Any]] = {
    int: _whole,
    float: _number,
    Path: _path,
    str: _name,
}
