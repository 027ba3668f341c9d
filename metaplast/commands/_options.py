"""Read command-line options into dataclasses with tyro, and report a mistake in one sentence."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro

from metaplast.base.errors import UserError, require, shown
from metaplast.commands._groups import (
    Option,
    common_options,
    filled,
    form_of,
    named_options,
    options_of,
)
from metaplast.commands._readers import registry

Options = TypeVar("Options")

# The words that ask for help on the common options, and on all options.
HELP, HELP_ALL = ("-h", "--help"), "--help-all"
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
        raise _strange(unknown, arguments, options_of(kind), options.get("prog", "the command"))
    return given


def parse_early(
    kind: type[Options], arguments: Sequence[str], prog: str, default: Options | None = None
) -> Options:
    """Return the options of `kind`, which are read first because they change others' defaults.

    Requests for help and shell completion are ignored here, because they must show all options.

    Args:
        kind: the dataclass.
        arguments: words of the command line.
        prog: the command's name.
        default: an instance whose values are the defaults; None for those of the dataclass.

    Raises:
        UserError: if an option has no value or an invalid one.
    """
    completes = bool(arguments) and arguments[0].startswith("--tyro-")
    wanted = [] if completes else [a for a in arguments if a not in (*HELP, HELP_ALL)]
    return parse_known(kind, wanted, default, prog=prog)[0]


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
    completes = bool(arguments) and arguments[0].startswith("--tyro-")
    if completes:
        require(
            len(arguments) > 1 and arguments[1] in _SHELLS,
            f"{arguments[0]} takes the name of a shell: {', '.join(_SHELLS)}.",
        )
    listed, told = options_of(kind, default), io.StringIO()
    # Help is as wide as the terminal. An error message is parsed below, so it must not be wrapped.
    helps = any(word in (*HELP, HELP_ALL) for word in arguments)
    wide = contextlib.nullcontext() if helps else _wide()
    shown = listed if helps or completes else named_options(listed, arguments)
    if helps and HELP_ALL not in arguments:
        shown = common_options(kind, listed)
    if "description" in options:
        options["description"] = _wrapped(_described(listed, shown, options))
    try:
        with contextlib.redirect_stderr(told), wide:
            form, unknown = tyro.cli(
                form_of(shown), args=["--help"] if helps else list(arguments), registry=registry(),
                return_unknown_args=True, **options,
            )  # fmt: skip
    except SystemExit as stopped:
        if stopped.code in (0, None):
            raise
        raise UserError(_sentence(told.getvalue(), options.get("prog", "the command"))) from None
    made: Options = filled(kind, listed, shown, form)
    return made, list(unknown)


def _described(
    listed: Sequence[Option], shown: Sequence[Option], options: Mapping[str, Any]
) -> str:
    """Return the description; short help shows only its first paragraph, and names --help-all."""
    text: str = options["description"]
    left = len(listed) - len(shown)
    if not left:
        return text
    head = text.strip().partition("\n\n")[0]
    return f"{head}\n\n{left} more options: metaplast {options['prog']} {HELP_ALL}"


def _wrapped(description: str) -> str:
    """Return a description with its list wrapped: tyro wraps only the text in boxes."""
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


def _strange(
    unknown: Sequence[str], arguments: Sequence[str], known: Sequence[Option], prog: str
) -> UserError:
    """Return the error for words that no option accepts; it names the first."""
    word, flags = unknown[0], [f for o in known if not o.is_positional for f in o.flags]
    name = word.partition("=")[0].replace("_", "-")
    if word.startswith("-") and name.strip("-"):
        if any(option.is_positional and name in option.flags for option in known):
            bare = name.strip("-")
            return UserError(
                f"{prog} takes {bare} without {name}; write {prog} {bare.upper()} and then options."
            )
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
    rows, lines = [], _COLOUR.sub("", told).splitlines()
    if not any(line[:1] in ("│", "|") for line in lines):
        # Without a frame, a title and a line of dashes come first.
        lines = [f"│{line}│" for line in lines[2:]]
    for line in lines:
        inside = line[1:-1].strip()
        if line[:1] not in ("│", "|"):
            continue  # This line is part of the frame, or of output before it.
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
