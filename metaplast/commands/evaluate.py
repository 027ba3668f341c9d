"""Train fresh networks online with rules, and compare them with baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from metaplast.base.device import find_device
from metaplast.base.errors import require
from metaplast.base.settings import part
from metaplast.commands._ends import continued_by
from metaplast.commands._evaluate_options import EvaluateOptions
from metaplast.commands._folders import own_folder
from metaplast.commands._json import print_json
from metaplast.commands._options import parse
from metaplast.commands._systems import system_defaults
from metaplast.engines import choose_engine
from metaplast.engines.memory_need import episode_bytes, require_memory
from metaplast.online.comparison import TUNING_SEEDS, EntrantResult, evaluate_entrant
from metaplast.online.entrants import (
    Entrant,
    check_depth,
    check_system,
    collect_entrants,
    objective_warnings,
    weights_warnings,
)
from metaplast.online.train import OnlineSettings, spaced_records
from metaplast.online.tuning import COARSE, GRID, ROUNDS
from metaplast.report import comparison as report
from metaplast.systems.kind import DEFAULT
from metaplast.systems.system import System
from metaplast.tasks.checks import require_inputs, require_targets
from metaplast.tasks.library import open_stream
from metaplast.tasks.request import StreamRequest
from metaplast.tasks.stream import StreamSplit
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --hidden, --samples or --test-images"
MOST = 5000


@dataclass(frozen=True)
class _Comparison:
    """A comparison: the rules, and the networks and data on which they are trained.

    Attributes:
        options: the options of the command.
        entrants: the rules.
        split: the data.
        network: the network, which fits the data.
        settings: the settings of the training.
        like: a tensor with the dtype and the device of the networks.
    """

    options: EvaluateOptions
    entrants: tuple[Entrant, ...]
    split: StreamSplit
    network: System
    settings: OnlineSettings
    like: torch.Tensor

    def check(self) -> None:
        """Check that every rule fits the network and the machine.

        Raises:
            UserError: if the data suit another system or objective, a rule has coefficients for
                another number of layers, no engine serves it, or the networks need too much
                memory.
        """
        require_inputs(self.split, self.network)
        require_targets(self.split, self.network.objective)
        images = self.settings.records[-1], self.settings.queries
        together = min(self.settings.seeds, self.settings.together)
        for entrant in self.entrants:
            check_depth(entrant, self.network)
            learner = entrant.rule.learner(self.network)
            engine = choose_engine(self.options.engine, learner, self.like.device)
            each = episode_bytes(learner, engine.name, *images, self.like.dtype, gradient=False)
            require_memory(each, together, "--seeds", self.network.description, self.like.device)

    def show(self, console: Console) -> None:
        """Print the data, the network and the length of the training."""
        samples = self.settings.records[-1]
        console.out(f"data      {self.split.description}")
        console.out(f"network   {self.network.description}")
        passes = samples / self.split.images
        often = f" ({passes:.1f} passes over {self.split.images})" if passes > 1 else ""
        console.out(
            f"training  {self.settings.seeds} networks, {samples} images each, one by one{often}\n",
        )

    def train(self, console: Console, folder: Path, results: list[EntrantResult]) -> None:
        """Train with each rule in turn, and write its results before the next rule begins."""
        images, seeds = self.settings.records[-1], self.settings.seeds
        trial = images * min(seeds, TUNING_SEEDS)
        guesses = [trial * _trials(entrant) + images * seeds for entrant in self.entrants]
        with Work(console, sum(guesses), quiet=self.options.quiet) as work:
            for index, entrant in enumerate(self.entrants):
                work.name(entrant.name)
                result = evaluate_entrant(
                    entrant, self.network, self.split, self.settings, self.like,
                    observe_trial=lambda _: work.advance(trial), observe=work.advance,
                )  # fmt: skip
                results.append(result)
                report.write_tables(folder, results)
                work.set_done(sum(guesses[: index + 1]))
                found = f"found by {len(result.trials)} trials, " if result.trials else ""
                scale = result.run.scale
                work.line(f"{entrant.name}: {found}{scale.mean_in_band(result.run.band())}")

    def write(self, folder: Path, results: Sequence[EntrantResult]) -> list[str]:
        """Write the summary and the figures; return the names of the figures."""
        report.write_summary(folder, results, self.plain())
        chance = self.network.objective.chance(self.split.outputs)
        return report.write_figures(folder, results, chance, self.sites)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the matrices that rules change; none if they are layers of a stack."""
        return () if self.network.name == DEFAULT else self.network.sites

    def plain(self) -> dict[str, Any]:
        """Return the options, with defaults filled in, as plain data."""
        return {
            "dataset": self.options.dataset_name,
            "data": self.split.description,
            **{k: v for k, v in self.network.spec().items() if k != "feedback"},
            "samples": self.settings.records[-1],
            "networks": self.settings.seeds,
            "test_images": self.settings.queries,
            "seed": self.settings.seed,
            "engine": self.options.engine,
            "device": self.options.device,
            "dtype": self.options.dtype,
        }


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, a rule, the data or a folder is invalid.
    """
    defaults = EvaluateOptions(**system_defaults(arguments, "evaluate"))
    options = parse(
        EvaluateOptions, arguments, default=defaults, prog="evaluate", description=__doc__
    )
    console = make_console(errors=options.json)
    comparison = _comparison(options)
    comparison.check()
    results: list[EntrantResult] = []
    with own_folder(options.out, "evaluate", resumable=False) as folder:
        if not options.quiet:
            comparison.show(console)
        for warnings in (objective_warnings, weights_warnings):
            for sentence in warnings(comparison.entrants, comparison.network):
                console.out(sentence)
        kept = f"Finished rules are in {folder}."
        try:
            with continued_by(console, "the same command and another --out", kept):
                comparison.train(console, folder, results)
                names = comparison.write(folder, results)
        finally:
            # Show results even if they could not be written.
            if results:
                _show(console, results, comparison.sites)
        if options.json:
            print_json(report.summary_data(results, comparison.plain()) | {"folder": str(folder)})
    if not options.quiet:
        console.out(
            f"Results in {folder}: {report.CURVES}, {report.RATES}, {report.SUMMARY}; "
            f"figures (PNG, SVG): {', '.join(names)}",
        )  # fmt: skip


def _comparison(options: EvaluateOptions) -> _Comparison:
    """Read the rules and the data, and return the comparison that the options describe."""
    entrants = collect_entrants(
        options.rules, options.baselines, fit_scale=options.fit_scale, system=options.kind.name
    )
    if not options.system:
        check_system(entrants)
    _require_data(options, entrants)
    like = torch.zeros(0, dtype=options.torch_dtype, device=find_device(options.device))
    request = part(StreamRequest, options, device=like.device, dtype=like.dtype)
    split = open_stream(options.dataset_name, request)
    network = options.network(split.inputs, split.outputs, split.timing)
    return _Comparison(options, tuple(entrants), split, network, _settings(options, split), like)


def _require_data(options: EvaluateOptions, entrants: Sequence[Entrant]) -> None:
    """Require --dataset if a rule was found on data that no command can open.

    Raises:
        UserError: if --dataset is missing.
    """
    for entrant in entrants:
        found_on = entrant.rule.provenance
        require(
            bool(options.dataset) or "own_data" not in found_on,
            f"the rule {entrant.name} was found on {found_on.get('dataset')}, which was passed "
            f"from Python; name the data to train on with --dataset.",
        )


def _settings(options: EvaluateOptions, split: StreamSplit) -> OnlineSettings:
    samples = min(MOST, split.images) if options.samples is None else options.samples
    return OnlineSettings(
        spaced_records(samples), options.seeds, options.test_images, options.seed,
        engine=options.engine,
    )  # fmt: skip


def _trials(entrant: Entrant) -> int:
    """Return the approximate number of trials of an entrant."""
    if not entrant.is_tuned:
        return 0
    others = 0 if entrant.fit == "scale" else len(entrant.rule.terms) - 1
    once = 1 + len(GRID) + 2
    each = 2 * len(COARSE) ** 2 + 2 * len(GRID) * ROUNDS + 2
    return once + others * each + (once if others else 0)


def _show(console: Console, results: Sequence[EntrantResult], sites: Sequence[str]) -> None:
    console.print()
    tables = (
        report.score_table(results, console.width),
        report.paired_table(results),
        report.coefficients_table(results),
        report.diagnostics_table(results, sites),
    )
    for table in tables:
        if table is not None:
            console.print(table)
    for sentence in report.rate_warnings(results):
        console.out(sentence)
