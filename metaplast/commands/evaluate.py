"""Train fresh networks online with rules, and compare them with baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from rich.console import Console

from metaplast.base.device import find_device
from metaplast.base.errors import require, require_within
from metaplast.base.settings import Settings, part
from metaplast.commands._ends import continued_by
from metaplast.commands._folders import own_folder
from metaplast.commands._options import parse
from metaplast.discovery.settings import ObjectiveSettings, RunSettings, StackSettings
from metaplast.engines import choose_engine
from metaplast.engines.memory_need import episode_bytes, require_memory
from metaplast.online.comparison import (
    TUNING_SEEDS,
    Entrant,
    EntrantResult,
    check_depth,
    collect_entrants,
    evaluate_entrant,
    objective_warnings,
    widths_for_depth,
)
from metaplast.online.train import OnlineSettings, spaced_records
from metaplast.online.tuning import COARSE, GRID, ROUNDS
from metaplast.report import comparison as report
from metaplast.systems.fully_connected import FullyConnected
from metaplast.tasks.checks import require_targets
from metaplast.tasks.library import default_source, get_source, open_stream
from metaplast.tasks.request import DataFolder, StreamRequest
from metaplast.tasks.stream import StreamSplit
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

MOST = 5000


@dataclass(frozen=True)
class _Images(ObjectiveSettings, DataFolder):
    """What the networks learn."""

    GROUP: ClassVar[str] = "task"

    dataset: str = ""
    """Source of images: name or name:argument. If empty, the default source."""
    samples: int | None = None
    """Images that each network learns from; default: one pass over the data, at most 5000."""
    ways: int | None = None
    """Number of classes for each network, drawn separately for each; default: all classes."""
    test_images: int = 1000
    """Largest number of held-out images on which the score is measured."""

    def __post_init__(self) -> None:
        """Check the numbers and the source.

        Raises:
            UserError: if one is out of range, or the source is unknown.
        """
        super().__post_init__()
        require_within("--samples", 1 if self.samples is None else self.samples, 1)
        require_within("--test-images", self.test_images, 1)
        get_source(self.dataset_name)

    @property
    def dataset_name(self) -> str:
        """The source of images."""
        return self.dataset or default_source()


@dataclass(frozen=True)
class _Stack(StackSettings):
    """The networks."""

    GROUP: ClassVar[str] = "network"

    depth: int | None = None
    """Number of weight matrices; the profile of --hidden is stretched to this depth."""


@dataclass(frozen=True)
class _Rules(Settings):
    """What is compared."""

    GROUP: ClassVar[str] = "rule"

    baselines: str = "usual"
    """Known rules to compare with: usual, none, or names separated by commas."""
    fit_scale: bool = False
    """Also compare each given rule times a factor, which is tuned like a baseline's rate."""
    seeds: int = 5
    """Networks for each rule, each with its own weights and images."""

    def __post_init__(self) -> None:
        """Check the number of networks.

        Raises:
            UserError: if it is below 1.
        """
        super().__post_init__()
        require_within("--seeds", self.seeds, 1)


@dataclass(frozen=True)
class EvaluateOptions(RunSettings, _Rules, _Stack, _Images):
    """Train fresh networks online with rules and compare them, on the same data in the same order.

    Known rules, including the baselines, first get their best coefficients on separate data.
    """

    GROUP: ClassVar[str] = "run"

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

    def network(self, inputs: int, outputs: int) -> FullyConnected:
        """Return the network for these numbers of inputs and classes."""
        hidden = widths_for_depth(self.hidden, self.depth)
        widths = (inputs, *hidden, outputs)
        return FullyConnected(widths, self.activation, self.init, objective_name=self.objective)


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, a rule, the data or a folder is invalid.
    """
    options = parse(EvaluateOptions, arguments, prog="evaluate", description=__doc__)
    console = make_console()
    entrants = collect_entrants(options.rules, options.baselines, fit_scale=options.fit_scale)
    _require_data(options, entrants)
    like = torch.zeros(0, dtype=options.torch_dtype, device=find_device(options.device))
    split = _open(options, like)
    network = options.network(split.inputs, split.outputs)
    require_targets(split, network.objective)
    settings = _settings(options, split)
    for entrant in entrants:
        check_depth(entrant, network)
        learner = entrant.rule.learner(network)
        engine = choose_engine(options.engine, learner, like.device)
        images = settings.records[-1], settings.queries
        each = episode_bytes(learner, engine.name, *images, like.dtype, gradient=False)
        together = min(settings.seeds, settings.together)
        require_memory(each, together, "--seeds", network.description, like.device)
    results: list[EntrantResult] = []
    with own_folder(options.out, "evaluate") as folder:
        if not options.quiet:
            _show_settings(console, split, network, settings)
        for sentence in objective_warnings(entrants, network):
            console.out(sentence)
        kept = f"Finished rules are in {folder}."
        try:
            with continued_by(console, "the same command and another --out", kept):
                _train_all(
                    console, options, entrants, network, split, settings, like, folder, results
                )
                report.write_summary(folder, results, _plain(options, network, settings, split))
                names = report.write_figures(
                    folder, results, network.objective.chance(split.outputs)
                )
        finally:
            # Show results even if they could not be written.
            if results:
                _show(console, results)
    if not options.quiet:
        console.out(
            f"Results in {folder}: {report.CURVES}, {report.RATES}, {report.SUMMARY}; "
            f"figures (PNG, SVG): {', '.join(names)}",
        )  # fmt: skip


def _require_data(options: EvaluateOptions, entrants: Sequence[Entrant]) -> None:
    """Require a data set name if a rule was found on data that no command can open.

    Raises:
        UserError: if none is named.
    """
    for entrant in entrants:
        found_on = entrant.rule.provenance
        require(
            bool(options.dataset) or "own_data" not in found_on,
            f"the rule {entrant.name} was found on {found_on.get('dataset')}, which only Python "
            f"has; name the data to train on with --dataset.",
        )


def _open(options: EvaluateOptions, like: torch.Tensor) -> StreamSplit:
    request = part(StreamRequest, options, device=like.device, dtype=like.dtype)
    return open_stream(options.dataset_name, request)


def _settings(options: EvaluateOptions, split: StreamSplit) -> OnlineSettings:
    samples = min(MOST, split.images) if options.samples is None else options.samples
    return OnlineSettings(
        spaced_records(samples), options.seeds, options.test_images, options.seed,
        engine=options.engine,
    )  # fmt: skip


def _show_settings(
    console: Console, split: StreamSplit, network: FullyConnected, settings: OnlineSettings
) -> None:
    samples = settings.records[-1]
    console.out(f"data      {split.description}")
    widths = "-".join(map(str, network.widths))
    console.out(f"network   {widths}, {network.activation}, {network.init}")
    passes = samples / split.images
    often = f" ({passes:.1f} passes over {split.images})" if passes > 1 else ""
    console.out(
        f"training  {settings.seeds} networks, {samples} images each, one by one{often}\n",
    )


def _train_all(
    console: Console,
    options: EvaluateOptions,
    entrants: Sequence[Entrant],
    network: FullyConnected,
    split: StreamSplit,
    settings: OnlineSettings,
    like: torch.Tensor,
    folder: Path,
    results: list[EntrantResult],
) -> None:
    """Train with each rule in turn, and write its results before the next rule begins."""
    images = settings.records[-1]
    trial = images * min(settings.seeds, TUNING_SEEDS)
    guesses = [trial * _trials(c) + images * settings.seeds for c in entrants]
    with Work(console, sum(guesses), quiet=options.quiet) as work:
        for index, entrant in enumerate(entrants):
            work.name(entrant.name)
            result = evaluate_entrant(
                entrant, network, split, settings, like,
                observe_trial=lambda _: work.advance(trial), observe=work.advance,
            )  # fmt: skip
            results.append(result)
            report.write_tables(folder, results)
            work.settle(sum(guesses[: index + 1]))
            found = f"found by {len(result.trials)} trials, " if result.trials else ""
            scale = result.run.scale
            work.line(f"{entrant.name}: {found}{scale.mean_in_band(result.run.band())}")


def _trials(entrant: Entrant) -> int:
    """Return the approximate number of trials of an entrant."""
    if not entrant.is_tuned:
        return 0
    others = 0 if entrant.fit == "scale" else len(entrant.rule.terms) - 1
    once = 1 + len(GRID) + 2
    each = 2 * len(COARSE) ** 2 + 2 * len(GRID) * ROUNDS + 2
    return once + others * each + (once if others else 0)


def _show(console: Console, results: Sequence[EntrantResult]) -> None:
    console.print()
    tables = (
        report.score_table(results),
        report.paired_table(results),
        report.coefficients_table(results),
        report.diagnostics_table(results),
    )
    for table in tables:
        if table is not None:
            console.print(table)
    for sentence in report.rate_warnings(results):
        console.out(sentence)


def _plain(
    options: EvaluateOptions, network: FullyConnected, settings: OnlineSettings, split: StreamSplit
) -> dict[str, Any]:
    """Return the options, with defaults filled in, as plain data."""
    return {
        "dataset": options.dataset_name,
        "data": split.description,
        "widths": list(network.widths),
        "activation": network.activation,
        "init": network.init,
        "objective": network.objective_name,
        "samples": settings.records[-1],
        "networks": settings.seeds,
        "test_images": settings.queries,
        "seed": settings.seed,
        "engine": options.engine,
        "device": options.device,
        "dtype": options.dtype,
    }
