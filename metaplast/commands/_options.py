"""Read command-line options into dataclasses with tyro, and report a mistake in one sentence."""

from __future__ import annotations

import contextlib
import difflib
import errno
import io
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import words
from metaplast.commands._groups import filled, form_of, options_of

Options = TypeVar("Options")

# How an empty list is written.
NONE = "none"
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_SHELLS = ("bash", "fish", "tcsh", "zsh")


def parse(
    kind: type[Options], arguments: Sequence[str], default: Options | None = None, **options: Any
) -> Options:
    """Return the options in `arguments` as an instance of a dataclass.

    Args:
        kind: the dataclass.
        arguments: words of the command line.
        default: an instance whose values are the defaults; None for those of the dataclass.
        **options: of `tyro.cli`; `prog` is the command's name.

    Raises:
        UserError: if an option is unknown, has no value or has an invalid one.
    """
    given, unknown = parse_known(kind, arguments, default, **options)
    if unknown:
        flags = [flag for option in options_of(kind) for flag in option.flags]
        raise _strange(unknown, arguments, flags, options.get("prog", "the command"))
    return given


def parse_early(kind: type[Options], arguments: Sequence[str], prog: str) -> Options:
    """Return the options of `kind` that decide the defaults of others, before those are read.

    Help and shell completion must show all options, so they are left for later.

    Raises:
        UserError: if one has no value or an invalid one.
    """
    completes = bool(arguments) and arguments[0].startswith("--tyro-")
    wanted = [] if completes else [a for a in arguments if a not in ("-h", "--help")]
    return parse_known(kind, wanted, prog=prog)[0]


def parse_known(
    kind: type[Options], arguments: Sequence[str], default: Options | None = None, **options: Any
) -> tuple[Options, list[str]]:
    """Return the options of `kind`, and the words that belong to none of them.

    Args:
        kind: the dataclass.
        arguments: words of the command line.
        default: an instance whose values are the defaults; None for those of the dataclass.
        **options: of `tyro.cli`; `prog` is the command's name.

    Raises:
        UserError: if an option has no value or an invalid one.
    """
    if arguments and arguments[0].startswith("--tyro-"):
        require(
            len(arguments) > 1 and arguments[1] in _SHELLS,
            f"{arguments[0]} takes the name of a shell: {', '.join(_SHELLS)}.",
        )
    listed, told = options_of(kind, default), io.StringIO()
    # Help is as wide as the terminal. A message is parsed below, so its lines must not break.
    helps = any(word in ("-h", "--help") for word in arguments)
    wide = contextlib.nullcontext() if helps else _wide()
    if "description" in options:
        options["description"] = _wrapped(options["description"])
    try:
        with contextlib.redirect_stderr(told), wide:
            form, unknown = tyro.cli(
                form_of(listed), args=list(arguments), registry=registry(),
                return_unknown_args=True, **options,
            )  # fmt: skip
    except SystemExit as stopped:
        if stopped.code in (0, None):
            raise
        raise UserError(_sentence(told.getvalue(), options.get("prog", "the command"))) from None
    made: Options = filled(kind, listed, form)
    return made, list(unknown)


def _wrapped(description: str) -> str:
    """Return a description with its list broken into lines: tyro breaks only what is in boxes."""
    width = shutil.get_terminal_size().columns
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ") for line in description.splitlines()
    )


@contextlib.contextmanager
def _wide() -> Iterator[None]:
    """Tell tyro that the terminal is wide enough for every message."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100000"
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def registry() -> tyro.constructors.ConstructorRegistry:
    """Return tyro's registry of types, with our own parsers for numbers, lists and paths."""
    made = tyro.constructors.ConstructorRegistry()

    @made.primitive_rule
    def _read(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        kind, optional = _without_none(info.type)
        if kind in (int, float, Path) or (kind is str and optional):
            return _one(kind, optional=optional)
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
        if len(parts) == 1 and NoneType in get_args(kind):
            return parts[0], True
    return kind, False


def _one(kind: type[Any], *, optional: bool) -> Any:
    read: Callable[[str], Any] = _READERS[kind]

    def from_texts(texts: list[str]) -> Any:
        # A file or a name may be "none", a number may not.
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
                f"must be {what} with commas, such as {example}, or {NONE}, got {shown(texts[0])}"
            ) from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="N,N,…",
        instance_from_str=from_texts,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(str, value)) or NONE],
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


def _strange(
    unknown: Sequence[str], arguments: Sequence[str], flags: Sequence[str], prog: str
) -> UserError:
    """Return the error for words that no option accepts; it names the first."""
    word = unknown[0]
    name = word.partition("=")[0].replace("_", "-")
    if word.startswith("-") and name.strip("-"):
        near = difflib.get_close_matches(name[:40], flags, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}?" if near else f"see {prog} --help."
        return UserError(f"{prog} has no option {shown(name)}; {hint}")
    for given in arguments:
        flag, equals, value = given.partition("=")
        if equals and value == word and flag.replace("_", "-") in flags:
            return UserError(f"{flag} takes no value, got {shown(word)}; write {flag} only.")
    return UserError(
        f"{prog} does not expect {shown(word)}; put an option such as --out before it, or write "
        f"a list with commas, without spaces."
    )


def _sentence(told: str, prog: str) -> str:
    """Return tyro's message, a box of several lines in Unicode or ASCII, as one sentence."""
    rows = []
    for line in _COLOUR.sub("", told).splitlines():
        inside = line[1:-1].strip()
        if line[:1] not in ("│", "|"):
            continue  # The frame, or output before it.
        if not inside.strip("─-"):
            break  # A horizontal line: help follows it.
        rows.append(inside)
    text = " ".join(" ".join(rows).split()).rstrip(".")
    for pattern, form in _FORMS:
        found = re.fullmatch(pattern, text, flags=re.DOTALL)
        if found:
            return form(found, prog)
    return f"{prog} does not understand its options: {text.replace('. ', '; ')}; see {prog} --help."


def _choices(found: re.Match[str], _: str) -> str:
    names = re.findall(r"'([^']*)'", found[3])
    return f"{found[2]} must be {' or '.join(names)}, got {shown(found[1])}."


# Messages of tyro 1, and how we phrase them; other messages are passed on unchanged.
_FORMS: tuple[tuple[str, Callable[[re.Match[str], str], str]], ...] = (
    (r"Error parsing (\S+): (.*)", lambda m, _: f"{m[1]} {m[2]}."),
    (
        r"Missing value for argument '([^']*)'.*",
        lambda m, prog: f"{m[1]} needs a value after it; see {prog} --help.",
    ),
    (
        r"Missing from [^:]*: (\S+) (.*?)\.? ?\(required\)",
        lambda m, prog: f"{prog} needs {m[1]}: {m[2][:1].lower()}{m[2][1:]}.",
    ),
    (r"invalid choice '(.*)' for argument '([^']*)'\. Expected one of \((.*)\)", _choices),
)
