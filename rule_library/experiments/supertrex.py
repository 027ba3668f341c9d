"""Reward-modulated reservoirs draw a butterfly: FORCE, RMHL and SUPERTREX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.canvas import style
from metaplast.reproduce.direct import DirectVariant
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from metaplast.reservoirs.targets import butterfly
from rule_library.experiments.supertrex_runs import FULL, TINY, learn_to_draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS = "supertrex"
PAPER = "Pyle & Rosenbaum 2019, abstract"
AGAIN = "Pyle & Rosenbaum 2019, as replicated, table 1"
REPAIR = "Pyle & Rosenbaum 2019, as replicated, repair"
# Lanes of each task, with their labels.
SHOWN = {
    "task 1, pen": {"pen_force": "FORCE", "pen_rmhl": "RMHL", "pen_supertrex": "SUPERTREX"},
    "task 2, arm of 2": {"arm2_rmhl": "RMHL", "arm2_supertrex": "SUPERTREX"},
    "task 2, arm of 3": {
        "arm3_rmhl": "RMHL", "arm3_supertrex": "SUPERTREX", "arm3_repaired": "repaired",
    },
    "task 3, arm of 3 with costs": {
        "costs_rmhl": "RMHL", "costs_supertrex": "SUPERTREX",
        "costs_movement": "repaired cost", "costs_repaired": "repaired",
    },
}  # fmt: skip
LABELS = tuple(dict.fromkeys(label for lanes in SHOWN.values() for label in lanes.values()))
TRAINING = int(FULL["training"])  # type: ignore[call-overload]


def _column(table: Table, name: str) -> Numbers:
    """Return a quantity at the end of each run, [seed]; NaN if it is missing."""
    if name not in table.columns(RUNS):
        return np.full(len(table.parts), np.nan)
    return table.series(RUNS, name).last()


def deviation(lane: str) -> Callable[[Table], Numbers]:
    """Return the measure of the mean distance in the test."""
    return lambda table: _column(table, f"deviation_{lane}")


def satisfactory(lane: str) -> Callable[[Table], Numbers]:
    """Return the measure that is 100 % for a deviation below 0.5, and 0 for all other runs."""

    def measure(table: Table) -> Numbers:
        found = _column(table, f"deviation_{lane}")
        return np.where(np.isfinite(found) & (found < 0.5), 100.0, 0.0)

    return measure


def lost(lane: str) -> Callable[[Table], Numbers]:
    """Return the measure that is 100 % for a run that diverged, and 0 for others."""
    return lambda table: 100 * _column(table, f"lost_{lane}")


def _learning(table: Table, quantity: str) -> Numbers:
    """Return a quantity at the end of learning, [seed]."""
    series = table.series(RUNS, quantity)
    return np.asarray(series.values[:, np.flatnonzero(series.x <= _learned(table))[-1]])


def _learned(table: Table) -> float:
    """Return the periods of learning: all but the five of the test."""
    return float(table.series(RUNS, "distance_pen_rmhl").x[-1]) - float(FULL["test"])  # type: ignore[arg-type]


def followed(lane: str) -> Callable[[Table], Numbers]:
    """Return the measure of the distance at the end of learning."""
    return lambda table: _learning(table, f"distance_{lane}")


def forgotten(lane: str) -> Callable[[Table], Numbers]:
    """Return the measure of the deviation divided by the distance at the end of learning."""
    return lambda table: deviation(lane)(table) / followed(lane)(table)


def transferred(lane: str) -> Callable[[Table], Numbers]:
    """Return the measure of ‖W_1‖/‖W_2‖ at the end of learning."""
    return lambda table: (
        _learning(table, f"mastery_{lane}")
        / np.maximum(_learning(table, f"exploration_{lane}"), 1e-300)
    )


def gain(lane: str, other: str) -> Callable[[Table], Numbers]:
    """Return the measure of how much lower one deviation is than another."""
    return lambda table: deviation(other)(table) - deviation(lane)(table)


def _survivors(table: Table, lanes: Mapping[str, str]) -> str:
    """Return how many runs are left in each lane in which some runs diverged."""
    found = []
    for lane, label in lanes.items():
        gone = np.nansum(lost(lane)(table) / 100)
        if gone:
            found.append(f"{label} {len(table.parts) - gone:.0f}")
    return f"\nruns left, of {len(table.parts)}: {', '.join(found)}" if found else ""


def _draw(table: Table) -> Mapping[str, Figure]:
    panels = []
    for task, lanes in SHOWN.items():
        lines = {
            label: table.series(RUNS, f"distance_{lane}").curve(median=True)
            for lane, label in lanes.items()
        }
        title = f"distance D, {task}{_survivors(table, lanes)}"
        panels.append(Panel(title, "periods", lines, log=True))
    norms = []
    for name, readout in (("exploration", "W₂"), ("mastery", "W₁")):
        for task, lanes in SHOWN.items():
            lines = {
                label: table.series(RUNS, f"{name}_{lane}").curve(median=True)
                for lane, label in lanes.items()
            }
            norms.append(Panel(f"‖{readout}‖, {task}", "periods", lines))
    return {
        "": figure_of(panels, columns=2, first=LABELS),
        "norms": figure_of(norms, columns=4, first=LABELS),
        "drawn": _drawn(table),
        "outputs": _outputs(table),
    }


def _of_first_seed(table: Table, column: str) -> tuple[Numbers, Numbers]:
    """Return times in periods, and the values of seed 0; empty if there are none."""
    if column not in table.columns(RUNS):
        return np.empty(0), np.empty(0)
    series = table.series(RUNS, column)
    return series.x, series.values[0]


def _drawn(table: Table) -> Figure:
    """Return what each lane of seed 0 drew in the last period of the test."""
    from matplotlib.figure import Figure

    lanes = {
        lane: f"{task.removesuffix(' with costs')}:\n{label}"
        for task, of in SHOWN.items()
        for lane, label in of.items()
    }
    target = butterfly(500)
    with style():
        figure = Figure(figsize=(9.2, 7.2), layout="constrained")
        for axes, (lane, title) in zip(figure.subplots(3, 4).flatten(), lanes.items(), strict=True):
            at, x = _of_first_seed(table, f"x_{lane}")
            _, y = _of_first_seed(table, f"y_{lane}")
            shown = at > at[-1:] - 1
            axes.plot(*target.T, color="0.75", linewidth=2)
            axes.plot(x[shown], y[shown], linewidth=0.9)
            axes.set(title=title, xlim=(-1.5, 1.5), ylim=(-1.7, 1.2), aspect="equal")
            axes.set_axis_off()
    return figure


def _outputs(table: Table) -> Figure:
    """Return x over time, in the last period of learning and in the last period of the test."""
    from matplotlib.figure import Figure

    tasks = list(SHOWN.items())
    with style():
        figure = Figure(figsize=(9.2, 7.2), layout="constrained")
        for row, (task, lanes) in zip(figure.subplots(len(tasks), 2), tasks, strict=True):
            end = _of_first_seed(table, "x_pen_rmhl")[0][-1]
            for axes, last, what in zip(
                row, (_learned(table), end), ("learning", "test"), strict=True
            ):
                axes.plot(
                    np.linspace(last - 1, last, 500),
                    butterfly(500)[:, 0],
                    color="0.75",
                    linewidth=2,
                )
                for lane, label in lanes.items():
                    at, x = _of_first_seed(table, f"x_{lane}")
                    shown = (at > last - 1) & (at <= last)
                    axes.plot(at[shown], x[shown], linewidth=0.8, label=label)
                axes.set(title=f"x, {task}, {what}", ylim=(-1.5, 1.5), xlabel="periods")
            row[1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


supertrex = Experiment(
    name="supertrex",
    title="Reward-modulated reservoirs: FORCE, RMHL and SUPERTREX",
    source="Pyle & Rosenbaum 2019: released scripts, and their replication",
    text="A reservoir of 1,000 neurons draws a butterfly: task 1 moves a pen, task 2 an arm of two or of three segments, and in task 3 moving the segments of the arm of three has a cost. "
    "It learns for 10 periods of 50,000 steps, and draws for 5 more with frozen readouts. In these, it is fed the target (pen), or the outputs of five periods before (arm). The deviation is the mean distance in the test; below 0.5 a run is satisfactory. "
    "All runs of a seed share the reservoir and its noise. \"Repaired\" has the replication's smaller exploration rate, threshold and cost; \"repaired cost\" has the released coefficients and a cost of the whole output's movement. "
    "Published deviations are means over 11 seeds. Ranges of claims are ours, around the stored runs of the released scripts.",
    variants=(DirectVariant(RUNS, learn_to_draw, FULL, TINY),),
    claims=(
        Claim("task 1: FORCE's deviation is about 0.003", AGAIN, deviation("pen_force"), high=0.01),
        Claim("task 1: RMHL's deviation is about 0.168", AGAIN, deviation("pen_rmhl"), 0.1, 0.25),
        Claim("task 1: SUPERTREX's deviation is about 0.006", AGAIN, deviation("pen_supertrex"), high=0.015),
        Claim("task 1: RMHL follows the target while it learns", f"{PAPER}; the measure is ours", followed("pen_rmhl"), high=0.05),
        Claim("task 1: RMHL fails when frozen: deviation over the distance at the end of learning", f"{PAPER}; the measure is ours", forgotten("pen_rmhl"), low=3),
        Claim("task 1: control passes to mastery: ‖W₁‖/‖W₂‖ at the end of learning", f"{PAPER}; the measure is ours", transferred("pen_supertrex"), low=1),
        Claim("task 2: RMHL's deviation is about 0.76", AGAIN, deviation("arm2_rmhl"), 0.5, 1.3),
        Claim("task 2: SUPERTREX's deviation is about 0.011", AGAIN, deviation("arm2_supertrex"), high=0.03),
        Claim("task 2: RMHL fails when frozen: deviation over the distance at the end of learning", f"{PAPER}; the measure is ours", forgotten("arm2_rmhl"), low=3),
        Claim("task 2: control passes to mastery: ‖W₁‖/‖W₂‖ at the end of learning", f"{PAPER}; the measure is ours", transferred("arm2_supertrex"), low=1),
        Claim("task 2 with three segments: RMHL's deviation is about 0.85", AGAIN, deviation("arm3_rmhl"), 0.5, 1.4),
        Claim("task 2 with three segments: SUPERTREX diverges in most runs (9 of 11)", AGAIN, lost("arm3_supertrex"), low=50, unit="%"),
        Claim("task 2 with three segments: the repair is satisfactory (11 of 11)", REPAIR, satisfactory("arm3_repaired"), low=50, unit="%"),
        Claim("task 2 with three segments: the repair's deviation is about 0.067", REPAIR, deviation("arm3_repaired"), high=0.15),
        Claim("task 3: RMHL's deviation is about 0.85", AGAIN, deviation("costs_rmhl"), 0.4, 1.25),
        Claim("task 3: SUPERTREX learns it: its deviation is below 0.5", PAPER, deviation("costs_supertrex"), high=0.5),
        Claim("task 3: SUPERTREX is better than RMHL: difference of deviations", PAPER, gain("costs_supertrex", "costs_rmhl"), low=0),
        Claim("task 3: SUPERTREX as released fails in most runs (6 of 11): share satisfactory", AGAIN, satisfactory("costs_supertrex"), high=50, unit="%"),
        Claim("task 3: the repair is satisfactory in most runs (10 of 11)", REPAIR, satisfactory("costs_repaired"), low=50, unit="%"),
        Claim("task 3: the repair's deviation is about 0.14", REPAIR, deviation("costs_repaired"), high=0.3),
        Claim("task 3: the repaired cost is enough in most runs: share satisfactory with the released coefficients", "ours", satisfactory("costs_movement"), low=50, unit="%"),
    ),
    draw=_draw,
    seeds=11,
)  # fmt: skip
