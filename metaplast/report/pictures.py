"""The figures of the report of a discovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import BAND, Band
from metaplast.discovery.config import all_constrained
from metaplast.discovery.result import DISCOVERED
from metaplast.report.complexity_figure import Size, complexity
from metaplast.report.figures import by_layer, curves, trajectories, whiskers
from metaplast.report.run import FinishedRun, finite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = "tasks seen in meta-training"


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: the name of its files.
        figure: the drawing.
        caption: a description in one or two sentences.
    """

    name: str
    figure: Figure
    caption: str


def pictures(run: FinishedRun) -> list[Picture]:
    """Return the report's figures, without those for which the run has no data."""
    scale = run.scale
    heldout = {name: run.band("heldout", name) for name in run.summary["heldout"]}
    shown = [
        Picture(
            "comparison",
            whiskers(heldout, x=f"held-out {scale.axis}", scale=scale, mark=DISCOVERED),
            f"{scale.title} on {run.summary['test_episodes']} held-out tasks, the same for every "
            f"rule: mean and {BAND}{all_constrained(run.asked)}.",
        )
    ]
    if run.summary["without"]:
        names = run.summary["without"]
        # The most important terms come first.
        order = sorted(names, key=lambda name: run.band("without", name).mean)
        without = {name: run.band("without", name) for name in order}
        caption = (
            f"The contribution of each term: how held-out {scale.name} changes when the rule is "
            f"refitted without it, with the {BAND} of the paired difference."
        )
        figure = whiskers(without, x=f"{scale.change_axis}, without it", scale=scale, zero=True)
        shown.append(Picture("ablation", figure, caption))
    shown += _complexity(run)
    shown.append(_trajectories(run))
    shown += _time_constants(run)
    shown += _learning(run)
    shown += _angles(run)
    return shown


def _complexity(run: FinishedRun) -> list[Picture]:
    """Return the figure of the rules that selection tried, if there were any."""
    tried = run.summary.get("tried", [])
    if len({len(each["terms"]) for each in tried}) < 2:
        return []
    kept = set(run.summary["kept"])
    # The chosen rule was measured several times; the last one counts.
    chosen = max((i for i, each in enumerate(tried) if set(each["terms"]) == kept), default=-1)
    rules = [
        Size(len(each["terms"]), Band.from_json(each, "a tried rule"), i == chosen)
        for i, each in enumerate(tried)
    ]
    scale = run.scale
    caption = (
        f"Every rule that selection tried, by its number of terms: {scale.name} on validation "
        f"tasks with its {BAND}, after one refit, or after half of one if the rule was already "
        f"clearly worse. The line joins the best rule of each number. The chosen rule becomes "
        f"worse without any of its terms."
    )
    figure = complexity(rules, y=f"validation {scale.axis}", scale=scale)
    return [Picture("complexity", figure, caption)]


def _trajectories(run: FinishedRun) -> Picture:
    marks = {} if run.refit_at is None else {"refit": run.refit_at}
    lines = {term.name: run.trajectory(term.name) for term in run.terms}
    figure = trajectories(lines, x=TASKS, y="coefficient θ", marks=marks)
    caption = "Coefficients over meta-training; dots are the rule above"
    if run.refit_at is None:
        caption += "."
    else:
        caption += (
            ", refitted after the last term was dropped. The lines of dropped terms are faded."
        )
    if run.rule.is_per_layer:
        caption += " Each term has one line per layer; its name is beside the largest coefficient."
    return Picture("theta", figure, caption)


def _learning(run: FinishedRun) -> list[Picture]:
    """Return the figures of score and loss in meta-training, for the rule and its baselines."""
    found = []
    scale, losses = run.scale, run.objective.loss_axis
    wanted = (
        (scale.key, scale.name, scale.factor, scale.axis, scale.axis_limits),
        ("loss", "loss", 1.0, losses, None),
    )
    for column, name, factor, title, limits in wanted:
        series = {rule: run.curve(rule, column, factor) for rule in run.rules}
        series = {name: c for name, c in series.items() if len(c.x) and finite(c.mean)}
        if not series:
            continue
        if limits is None:
            # A loss can be negative, for example if it is minus a reward, or a likelihood.
            below = any(np.nanmin(c.mean) < 0 for c in series.values())
            limits = (None, None) if below else (0.0, None)
        figure = curves(series, x=TASKS, y=f"query {title}", limits=limits)
        caption = (
            f"Query {name} on the tasks of meta-training: running mean and its {BAND}. Tasks "
            f"differ from step to step, so this is noisier than the held-out test."
        )
        if run.refit_at is not None and column == scale.key:
            caption += f" The refit begins after {run.refit_at:.0f} tasks."
        found.append(Picture(column, figure, caption))
    return found


def _angles(run: FinishedRun) -> list[Picture]:
    """Return the figure of angles, with every rule whose errors differ from backprop's."""
    panels = {}
    for name in run.rules:
        lines = [curve for curve in run.angles(name) if finite(curve.mean)]
        if lines and max(float(np.nanmean(curve.mean)) for curve in lines) > 1:
            panels[name] = lines
    if not panels:
        return []
    figure = by_layer(panels, x="tasks seen", y="angle, degrees", limits=(0, None))
    caption = (
        "Angle between the errors fed back and backprop's errors, for every hidden layer, after "
        "each task; 90° is no better than chance."
    )
    return [Picture("angles", figure, caption)]


def _time_constants(run: FinishedRun) -> list[Picture]:
    """Return the figure of the time constants that were learned, if there were any."""
    learned = run.summary.get("taus", [])
    series = {each["label"]: run.values(f"tau_{each['of']}") for each in learned}
    series = {label: c for label, c in series.items() if len(c.x) and finite(c.mean)}
    if not series:
        return []
    caption = (
        "Time constants over meta-training, in examples or time steps. Each name gives the value "
        "before the first outer step."
    )
    figure = curves(series, x=TASKS, y="time constant τ", limits=(0.0, None))
    return [Picture("taus", figure, caption)]
