"""The files and tables of a comparison of rules that train networks online."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table
from torch import Tensor

from metaplast.base.bands import BAND
from metaplast.base.files import csv_text, write_json, write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.scores import ScoreScale
from metaplast.base.tables import new_table
from metaplast.discovery.result import versions
from metaplast.online.comparison import EntrantResult
from metaplast.online.train import OnlineRun
from metaplast.report.canvas import save_figure
from metaplast.report.curve import Curve
from metaplast.report.figures import curves, profiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES, RATES, SUMMARY = "curves.csv", "rates.csv", "comparison.json"
SHOWN = 4
# Measures drawn against the layer, with the name of the vertical axis.
PROFILES = {
    "angle": "angle between the errors fed back and backprop's, degrees",
    "activity_norm": "norm of the hidden activities ‖y‖",
    "weight_norm": "norm of the weights ‖W‖",
    "update_norm": "norm of one update ‖ΔW‖",
}


def write_tables(folder: AnyPath, results: Sequence[EntrantResult]) -> None:
    """Write curves.csv, one row per network and record, and rates.csv, one row per trial."""
    folder = as_path(folder, "folder")
    write_text(folder / CURVES, csv_text(row for s in results for row in _curve_rows(s)))
    write_text(folder / RATES, csv_text(row for s in results for row in _rate_rows(s)))


def _curve_rows(result: EntrantResult) -> list[dict[str, Any]]:
    run = result.run
    rows = []
    for network in range(len(run.score)):
        for record, samples in enumerate(run.samples):
            row: dict[str, Any] = {
                "rule": result.entrant.name,
                "network": network,
                "samples": samples,
                run.scale.key: _cell(run.score[network, record]),
                "loss": _cell(run.loss[network, record]),
                "diverged": int(not math.isfinite(run.loss[network, record])),
            }
            for name, values in run.measures.items():
                layers = values[network, record]
                row |= {f"{name}_{i}": _cell(value) for i, value in enumerate(layers, start=1)}
            rows.append(row)
    return rows


def _cell(value: Tensor) -> float | str:
    """Return a number for a CSV file; empty if it is missing or not finite."""
    number = float(value)
    return float(f"{number:.6g}") if math.isfinite(number) else ""


def _rate_rows(result: EntrantResult) -> list[dict[str, Any]]:
    scaled = result.entrant.fit == "scale"
    names = [name if scaled else f"theta_{name}" for name in result.searched]
    return [
        {
            "rule": result.entrant.name,
            result.run.scale.key: trial.quality.score,
            "diverged": trial.diverged,
            **dict(zip(names, trial.theta, strict=True)),
        }
        for trial in result.trials
    ]


def write_summary(
    folder: AnyPath, results: Sequence[EntrantResult], settings: Mapping[str, Any]
) -> None:
    """Write comparison.json: what `summary_data` returns."""
    write_json(as_path(folder, "folder") / SUMMARY, summary_data(results, settings))


def summary_data(results: Sequence[EntrantResult], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options and every rule's final results as plain data."""
    rules = {}
    for result in results:
        band, run = result.run.band(), result.run
        rules[result.entrant.name] = {
            "feedback": result.entrant.rule.feedback,
            "equation": str(result.entrant.rule),
            "theta": result.entrant.rule.coefficients,
            "fitted": result.entrant.fit,
            "tried": len(result.trials),
            "at_edge": list(result.at_edge),
            run.scale.key: band.to_json(),
            "diverged": int(run.diverged.sum()),
            "networks": len(run.score),
        }
    return {"settings": dict(settings), "rules": rules, "versions": versions()}


def write_figures(
    folder: AnyPath,
    results: Sequence[EntrantResult],
    chance: float | None,
    sites: Sequence[str] = (),
) -> list[str]:
    """Write every figure as PNG and SVG; return their names.

    Args:
        folder: where to write.
        results: the results of all rules.
        chance: the mean score of guessing, to be marked; None for no mark.
        sites: names of the matrices that rules change; none if they are layers.
    """
    runs = {s.entrant.name: s.run for s in results}
    scale = next(iter(runs.values())).scale
    figures = {scale.key: _score_figure(runs, scale, chance)}
    for name, title in PROFILES.items():
        figure = _profile_figure(runs, name, title, sites)
        if figure is not None:
            figures[name] = figure
    for name, figure in figures.items():
        save_figure(figure, as_path(folder, "folder") / name)
    return list(figures)


def _score_figure(runs: Mapping[str, OnlineRun], scale: ScoreScale, chance: float | None) -> Figure:
    """Return the figure of the held-out score against the number of images."""
    samples = next(iter(runs.values())).samples
    scores = {
        name: Curve.over_networks(samples, scale.factor * run.score.double().cpu().numpy())
        for name, run in runs.items()
    }
    floor = None if chance is None else (scale.factor * chance, "chance")
    return curves(
        scores, x="images learned", y=f"held-out {scale.axis}", limits=scale.axis_limits,
        floor=floor,
    )  # fmt: skip


def _profile_figure(
    runs: Mapping[str, OnlineRun], name: str, title: str, sites: Sequence[str]
) -> Figure | None:
    """Return the figure of a measure against the layer or site; None if no rule has it there."""
    # The softmax of the last layer is about 1, far below the other norms.
    last = -1 if name == "activity_norm" else None
    profile = {rule: _profile(run.measures[name][..., :last]) for rule, run in runs.items()}
    profile = {rule: curve for rule, curve in profile.items() if len(curve.x)}
    if not profile or (sites and any(len(c.x) != len(sites) for c in profile.values())):
        return None
    axis = ", ".join(f"{i} {site}" for i, site in enumerate(sites, 1)) or "layer"
    log = name != "angle"
    if log and not any((curve.mean > 0).any() for curve in profile.values()):
        return None  # Nothing was learned: all updates are zero.
    limits = (None, None) if log else (-3, 95)
    return profiles(profile, x=axis, y=f"{title}, at the end", log=log, limits=limits)


def _profile(values: Tensor) -> Curve:
    """Return a measure at the last record, layer by layer, over the networks that are finite."""
    last = _at_end(values).double().cpu()
    layers = list(range(1, last.shape[1] + 1)) if len(last) else []
    return Curve.over_networks(layers, last.numpy()) if layers else Curve.nothing()


def _at_end(values: Tensor) -> Tensor:
    """Return a measure at the last record, for the networks in which it is finite."""
    last = values[:, -1]
    return last[torch.isfinite(last).all(1)]


def score_table(results: Sequence[EntrantResult], width: int = 140) -> Table:
    """Return the scores with bands at some numbers of images, and the numbers of diverged networks.

    Args:
        results: the results of all rules.
        width: the width of the terminal, which limits the number of columns; names are not broken.
    """
    run = results[0].run
    chosen, names = _chosen(run.samples), max(len(result.entrant.name) for result in results)
    cell = max(len(_in_band(result.run, record)) for result in results for record in chosen)
    # Blanks at the ends and between columns, and the column of divergences.
    room = (width - names - 15) // (cell + 3)
    chosen = _chosen(run.samples, min(SHOWN, max(1, room)))
    table = new_table(
        f"Held-out {run.scale.name} of {len(run.score)} networks after n images, "
        f"{'% ' if run.scale.percent else ''}[{BAND}]"
    )
    table.add_column("rule", overflow="fold", no_wrap=names < width // 2)
    for record in chosen:
        table.add_column(f"n = {run.samples[record]}", justify="right")
    table.add_column("diverged", justify="right")
    for result in results:
        cells = [_in_band(result.run, record) for record in chosen]
        diverged = int(result.run.diverged.sum())
        style = None if result.entrant.fit == "coefficients" else "bold"
        table.add_row(result.entrant.name, *cells, str(diverged), style=style)
    return table


def _in_band(run: OnlineRun, record: int) -> str:
    """Return the score at a record with its band."""
    band, number = run.band(record), run.scale.number
    return f"{number(band.mean)} [{number(band.low)}, {number(band.high)}]"


def _chosen(samples: Sequence[int], most: int = SHOWN) -> list[int]:
    """Return a few records, evenly spread over the learning curve, including the last."""
    last = len(samples) - 1
    wanted = (round(last * i / most) for i in range(1, most + 1))
    return sorted({max(place, min(1, last)) for place in wanted})


def coefficients_table(results: Sequence[EntrantResult]) -> Table:
    """Return the coefficients of each rule, and where they come from."""
    table = new_table("Coefficients")
    for column in ("rule", "feedback", "θ", "from"):
        table.add_column(column, overflow="fold", no_wrap=column in ("rule", "θ"))
    for result in results:
        rule = result.entrant.rule
        found = rule.named_theta
        theta = "\n".join(f"{name} {found.range_text(name)}" for name in found.names)
        source = {
            "nothing": "the rule",
            "coefficients": f"best of {len(result.trials)} tried",
            "scale": f"the rule times the best of {len(result.trials)} factors",
        }[result.entrant.fit]
        table.add_row(result.entrant.name, rule.feedback, theta or "none", source)
    return table


def diagnostics_table(results: Sequence[EntrantResult], sites: Sequence[str] = ()) -> Table:
    """Return angles and norms per layer at the end, means over the finite networks.

    Args:
        results: the results of all rules.
        sites: names of the matrices that rules change; none if they are layers.
    """
    which = ", ".join(sites)
    table = new_table(f"At the end of training, {which or 'layer by layer from the input'}")
    table.add_column("rule", no_wrap=True)
    for column in ("angle to backprop, °", "‖y‖", "‖W‖", "‖ΔW‖"):
        table.add_column(column)
    for result in results:
        measures = result.run.measures
        cells = [_layers(measures["angle"], "{:.0f}")]
        cells += [_layers(measures[name], "{:.2g}") for name in ("activity_norm", "weight_norm")]
        cells.append(_layers(measures["update_norm"], "{:.1g}"))
        table.add_row(result.entrant.name, *cells)
    return table


def _layers(values: Tensor, form: str) -> str:
    last = _at_end(values)
    return " ".join(form.format(value) for value in last.mean(0).tolist()) if last.numel() else "–"


def rate_warnings(results: Sequence[EntrantResult]) -> list[str]:
    """Return a warning for each coefficient whose best value is at the end of its range."""
    return [
        f"warning: the best {term} of {result.entrant.name} is at the end of the range "
        f"tried; a better one may lie beyond it."
        for result in results
        for term in result.at_edge
    ]


def paired_table(results: Sequence[EntrantResult]) -> Table | None:
    """Return the first rule's final score minus each other rule's, paired by network."""
    if len(results) < 2:
        return None
    first, scale = results[0], results[0].run.scale
    unit = "points" if scale.percent else scale.name
    table = new_table(
        f"{first.entrant.name} minus each other rule, {unit}",
        "same networks, images and order",
    )
    table.add_column("rule", no_wrap=True)
    table.add_column(f"difference [{BAND}]", justify="right")
    for other in results[1:]:
        ahead = first.run.score[:, -1] - other.run.score[:, -1]
        table.add_row(other.entrant.name, scale.change(scale.change_band(ahead)))
    return table
