"""SUPERTREX with coefficients learned on some curves, tested on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reproduce.direct import TwoSizes, no_data
from metaplast.reproduce.experiment import Experiment, Setting, plain
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import AT, DIVERGED, Row, Table
from metaplast.reproduce.verdict import Claim
from metaplast.reservoirs import (
    Algorithm,
    Dynamics,
    Lane,
    Schedule,
    Search,
    Simulation,
    get_task,
    learn_coefficients,
    published,
    random_curve,
    random_drawings,
    repaired,
)
from rule_library.experiments.supertrex_runs import COSTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = "coefficients"
_OURS = "ours, in no paper"
_ARM = get_task("arm:3")
_FULL = {
    "neurons": 1000, "period": 50_000, "training": 10, "test": 5,
    "generations": 8, "population": 8, "drawings": 2, "search": (10, 2),
}  # fmt: skip
_TINY = {
    "neurons": 20, "period": 40, "training": 6, "test": 5,
    "generations": 2, "population": 4, "drawings": 1, "search": (4, 1),
}  # fmt: skip
LABELS = {
    "released": "released", "movement": "repaired cost", "repaired": "repaired",
    "learned": "learned",
}  # fmt: skip


def _start() -> Algorithm:
    """Return the released coefficients with the repaired cost, from which learning begins."""
    return replace(published("supertrex", _ARM, COSTS), cost_of="output")


@dataclass(frozen=True, eq=False)
class LearnedVariant(TwoSizes):
    """Runs whose coefficients are learned once, on separate drawings.

    Attributes:
        name: the name of the variant.
        full: the settings.
        quick: the settings that differ in the quick version.
    """

    name: str
    full: Mapping[str, Any]
    quick: Mapping[str, Any]

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return plain(self.chosen(setting)) | {"computed": RUNS}

    def data(self, setting: Setting) -> Mapping[str, Callable[[], object]]:
        """Return no data to open, because the curves are random."""
        return no_data()

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return the learned algorithm, and the scores of each generation."""
        chosen = self.chosen(setting)
        period, count, (training, test) = chosen["period"], chosen["drawings"], chosen["search"]
        found = learn_coefficients(
            _ARM, _start(), random_drawings(period, count), folder=folder, workers=count,
            search=Search(chosen["generations"], chosen["population"]),
            dynamics=Dynamics(chosen["neurons"]),
            schedule=Schedule(period, training, test, lag=min(5, training)),
        )  # fmt: skip
        return {"algorithm": asdict(found.algorithm), "scores": found.scores}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return the rows of all algorithms on the curve of this seed."""
        learned = Algorithm(**{**prepared["algorithm"], "costs": COSTS})
        return draw_curves(seed, self.chosen(setting), learned)


def draw_curves(seed: int, settings: Mapping[str, Any], learned: Algorithm) -> list[Row]:
    """Return distances by period, and the deviation and divergence of each algorithm at the end."""
    algorithms = {
        "released": published("supertrex", _ARM, COSTS), "movement": _start(),
        "repaired": repaired(_ARM, COSTS), "learned": learned,
    }  # fmt: skip
    period = settings["period"]
    schedule = Schedule(period, settings["training"], settings["test"])
    lanes = [Lane(name, _ARM, algorithm) for name, algorithm in algorithms.items()]
    dynamics = Dynamics(settings["neurons"])
    runs = Simulation(lanes, random_curve(period, seed), dynamics, schedule, seed).run()
    rows: list[Row] = []
    for i, step in enumerate(runs[0].at):
        distances = {f"distance_{run.lane.name}": float(run.distance[i]) for run in runs}
        rows.append({AT: step / period, **{k: v for k, v in distances.items() if np.isfinite(v)}})
    end: dict[str, float] = {AT: float(schedule.steps / period)}
    for run in runs:
        lost = run.diverged_at is not None
        end |= {f"lost_{run.lane.name}": float(lost)}
        end |= {} if lost else {f"deviation_{run.lane.name}": run.deviation}
    lost_runs: list[Row] = [
        {AT: float(i), DIVERGED: end[f"lost_{r.lane.name}"]} for i, r in enumerate(runs)
    ]
    return [*rows, end, *lost_runs]


def _deviation(table: Table, name: str) -> Numbers:
    """Return the deviation of each seed; infinite if the run diverged."""
    if f"deviation_{name}" not in table.columns(RUNS):
        return np.full(len(table.parts), np.inf)
    found = table.series(RUNS, f"deviation_{name}").last()
    return np.where(np.isfinite(found), found, np.inf)


def satisfactory(name: str) -> Callable[[Table], Numbers]:
    """Return the measure that is 100 % for a deviation below 0.5, and 0 for other runs."""
    return lambda table: np.where(_deviation(table, name) < 0.5, 100.0, 0.0)


def more_often(name: str, other: str) -> Callable[[Table], Numbers]:
    """Return the measure of how much more often one algorithm is satisfactory than another, points."""
    return lambda table: np.asarray(satisfactory(name)(table) - satisfactory(other)(table))


def lower(name: str, other: str) -> Callable[[Table], Numbers]:
    """Return the measure of how many decades lower one deviation is; a diverged run counts as 10."""

    def measure(table: Table) -> Numbers:
        one, two = (np.log10(np.minimum(_deviation(table, each), 10.0)) for each in (name, other))
        return np.asarray(two - one)

    return measure


def _draw(table: Table) -> Mapping[str, Figure]:
    lines = {
        label: table.series(RUNS, f"distance_{name}").curve(median=True)
        for name, label in LABELS.items()
    }
    return {"": figure_of([Panel("distance D, arm of 3 with costs", "periods", lines, log=True)])}


supertrex_learned = Experiment(
    name="supertrex-learned",
    title="SUPERTREX with learned coefficients, on curves that it never drew",
    source=_OURS,
    text="Task 3 of the reservoirs, an arm of three segments whose movement costs, on random closed curves of six harmonics. CMA-ES learns λ, κ, the size of the exploration's noise and the gate's threshold: eight generations of eight "
    "candidates, each of which draws two curves with reservoirs of their own, learning for 10 periods and drawing for two: coefficients that are learned on shorter runs make long ones diverge. It begins with the released coefficients and the repaired cost, and minimises the mean of log10(deviation). "
    "The test has other curves and reservoirs, one for each seed, 10 periods of learning and 5 of the test. The other rows have the released coefficients, these with the repaired cost, and the replication's repair. "
    "A deviation below 0.5 is satisfactory, as in the experiment supertrex.",
    variants=(LearnedVariant(RUNS, _FULL, _TINY),),
    claims=(
        Claim("learned coefficients are satisfactory more often than the released ones", _OURS, more_often("learned", "released"), low=0, unit="points"),
        Claim("learned coefficients are satisfactory more often than the repair", _OURS, more_often("learned", "repaired"), low=0, unit="points"),
        Claim("learned coefficients have a lower deviation than the released ones: decades", _OURS, lower("learned", "released"), low=0, unit="decades"),
        Claim("learned coefficients have a lower deviation than the released ones with the repaired cost: decades", _OURS, lower("learned", "movement"), low=0, unit="decades"),
        Claim("learned coefficients have a lower deviation than the repair: decades", _OURS, lower("learned", "repaired"), low=0, unit="decades"),
    ),
    draw=_draw,
    seeds=11,
)  # fmt: skip
