"""Train fresh networks online with rules, and compare them with backprop and other baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from metaplast.base.device import find_device
from metaplast.base.errors import require, require_seed, require_within, shown
from metaplast.commands._ends import continued_by
from metaplast.commands._folders import own_folder
from metaplast.commands._options import parse
from metaplast.discovery.config import OBJECTIVE, DtypeName
from metaplast.engines import choose_engine, get_engine
from metaplast.engines.memory_need import episode_bytes, require_memory
from metaplast.online.comparison import (
    TUNING_SEEDS,
    Contender,
    Standing,
    check_depth,
    compete,
    gather,
    widths_for_depth,
)
from metaplast.online.train import OnlineSettings, spaced_records
from metaplast.online.tuning import COARSE, GRID, ROUNDS
from metaplast.report import comparison as report
from metaplast.systems.fully_connected import FullyConnected
from metaplast.tasks.checks import require_targets
from metaplast.tasks.library import default_source, get_source, open_stream
from metaplast.tasks.request import StreamRequest
from metaplast.tasks.stream import StreamSplit
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

MOST = 5000


@dataclass(frozen=True)
class EvaluateOptions:
    """Train fresh networks online with rules and compare them, on the same data in the same order.

    Known rules, including the baselines, first get their best coefficients on separate data.
    """

    rules: tyro.conf.Positional[tuple[str, ...]] = ()
    """rule.json files, run folders, or known rules: NAME or NAME:FEEDBACK."""
    dataset: str = ""
    """Source of images: name or name:argument. If empty, the default source."""
    data_root: Path | None = None
    """Folder with data sets; default: METAPLAST_DATA, then a cache folder."""
    samples: int | None = None
    """Images that each network learns from; default: one pass over the data, at most 5000."""
    ways: int | None = None
    """Number of classes for each network, drawn separately for each; default: all classes."""
    hidden: tuple[int, ...] = (170, 130, 100, 70)
    """Widths of the hidden layers."""
    depth: int | None = None
    """Number of weight matrices; the profile of --hidden is stretched to this depth."""
    activation: str = "softplus:10"
    """Activation of the hidden layers: softplus:BETA, tanh or relu."""
    init: str = "xavier"
    """How weights are drawn: xavier or normal:STD."""
    objective: str = OBJECTIVE
    """The loss, its gradient at the output, and the score by which rules are compared."""
    seeds: int = 5
    """Networks for each rule, each with its own weights and images."""
    test_images: int = 1000
    """Largest number of held-out images on which the score is measured."""
    baselines: str = "usual"
    """Known rules to compare with: usual, none, or names separated by commas."""
    fit_scale: bool = False
    """Also compare each given rule times a factor, which is tuned like a baseline's rate."""
    seed: int = 0
    """Seed of all random numbers."""
    engine: str = "auto"
    """Engine that unrolls; all engines give the same answer."""
    device: str = "cpu"
    """cpu or cuda."""
    dtype: DtypeName = "float32"
    """Precision of the computation."""
    out: Path | None = None
    """Folder for the results; default: runs/evaluate-<time>."""
    quiet: bool = False
    """Print only the results."""

    def __post_init__(self) -> None:
        """Check what can be checked without rules and data.

        Raises:
            UserError: if a value is out of range or a name unknown.
        """
        require_within("--samples", 1 if self.samples is None else self.samples, 1)
        require_within("--seeds", self.seeds, 1)
        require_within("--test-images", self.test_images, 1)
        require_seed("--seed", self.seed)
        require(
            all(width >= 1 for width in self.hidden),
            f"--hidden takes widths of at least 1, got {shown(self.hidden)}.",
        )
        self.network(1, 2)
        if self.engine != "auto":
            get_engine(self.engine)
        get_source(self.dataset or default_source())

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
    contenders = gather(options.rules, options.baselines, fit_scale=options.fit_scale)
    _require_data(options, contenders)
    like = torch.zeros(0, dtype=getattr(torch, options.dtype), device=find_device(options.device))
    split = _open(options, like)
    network = options.network(split.inputs, split.outputs)
    require_targets(split, network.objective)
    settings = _settings(options, split)
    for contender in contenders:
        check_depth(contender, network)
        learner = contender.rule.learner(network)
        engine = choose_engine(options.engine, learner, like.device)
        images = settings.records[-1], settings.queries
        each = episode_bytes(learner, engine.name, *images, like.dtype, gradient=False)
        together = min(settings.seeds, settings.together)
        require_memory(each, together, "--seeds", network.description, like.device)
    standings: list[Standing] = []
    with own_folder(options.out, "evaluate") as folder:
        if not options.quiet:
            _show_settings(console, split, network, settings)
        kept = f"Finished rules are in {folder}."
        try:
            with continued_by(console, "the same command and another --out", kept):
                _train_all(
                    console, options, contenders, network, split, settings, like, folder, standings
                )
                report.write_summary(folder, standings, _plain(options, network, settings, split))
                names = report.write_figures(
                    folder, standings, network.objective.chance(split.outputs)
                )
        finally:
            # Show results even if they could not be written.
            if standings:
                _show(console, standings)
    if not options.quiet:
        console.out(
            f"Results in {folder}: {report.CURVES}, {report.RATES}, {report.SUMMARY}; "
            f"figures (PNG, SVG): {', '.join(names)}",
        )  # fmt: skip


def _require_data(options: EvaluateOptions, contenders: Sequence[Contender]) -> None:
    """Require a data set name if a rule was found on data that no command can open.

    Raises:
        UserError: if none is named.
    """
    for contender in contenders:
        found_on = contender.rule.provenance
        require(
            bool(options.dataset) or "own_data" not in found_on,
            f"the rule {contender.name} was found on {found_on.get('dataset')}, which only Python "
            f"has; name the data to train on with --dataset.",
        )


def _open(options: EvaluateOptions, like: torch.Tensor) -> StreamSplit:
    request = StreamRequest(
        ways=options.ways,
        data_root=options.data_root,
        seed=options.seed,
        device=like.device,
        dtype=like.dtype,
    )
    return open_stream(options.dataset or default_source(), request)


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
    contenders: Sequence[Contender],
    network: FullyConnected,
    split: StreamSplit,
    settings: OnlineSettings,
    like: torch.Tensor,
    folder: Path,
    standings: list[Standing],
) -> None:
    """Train with each rule in turn, and write its results before the next rule begins."""
    images = settings.records[-1]
    trial = images * min(settings.seeds, TUNING_SEEDS)
    guesses = [trial * _trials(c) + images * settings.seeds for c in contenders]
    with Work(console, sum(guesses), quiet=options.quiet) as work:
        for index, contender in enumerate(contenders):
            work.name(contender.name)
            standing = compete(
                contender, network, split, settings, like,
                observe_trial=lambda _: work.advance(trial), observe=work.advance,
            )  # fmt: skip
            standings.append(standing)
            report.write_tables(folder, standings)
            work.settle(sum(guesses[: index + 1]))
            found = f"found by {len(standing.trials)} trials, " if standing.trials else ""
            scale = standing.run.scale
            work.line(f"{contender.name}: {found}{scale.mean_in_band(standing.run.band())}")


def _trials(contender: Contender) -> int:
    """Return the approximate number of trials of a contender."""
    if not contender.is_tuned:
        return 0
    others = 0 if contender.fit == "scale" else len(contender.rule.terms) - 1
    once = 1 + len(GRID) + 2
    each = 2 * len(COARSE) ** 2 + 2 * len(GRID) * ROUNDS + 2
    return once + others * each + (once if others else 0)


def _show(console: Console, standings: Sequence[Standing]) -> None:
    console.print()
    tables = (
        report.score_table(standings),
        report.paired_table(standings),
        report.coefficients_table(standings),
        report.diagnostics_table(standings),
    )
    for table in tables:
        if table is not None:
            console.print(table)
    for sentence in report.rate_warnings(standings):
        console.out(sentence)


def _plain(
    options: EvaluateOptions, network: FullyConnected, settings: OnlineSettings, split: StreamSplit
) -> dict[str, Any]:
    """Return the options, with defaults filled in, as plain data."""
    return {
        "dataset": options.dataset or default_source(),
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
