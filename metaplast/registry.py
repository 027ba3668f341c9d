"""Find terms, rules and episode sources that installed packages offer through entry points."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType, ModuleType
from typing import Protocol, TypeVar, runtime_checkable

from metaplast.errors import UserError, unknown_name


@runtime_checkable
class Named(Protocol):
    """Anything that can be registered: it has a name, and perhaps aliases."""

    @property
    def name(self) -> str:
        """The name users write."""


Item = TypeVar("Item", bound=Named)


def find(group: str, kind: type[Item]) -> Mapping[str, Item]:
    """Return every registered object of class `kind`, by name, in a stable order.

    An entry point of `group` names a package, a module or one object. Of a package, every
    module is read, so that a new term or source is one new file. Objects are the
    module-level instances of `kind`.

    Raises:
        UserError: if two different objects claim the same name.
    """
    return _find(group, kind)


@cache
def _find(group: str, kind: type[Item]) -> Mapping[str, Item]:
    found: dict[str, Item] = {}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
        for item in _instances(point.load(), kind):
            if found.setdefault(item.name, item) is not item:
                raise UserError(
                    f"two installed packages register the name {item.name!r} in {group}; "
                    f"uninstall one of them or rename its entry."
                )
    return MappingProxyType(found)


def _instances(target: object, kind: type[Item]) -> Iterator[Item]:
    if isinstance(target, kind):
        yield target
    elif isinstance(target, ModuleType):
        for module in _modules(target):
            for value in vars(module).values():
                if isinstance(value, kind):
                    yield value


def _modules(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    if hasattr(module, "__path__"):
        for info in sorted(pkgutil.iter_modules(module.__path__), key=lambda i: i.name):
            yield importlib.import_module(f"{module.__name__}.{info.name}")


def lookup(noun: str, name: str, known: Mapping[str, Item]) -> Item:
    """Return `known[name]`, accepting aliases and any case.

    Raises:
        UserError: if nothing has that name; suggests the nearest.
    """
    names = {item_name.lower(): item for item_name, item in known.items()}
    for item in known.values():
        for alias in getattr(item, "aliases", ()):
            names.setdefault(alias.lower(), item)
    if name.lower() not in names:
        raise unknown_name(noun, name, names)
    return names[name.lower()]
