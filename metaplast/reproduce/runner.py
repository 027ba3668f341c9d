"""Run the missing parts of experiments in parallel, and write the results of complete ones.

A results folder holds `parts/VARIANT/`, with `variant.json` (settings, and what was found on
separate data), and for each seed a CSV file and a small JSON file, which is written last. A command
that is restarted, or started with more seeds, therefore computes only what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metaplast.base.bands import DESCRIPTION
from metaplast.base.device import require_device
from metaplast.base.errors import require
from metaplast.base.files import read_json, write_json, write_text
from metaplast.base.paths import as_path
from metaplast.batch_jobs.queue import Answers, Queue
from metaplast.discovery.result import versions
from metaplast.reproduce.experiment import Experiment, Setting, SideBySide, Variant, runs_on
from metaplast.reproduce.machine import machine
from metaplast.reproduce.table import Row, Table, read_rows, rows_to_csv
from metaplast.reproduce.verdict import judge

PARTS, VARIANT = "parts", "variant.json"


@dataclass(frozen=True)
class Results:
    """A results folder.

    Attributes:
        folder: its path.
        setting: the settings that all experiments share.
    """

    folder: Path
    setting: Setting

    def __post_init__(self) -> None:
        """Accept the folder as text too."""
        object.__setattr__(self, "folder", as_path(self.folder, "folder"))

    def place(self, variant: Variant) -> Path:
        """Return the folder of a variant."""
        return self.folder / PARTS / variant.name

    def rows(self, variant: Variant, seed: int) -> list[Row]:
        """Return the numbers of one seed."""
        return read_rows(self.place(variant) / f"seed-{seed}.csv")

    def is_done(self, variant: Variant, seed: int) -> bool:
        """Return whether the numbers of a seed exist."""
        return (self.place(variant) / f"seed-{seed}.json").exists()

    def prepared(self, variant: Variant) -> dict[str, Any] | None:
        """Return what the variant's `prepare` found, None if it has not run yet.

        Raises:
            UserError: if the folder was made with other settings.
        """
        path = self.place(variant) / VARIANT
        if not path.exists():
            return None
        data = read_json(path, "the settings of a variant")
        require(
            data.get("settings") == decisive_settings(variant, self.setting),
            f"{self.place(variant)} was made with other settings (perhaps with or without "
            f"--quick, on another device, or by another version); give --out another folder, or "
            f"delete that one.",
        )
        found: dict[str, Any] = data["prepared"]
        return found

    def seconds(self, variant: Variant, seeds: Iterable[int]) -> float:
        """Return the seconds that preparation and seeds of a variant took, on one core."""
        paths = [self.place(variant) / VARIANT]
        paths += [self.place(variant) / f"seed-{seed}.json" for seed in seeds]
        return float(sum(read_json(path, "times")["seconds"] for path in paths))


def decisive_settings(variant: Variant, setting: Setting) -> dict[str, Any]:
    """Return everything except the seed that determines a variant's numbers, as plain data.

    CUDA sums in another order than the CPU, so its results differ in the last digits.
    """
    found = variant.settings(setting)
    return found if setting.device.type == "cpu" else {**found, "device": setting.device.type}


def prepare_variant(variant: Variant, setting: Setting, folder: str) -> dict[str, Any]:
    """Find what a variant needs before its seeds, and save it; return {}."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found = variant.prepare(setting, place)
    seconds = round(time.monotonic() - began, 2)
    decisive = decisive_settings(variant, setting)
    write_json(place / VARIANT, {"settings": decisive, "prepared": found, "seconds": seconds})
    return {}


def run_seeds(
    variant: Variant, seeds: Sequence[int], setting: Setting, folder: str
) -> dict[str, Any]:
    """Compute the numbers of some seeds, and save them; return {}."""
    place = Path(folder)
    began = time.monotonic()
    prepared = read_json(place / VARIANT, "the settings of a variant")["prepared"]
    if isinstance(variant, SideBySide):
        found = variant.run_together(seeds, setting, prepared)
    else:
        found = [variant.run(seed, setting, prepared) for seed in seeds]
    seconds = round((time.monotonic() - began) / len(seeds), 2)
    for seed, rows in zip(seeds, found, strict=True):
        write_text(place / f"seed-{seed}.csv", rows_to_csv(rows))
        write_json(place / f"seed-{seed}.json", {"seconds": seconds, "versions": versions()})
    return {}


def _name(variant: Variant, seeds: Sequence[int]) -> str:
    """Return the name of a part in messages."""
    some = f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{variant.name}, {some}"


@dataclass(frozen=True)
class Plan:
    """The work to do.

    Attributes:
        results: the folder.
        experiments: the experiments.
        seeds: number of seeds; 0 for each experiment's own.
    """

    results: Results
    experiments: Sequence[Experiment]
    seeds: int = 0

    def seeds_of(self, experiment: Experiment) -> range:
        """Return the seeds of an experiment."""
        return range(self.seeds or experiment.seeds)

    @property
    def variants(self) -> dict[str, Variant]:
        """Return the variants by name, without repetitions.

        Raises:
            UserError: if two different variants have the same name.
        """
        found: dict[str, Variant] = {}
        for experiment in self.experiments:
            for variant in experiment.variants:
                known = found.setdefault(variant.name, variant)
                setting = self.results.setting
                require(
                    known is variant or known.settings(setting) == variant.settings(setting),
                    f"two experiments have different variants called {variant.name}; rename one.",
                )
        return found

    def check(self) -> None:
        """Check everything that a run needs, before anything is computed or written.

        Raises:
            UserError: if data are missing, the folder has other settings, two variants clash, or
                the device is absent or cannot compute one of them.
        """
        self._check_device()
        unprepared, seeds = self.missing()
        setting = self.results.setting
        left = [*unprepared, *(variant for variant, _ in seeds)]
        data = {name: each for v in left for name, each in v.data(setting).items()}
        for opened in data.values():
            opened()

    def _check_device(self) -> None:
        device = self.results.setting.device
        require_device(device)
        bound = [
            e.name for e in self.experiments if not all(runs_on(v, device) for v in e.variants)
        ]
        require(
            not bound,
            f"--device {device} was given, but {', '.join(bound)} can run on the CPU only; "
            f"leave --device out, or name other experiments.",
        )

    def missing(self) -> tuple[list[Variant], list[tuple[Variant, list[int]]]]:
        """Return the variants to prepare, and the parts to run: seeds of a variant, in order."""
        variants = self.variants
        unprepared = [v for v in variants.values() if self.results.prepared(v) is None]
        wanted: dict[tuple[str, int], None] = {}
        for experiment in self.experiments:
            for seed in self.seeds_of(experiment):
                wanted |= dict.fromkeys((v.name, seed) for v in experiment.variants)
        parts: list[tuple[Variant, list[int]]] = []
        begun: dict[str, list[int]] = {}
        for name, seed in wanted:
            variant = variants[name]
            if self.results.is_done(variant, seed):
                continue
            size = variant.together if isinstance(variant, SideBySide) else 1
            if len(begun.setdefault(name, [])) % size == 0:
                begun[name] = []
                parts.append((variant, begun[name]))
            begun[name].append(seed)
        return unprepared, parts

    def run(
        self,
        *,
        processes: int = 0,
        ray: str | None = None,
        observe: Callable[[str, str | None], None] = lambda *_: None,
    ) -> dict[str, str]:
        """Compute the missing parts; return an error for each part that failed.

        Args:
            processes: how many parts in parallel; 0 for one per core.
            ray: address of a Ray cluster to run on instead; its nodes share the folder.
            observe: called with each part's name and, if it failed, the reason.
        """
        unprepared, unrun = self.missing()
        setting, place = self.results.setting, self.results.place
        first = {f"{v.name}, preparation": (v, setting, str(place(v))) for v in unprepared}
        failed: dict[str, str] = {}

        def collect(answers: Answers) -> None:
            for name, answer in answers:
                if "error" in answer:
                    failed[name] = answer["error"]
                observe(name, answer.get("error"))

        with Queue(processes, ray, inline=True).kept(max(len(unprepared), len(unrun))) as run:
            collect(run(prepare_variant, first))
            seeds = {
                _name(v, several): (v, several, setting, str(place(v)))
                for v, several in unrun
                if self.results.prepared(v) is not None
            }
            collect(run(run_seeds, seeds))
        return failed

    def is_whole(self, experiment: Experiment) -> bool:
        """Return whether all results of an experiment exist."""
        return all(
            self.results.is_done(variant, seed)
            for variant in experiment.variants
            for seed in self.seeds_of(experiment)
        )

    def table(self, experiment: Experiment) -> Table:
        """Return the numbers of an experiment."""
        return Table({
            (variant.name, seed): self.results.rows(variant, seed)
            for variant in experiment.variants
            for seed in self.seeds_of(experiment)
        })  # fmt: skip

    def conclude(self, experiment: Experiment) -> dict[str, Any]:
        """Write the table, the figures and the verdicts of a complete experiment.

        Returns:
            The contents of NAME.json.
        """
        from metaplast.report.canvas import save_figure

        results, seeds = self.results, self.seeds_of(experiment)
        table = self.table(experiment)
        write_text(results.folder / f"{experiment.name}.csv", table.to_csv())
        figures = {
            f"{experiment.name}{'-' if part else ''}{part}": figure
            for part, figure in experiment.draw(table).items()
        }
        for stem, figure in figures.items():
            save_figure(figure, results.folder / stem)
        verdicts = [asdict(judge(claim, table)) for claim in experiment.claims]
        settings = {v.name: decisive_settings(v, results.setting) for v in experiment.variants}
        summary = {
            "name": experiment.name,
            "quick": results.setting.quick,
            "seeds": len(seeds),
            "usual_seeds": experiment.seeds,
            "core_seconds": sum(results.seconds(v, seeds) for v in experiment.variants),
            "figures": list(figures),
            "bands": DESCRIPTION,
            "verdicts": verdicts,
            "diverged": {name: table.diverged(name) for name in table.variants},
            "variants": settings,
            "prepared": {v.name: results.prepared(v) for v in experiment.variants},
            "machine": machine(results.setting.device),
            "versions": versions(),
        }
        write_json(results.folder / f"{experiment.name}.json", summary)
        return summary
