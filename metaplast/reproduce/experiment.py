"""The definition of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from metaplast.base.coerce import coerce
from metaplast.base.registry import find, lookup
from metaplast.discovery.config import DiscoveryConfig
from metaplast.reproduce.table import Row, Table
from metaplast.reproduce.verdict import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENTS = "metaplast.experiments"


@dataclass(frozen=True)
class Setting:
    """The settings that all experiments of a command share.

    Attributes:
        quick: whether to run a tiny version of everything, on data that need no files.
        data_root: folder with data sets.
        rule: file of a rule, for experiments on a discovered rule.
        device: where variants compute; only those that are `AnyDevice` can use CUDA.
    """

    quick: bool = False
    data_root: Path | None = None
    rule: Path | None = None
    device: torch.device = torch.device("cpu")

    def __post_init__(self) -> None:
        """Accept paths as text too.

        Raises:
            UserError: if a value is of a wrong type.
        """
        coerce(self)


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a JSON file would return them: with lists instead of tuples."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()
    }


def decisive(config: DiscoveryConfig, without: Iterable[str] = ()) -> dict[str, Any]:
    """Return the fields of a configuration that determine a variant's numbers, as plain data."""
    fields = plain(config.to_json())
    for name in ("data_root", "engine", *without):
        del fields[name]
    return fields


class Variant(Protocol):
    """One curve of an experiment: a computation that is run once for each seed.

    Variants are sent to other processes, so they hold plain data and module-level functions. Two
    experiments may share a variant; it is then run once.
    """

    @property
    def name(self) -> str:
        """The name of its files; different variants have different names."""

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything except the seed that determines its numbers, as plain data."""

    def data(self, setting: Setting) -> Mapping[str, Callable[[], object]]:
        """Return functions that open its data, by the name of the data set."""

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Make the choices that need separate data, before any seed is run; return plain data.

        `folder` belongs to this variant; an interrupted preparation continues from it.
        """

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return the numbers of one seed."""


@runtime_checkable
class SideBySide(Variant, Protocol):
    """A variant that computes several seeds at once in much less time than one by one."""

    @property
    def together(self) -> int:
        """The largest number of seeds to compute at once."""

    def run_together(
        self, seeds: Sequence[int], setting: Setting, prepared: Mapping[str, Any]
    ) -> list[list[Row]]:
        """Return each seed's numbers, which do not depend on the other seeds."""


@runtime_checkable
class AnyDevice(Variant, Protocol):
    """A variant that can compute on the device of the setting, and not only on the CPU."""

    @property
    def on_cuda(self) -> bool:
        """Whether it can compute on CUDA; this may differ between variants of one class."""


def runs_on(variant: Variant, device: torch.device) -> bool:
    """Return whether a variant can compute on a device."""
    return device.type == "cpu" or (isinstance(variant, AnyDevice) and variant.on_cuda)


@dataclass(frozen=True, eq=False)
class Experiment:
    """One or several figures of a publication, run again.

    Attributes:
        name: as written in the command.
        title: the title of its section of the results page.
        source: publication and figure.
        text: a paragraph: what is done, what to look for, and our own choices.
        variants: the curves.
        claims: the publication's claims.
        draw: makes figures from the numbers, by the suffix of their file name ("" for the main
            one).
        seeds: default number of seeds.
        aliases: other names that the command accepts.
    """

    name: str
    title: str
    source: str
    text: str
    variants: Sequence[Variant]
    claims: Sequence[Claim]
    draw: Callable[[Table], Mapping[str, Figure]]
    seeds: int = 20
    aliases: tuple[str, ...] = ()


def all_experiments() -> Mapping[str, Experiment]:
    """Return every installed experiment by name."""
    return find(EXPERIMENTS, Experiment)


def get_experiment(name: str) -> Experiment:
    """Return the experiment with this name.

    Raises:
        UserError: if there is no such experiment; suggests the nearest.
    """
    return lookup("experiment", name, all_experiments())
