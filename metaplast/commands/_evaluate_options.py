"""The options of `metaplast evaluate`: what is compared, on which data, in which networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from metaplast.base.errors import require, require_within
from metaplast.base.settings import Settings, part
from metaplast.commands._json import JsonOption
from metaplast.discovery.settings import ObjectiveSettings, RunSettings, StackSettings
from metaplast.online.comparison import widths_for_depth
from metaplast.systems.constrained import constrained
from metaplast.systems.feedback import serving
from metaplast.systems.kind import DEFAULT, SystemKind, SystemRequest, get_system
from metaplast.systems.system import System
from metaplast.systems.timing import Timing
from metaplast.tasks.library import default_source, get_source
from metaplast.tasks.request import DataFolder


@dataclass(frozen=True)
class _Images(ObjectiveSettings, DataFolder):
    """The data that the networks learn from."""

    GROUP: ClassVar[str] = "task"

    dataset: str = ""
    """Source of images: name or name:argument. If empty, the default source of the system."""
    samples: int | None = None
    """Images that each network learns from; default: one pass over the data, at most 5000."""
    ways: int | None = None
    """Number of classes for each network, drawn separately for each; default: all classes."""
    test_images: int = 1000
    """Largest number of held-out images on which the score is measured."""

    def __post_init__(self) -> None:
        """Check the numbers and the source.

        Raises:
            UserError: if a number is out of range, or the source is unknown.
        """
        super().__post_init__()
        require_within("--samples", 1 if self.samples is None else self.samples, 1)
        require_within("--test-images", self.test_images, 1)
        if self.dataset:
            get_source(self.dataset)


@dataclass(frozen=True)
class _Networks(StackSettings):
    """The networks."""

    GROUP: ClassVar[str] = "network"

    system: str = ""
    """What learns; name or name:argument. If empty, a fully connected stack."""
    depth: int | None = None
    """Number of weight matrices of a stack; the profile of --hidden is stretched to this depth."""


@dataclass(frozen=True)
class _Rules(Settings):
    """What is compared."""

    GROUP: ClassVar[str] = "rule"

    baselines: str = "usual"
    """Known rules to compare with: usual, none, or names separated by commas."""
    fit_scale: bool = False
    """Also compare each given rule times one factor, which is tuned like a baseline's rate."""
    seeds: int = 5
    """Number of networks for each rule, each with its own weights and images."""

    def __post_init__(self) -> None:
        """Check the number of networks.

        Raises:
            UserError: if the number is below 1.
        """
        super().__post_init__()
        require_within("--seeds", self.seeds, 1)


@dataclass(frozen=True)
class EvaluateOptions(JsonOption, RunSettings, _Rules, _Networks, _Images):
    """Train fresh networks online with rules, on the same data in the same order, and compare them.

    The coefficients of known rules, including the baselines, are first tuned on separate data.
    """

    GROUP: ClassVar[str] = "run"
    COMMON: ClassVar[tuple[str, ...]] = (
        *("dataset", "samples", "ways", "hidden", "depth", "baselines", "fit_scale", "seeds"),
        *("objective", "out"),
    )

    rules: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RULE ...]")
    ] = ()
    """rule.json files, run folders, or known rules: NAME or NAME:FEEDBACK."""
    out: Path | None = None
    """Folder for the results; default: runs/evaluate-<time>."""
    quiet: bool = False
    """Print only the results."""

    def __post_init__(self) -> None:
        """Check what can be checked without rules and data.

        Raises:
            UserError: if a value is out of range or a name unknown.
        """
        super().__post_init__()
        self.network(1, 2)

    @property
    def kind(self) -> SystemKind:
        """The kind of system of the networks."""
        return get_system(self.system)[0]

    @property
    def dataset_name(self) -> str:
        """The source of images."""
        return self.dataset or default_source(self.kind.name)

    def network(self, inputs: int, outputs: int, timing: Timing | None = None) -> System:
        """Return the network for these numbers of inputs and outputs.

        Args:
            inputs: numbers in one input, or in one frame of a sequence.
            outputs: number of classes, or of numbers in a target.
            timing: the timing of sequences; None if inputs are vectors, or the data are not known
                yet.

        Raises:
            UserError: if a setting is invalid for the system, or the system learns mini-batches.
        """
        kind, argument = get_system(self.system)
        stack = kind.name == DEFAULT
        require(
            stack or self.depth is None,
            f"--depth stretches a stack of layers, but --system {kind.name} is not one; leave "
            f"--depth out.",
        )
        request = part(
            SystemRequest, self,
            hidden=widths_for_depth(self.hidden, self.depth) if stack else self.hidden,
            inputs=inputs, outputs=outputs, timing=timing, argument=argument,
            feedback=serving(kind.name)[0],
        )  # fmt: skip
        system = kind.build(request)
        require(
            system.batch == 1,
            f"evaluate trains networks one image at a time, but --system {self.system} learns "
            f"{system.batch} at a time; leave batch out.",
        )
        return constrained(system, self.weights)
