"""Find what installed packages register as entry points: terms, rules, data sets and so on."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Protocol, TypeVar, runtime_checkable

from metaplast.base.errors import UserError, require, shown, unknown_name

OWN = "metaplast"


@runtime_checkable
class Named(Protocol):
    """Anything that can be registered: it has a name, and may have aliases."""

    @property
    def name(self) -> str:
        """The name that users write."""


Item = TypeVar("Item", bound=Named)

# What complete searches have found, by group and kind.
_found: dict[tuple[str, type], Mapping[str, Any]] = {}


def find(group: str, kind: type[Item]) -> Mapping[str, Item]:
    """Return every registered instance of `kind` by name, in a stable order.

    An entry point of `group` refers to a package, a module or one object. In packages and modules,
    every module-level instance of `kind` counts. All modules of a package are imported, so adding a
    term or a source takes one new file.

    A package that cannot be imported is skipped with a warning. A package may call this while it is
    being imported. The result then lacks the objects that do not exist yet, and the next call
    searches again.

    Raises:
        UserError: if no package registers anything in the group, two different objects have the
            same name, or a user's module hides one of metaplast's own packages.
    """
    if (group, kind) in _found:
        return _found[group, kind]
    found, is_complete = _search(group, kind)
    if is_complete:
        _found[group, kind] = found
    return found


def _search(group: str, kind: type[Item]) -> tuple[Mapping[str, Item], bool]:
    """Return what is registered, and whether it is complete: no package is still being imported."""
    found: dict[str, Item] = {}
    is_complete = True
    points = entry_points(group=group)
    if not points:
        # metaplast registers something in every group, so its own entry points are missing.
        raise UserError(
            f"no installed package offers any {group.rpartition('.')[2]} (entry points "
            f"{group}), because metaplast was not installed, or was not installed again after an "
            f"update; install it with `uv sync` or `pip install -e .`."
        )
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        offered = _offered(point, kind)
        is_complete = is_complete and not _is_being_imported(point.module)
        for item in offered:
            if found.setdefault(item.name, item) is not item:
                raise UserError(
                    f"two installed packages register the name {item.name!r} in {group}; "
                    f"uninstall one of them or rename its entry."
                )
    return MappingProxyType(found), is_complete


def _offered(point: EntryPoint, kind: type[Item]) -> list[Item]:
    """Return what an entry point offers; if its package is broken, warn and return nothing.

    If its package is still being imported, return the objects that exist so far.

    Raises:
        UserError: if the package is metaplast's own and a user's module hides it.
    """
    package = "" if point.dist is None else point.dist.name
    if package == OWN:
        _refuse_hidden(point.module.partition(".")[0])
        return list(_instances(point.load(), kind))
    try:
        return list(_instances(point.load(), kind))
    except (Exception, SystemExit) as error:
        if _is_being_imported(point.module):
            return []  # The import may have failed because an object does not exist yet.
        warnings.warn(
            f"the installed package {package or point.value} could not be loaded and is ignored "
            f"({point.value}: {type(error).__name__}: {error}); fix or uninstall it.",
            stacklevel=4,
        )
        return []


def _is_being_imported(name: str) -> bool:
    """Return whether a module, its package or a module inside it is still being imported.

    Call this after importing the module: the import waits for other threads that are importing it.
    """
    return any(
        getattr(getattr(module, "__spec__", None), "_initializing", False)
        for other, module in list(sys.modules.items())
        if f"{name}.".startswith(f"{other}.") or other.startswith(f"{name}.")
    )


def _refuse_hidden(package: str) -> None:
    """Check that a user's module does not hide one of metaplast's own packages.

    Python searches the working directory or the script's directory first, so a user's file called
    `episodes.py` would be imported instead of our package.

    Raises:
        UserError: if a module does; the message names the file.
    """
    ours = Path(__file__).parents[2] / package
    loaded = sys.modules.get(package)
    spec = importlib.util.find_spec(package) if loaded is None else loaded.__spec__
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    if any(Path(place).exists() and ours.exists() and ours.samefile(place) for place in places):
        return
    other = getattr(loaded, "__file__", None) if spec is None else spec.origin or places[0]
    if other is None:
        raise UserError(
            f"the package {package!r}, which comes with metaplast, was not found; install "
            f"metaplast again."
        )
    raise UserError(
        f"{other} hides the package {package!r}, which comes with metaplast; rename that file or "
        f"folder, or start Python in another folder."
    )


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


def match(name: str, known: Mapping[str, Item]) -> Item | None:
    """Return the item with this name or alias, ignoring case; None if there is none.

    Raises:
        UserError: if the name is not text.
    """
    require(
        isinstance(name, str),
        f"a name must be text, got {shown(name)} ({type(name).__name__}); give one of the names as "
        f"a string.",
    )
    return _by_lower_case(known).get(name.lower())


def lookup(noun: str, name: str, known: Mapping[str, Item]) -> Item:
    """Return the item with this name or alias, ignoring case.

    Raises:
        UserError: if nothing has that name; the message suggests the nearest one.
    """
    found = match(name, known)
    if found is None:
        raise unknown_name(noun, name, _by_lower_case(known))
    return found


def _by_lower_case(known: Mapping[str, Item]) -> dict[str, Item]:
    """Return items by their names and aliases in lower case; names take precedence over aliases."""
    names = {name.lower(): item for name, item in known.items()}
    for item in known.values():
        for alias in getattr(item, "aliases", ()):
            names.setdefault(alias.lower(), item)
    return names
