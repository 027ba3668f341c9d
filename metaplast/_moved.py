"""Deprecated module names of version 0.1: importing one warns and loads the module's new home.

Kept for one release. Modules directly in `metaplast/` have moved into folders.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any

_PLAIN = {
    "base": "checkpoint errors files registry seeds threads",
    "terms": "algebra notation operator term",
    "systems": "activation feedback learner",
    "rules": "differentiable optimizer recovery",
    "meta": "evaluation outer_loop",
    "discovery": "config result stages",
    "watch": "console progress",
    "online": "comparison probes tuning",
    "batch_jobs": "sweep",
    "report": "sweep_figure",
}
_RENAMED = {
    "diagnostics": ("systems.diagnostics", "meta.scale"),
    "display": ("rules.notebook",),
    "episode": ("tasks.source", "tasks.batch", "tasks.request"),
    "guard": ("meta.divergence",),
    "jobs": ("batch_jobs.jobs", "batch_jobs.queue"),
    "library": ("terms.library", "tasks.library"),
    "network": ("systems.fully_connected", "systems.initialisation"),
    "outer_settings": ("meta.settings",),
    "outputs": ("discovery.run_folder",),
    "plain": ("systems.single_step",),
    "plasticity": ("terms.compiled",),
    "rule": ("rules.rule", "rules.equation"),
    "selection": ("discovery.selection", "discovery.elimination", "discovery.fits"),
    "stream": ("tasks.stream", "tasks.request"),
    "tracking": ("watch.tensorboard",),
    "trust": ("meta.backtracking",),
    "unroll": ("engines",),
    "unroll.batched": ("engines.batched", "engines.way_back"),
    "unroll.contract": ("engines.contract",),
    "unroll.engines": ("engines.choose",),
    "unroll.fused": ("engines.fused",),
    "unroll.reference": ("engines.reference",),
    "unroll.stepper": ("engines.stepper",),
}
# Classes that also got another name, by old module; the old names work there.
_CLASSES = {
    "comparison": {"Contender": "Entrant", "Standing": "EntrantResult"},
    "operator": {"Tape": "ProductTape", "Tapped": "RecordedOperator"},
    "plasticity": {"Change": "LowRankUpdate", "Plasticity": "CompiledTerms"},
    "probes": {"Moment": "Snapshot"},
    "trust": {"TrustRegion": "Backtracking"},
}
MOVED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: (f"{folder}.{name}",) for folder, names in _PLAIN.items() for name in names.split()}
    | _RENAMED
)


class _Finder(MetaPathFinder):
    """Finds modules by their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, old = fullname.partition(".")
        if package != "metaplast" or old not in MOVED:
            return None
        is_package = any(name.startswith(f"{old}.") for name in MOVED)
        return ModuleSpec(fullname, _Loader(old), is_package=is_package)


class _CallableModule(ModuleType):
    """The module `metaplast.unroll`, which is called like the function whose name it takes."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function."""
        return vars(self)["unroll"](*arguments, **options)


class _Loader(Loader):
    """Fills a module with an old name from its new modules."""

    def __init__(self, old: str) -> None:
        self._old = old

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return an empty module; `unroll` is callable, because it hides that function."""
        kind = _CallableModule if self._old == "unroll" else ModuleType
        return kind(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        places = [f"metaplast.{new}" for new in MOVED[self._old]]
        warnings.warn(
            f"metaplast.{self._old} moved to {' and '.join(places)}; the next "
            f"release removes the old name.",
            DeprecationWarning,
            stacklevel=2,
        )
        for place in places:
            found = vars(importlib.import_module(place))
            names = {name: value for name, value in found.items() if not name.startswith("__")}
            vars(module).update(names)
        for before, now in _CLASSES.get(self._old, {}).items():
            vars(module)[before] = vars(module)[now]


def install() -> None:
    """Make old names importable; `metaplast` calls this once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # First, because a folder with the old name and only compiled files may be left over.
        sys.meta_path.insert(0, _Finder())
