"""The options of a command, in groups: from the dataclass that declares them to the help.

Every field of a command's dataclass is one option. The class that first declares a field gives the
option its group (`Settings.GROUP`); the docstring below the field is its help. tyro reads the
options into nested dataclasses made here, one for each group, because it prints one box for each.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import (
    MISSING,
    Field,
    dataclass,
    field,
    fields,
    is_dataclass,
    make_dataclass,
    replace,
)
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

import tyro

# A command's own groups come before these.
ORDER = ("task", "network", "rule", "search", "selection", "run")


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        path: names of the fields that lead to its value; several in a nested dataclass.
        kind: type of the value, as tyro reads it.
        default: the value if the option is not given; `MISSING` if it must be given.
        group: heading in the help; "" for none.
        text: help, without the default.
    """

    path: tuple[str, ...]
    kind: Any
    default: Any
    group: str
    text: str

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.path[-1]

    @property
    def is_positional(self) -> bool:
        """Whether the value is written without the option's name."""
        return any(marker is _POSITIONAL for marker in get_args(self.kind))

    @property
    def flags(self) -> list[str]:
        """The names of the option on the command line."""
        given = (getattr(marker, "name", None) for marker in get_args(self.kind)[1:])
        flag = next(filter(None, given), None) or self.name.replace("_", "-")
        return [f"--{flag}"] + ([f"--no-{flag}"] if self.kind is bool else [])

    @property
    def declaration(self) -> tuple[str, Any, Any]:
        """Name, type and field for tyro, which shows the help text and the default."""
        # "None" and "" do not explain a default, and some help texts explain it themselves.
        explained = self.default in (None, "", ()) or "default" in self.text
        hint = "" if explained else _default_hint
        kind: Any = self.kind
        shown = Annotated[kind, tyro.conf.arg(help=self.text, help_behavior_hint=hint)]
        more = {} if self.default is MISSING else {"default": self.default}
        return self.name, shown, field(kw_only=True, **more)


_POSITIONAL = get_args(tyro.conf.Positional[int])[1]


def _default_hint(default: str) -> str:
    return f"(default: {({'True': 'yes', 'False': 'no'}).get(default, default)})"


def options_of(kind: type[Any], default: Any = None) -> list[Option]:
    """Return the options of a dataclass and of those nested in it, in the order of the help.

    Args:
        kind: the dataclass.
        default: an instance whose values are the defaults; None for the dataclass's own.
    """
    found = _in_class_order(kind, default)
    own = dict.fromkeys(option.group for option in found if option.group not in ORDER)
    order = {group: place for place, group in enumerate((*own, *ORDER))}
    return sorted(found, key=lambda option: order[option.group])


def _in_class_order(kind: type[Any], default: Any) -> list[Option]:
    hints, bare = _hints(kind, extras=True), _hints(kind)  # type: ignore[arg-type]
    homes = {each.name: _home(kind, each.name) for each in fields(kind)}
    lineage = list(kind.__mro__)
    found = []
    # The fields that the command itself declares come first.
    for each in sorted(fields(kind), key=lambda each: lineage.index(homes[each.name])):
        if tyro.conf.Suppress in get_args(hints[each.name]):
            continue
        value = _default(each) if default is None else getattr(default, each.name)
        inner = bare[each.name]
        if is_dataclass(inner) and isinstance(inner, type):
            nested = _in_class_order(inner, value)
            found += [
                Option((each.name, *o.path), o.kind, o.default, o.group, o.text) for o in nested
            ]
        else:
            group, text = vars(homes[each.name]).get("GROUP", ""), _text(kind, each.name)
            found.append(Option((each.name,), hints[each.name], value, group, text))
    return found


@cache
def _hints(kind: type[Any], *, extras: bool = False) -> Mapping[str, Any]:
    """Return the types of the fields of a dataclass."""
    return get_type_hints(kind, include_extras=extras)


def _default(each: Field[Any]) -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _home(kind: type[Any], name: str) -> type[Any]:
    """Return the class that first declared a field."""
    return [each for each in kind.__mro__ if name in vars(each).get("__annotations__", {})][-1]


def _text(kind: type[Any], name: str) -> str:
    """Return the docstring of a field, from the most derived class that has one."""
    texts = (_docstrings(each).get(name) for each in kind.__mro__ if is_dataclass(each))
    return next((text for text in texts if text), "")


@cache
def _docstrings(kind: type[Any]) -> Mapping[str, str]:
    """Return the docstrings of the fields in the body of a class, each in one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
            target, text = before.target, after.value
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                found[target.id] = " ".join(str(text.value).split())
    return found


def common_options(kind: type[Any], options: Sequence[Option]) -> list[Option]:
    """Return the options in a command's short help: those in `COMMON`, or all if it has none."""
    names = getattr(kind, "COMMON", ())
    chosen = {option.name: option for option in options}
    common = [replace(chosen[name], group="common") for name in names]
    return [*(each for each in options if each.is_positional), *common] if common else [*options]


def named_options(options: Sequence[Option], arguments: Sequence[str]) -> list[Option]:
    """Return the options that occur in `arguments`, the positional ones and the required ones.

    tyro takes about a millisecond for each option that it may have to read.
    """
    words = {word.partition("=")[0].replace("_", "-") for word in arguments}
    return [
        option
        for option in options
        if option.is_positional or option.default is MISSING or not words.isdisjoint(option.flags)
    ]


def form_of(options: Sequence[Option]) -> type[Any]:
    """Return the dataclass that tyro reads: a field for each group, and for options without one."""
    groups: dict[str, list[Option]] = {}
    for option in options:
        groups.setdefault("" if option.is_positional else option.group, []).append(option)
    top: list[Any] = [option.declaration for option in groups.pop("", [])]
    for group, members in groups.items():
        box: Any = make_dataclass(group, [option.declaration for option in members])
        ready = all(option.default is not MISSING for option in members)
        more: Any = {"default_factory": box} if ready else {}
        # Without any help text (an empty one suffices), tyro would search the source every time.
        flat = Annotated[box, tyro.conf.OmitArgPrefixes, tyro.conf.arg(help="")]
        top.append((group, flat, field(kw_only=True, **more)))
    return make_dataclass("Form", top)


def filled(kind: type[Any], options: Sequence[Option], read: Sequence[Option], form: Any) -> Any:
    """Return the command's options, an instance of `kind`.

    Args:
        kind: the dataclass.
        options: all options.
        read: those of them that tyro read; the others have their defaults.
        form: what tyro read.

    Raises:
        UserError: if a value does not pass the checks of the dataclass.
    """
    values: dict[str, Any] = {}
    given = {option.path for option in read}
    for option in options:
        place = values
        for name in option.path[:-1]:
            place = place.setdefault(name, {})
        place[option.name] = option.default
        if option.path in given:
            at_top = option.is_positional or not option.group
            holder = form if at_top else getattr(form, option.group)
            place[option.name] = getattr(holder, option.name)
    return _made(kind, values)


def _made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    hints = _hints(kind)  # type: ignore[arg-type]
    made = {
        name: _made(hints[name], value) if is_dataclass(hints[name]) else value
        for name, value in values.items()
    }
    return kind(**made)
