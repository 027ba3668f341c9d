"""Human-readable outputs of an inference: tables for the terminal, files, a page, TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from metaplast.base.bands import BAND, LEVEL, Band
from metaplast.base.coerce import finite_json
from metaplast.base.files import write_json, write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.scores import ScoreScale
from metaplast.base.tables import new_table
from metaplast.recordings.program import program
from metaplast.recordings.result import Inference
from metaplast.report.canvas import inlined, svg
from metaplast.report.figures import whiskers
from metaplast.report.rule_tables import show_facts
from metaplast.report.template import filled_page
from metaplast.rules.notebook import typographic
from metaplast.watch.tensorboard import summary_writer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, SUMMARY, RULE, PROGRAM, BOARD = (
    "report.html", "inference.json", "rule.json", "rule.py", "tensorboard",
)  # fmt: skip
SCALE = ScoreScale("deviance explained", True, -math.inf, 1.0)
THETA = ScoreScale("coefficient", False, -math.inf, math.inf)
NONE = "–"


def show(found: Inference, console: Console) -> None:
    """Print the rule, its terms, what the data say about them, and the comparison."""
    console.out(found.equation, "\n")
    if found.terms:
        console.print(terms_table(found))
    console.print("[bold]What the data say[/bold]")
    for sentence in (*found.in_words, *found.taus_in_words):
        console.print(f"  {sentence}")
    if found.often:
        listed = ", ".join(f"{name} {100 * share:.0f} %" for name, share in _first(found, 6))
        console.print(f"  selected in some resamples of the clusters: {listed}")
    console.print()
    console.print(models_table(found))
    show_facts(console, facts(found))
    for note in found.notes:
        console.print(f"note: {note}")


def _first(found: Inference, count: int) -> list[tuple[str, float]]:
    return list(found.often.items())[:count]


def facts(found: Inference) -> dict[str, str]:
    """Return a description of what was recorded and fitted, by topic."""
    more = {}
    if found.noise is not None:
        more["noise"] = f"standard deviation {found.noise:.3g}, estimated"
    if found.weight_noise is not None:
        more["noise of W"] = f"standard deviation {found.weight_noise:.3g}, estimated"
    if found.scale is not None:
        more["scale of W₀"] = f"{found.scale:.4g}, fitted"
    if found.gain is not None:
        more["gain"] = f"{found.gain:.4g}, fitted"
    grids = {name: found.settings.get(name) for name in ("traces", "eligibilities")}
    pool = [str(found.settings["terms"]), *(f"{n} {own}" for n, own in grids.items() if own)]
    return {**found.data, **more, "candidates": f"{found.pool} ({'; '.join(pool)})"}


def terms_table(found: Inference) -> Table:
    """Return the terms with their intervals."""
    table = new_table(
        "Terms",
        f"{100 * LEVEL:g} % intervals from {found.data['independent']}, for these terms; kept: "
        f"share of resamples of the clusters that select the term",
    )
    # On a narrow screen, only long terms and the header "loss without it" are wrapped.
    table.add_column("term", overflow="fold")
    for column in ("θ", f"{100 * LEVEL:g} % interval", "kept"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("loss without it", justify="right")
    table.add_column("certain", no_wrap=True)
    for each in found.terms:
        lost = NONE if each.without is None else f"{100 * each.without.mean:.1f} points"
        table.add_row(
            each.term.label, f"{each.theta:.4g}", f"{each.low:.4g} to {each.high:.4g}",
            f"{100 * each.kept:.0f} %", lost, "yes" if each.is_certain else "no",
        )  # fmt: skip
    return table


def models_table(found: Inference) -> Table:
    """Return the comparison with null models and published rules."""
    table = new_table(
        f"Deviance explained on held-out data ({found.data['held out']})",
        "against no plasticity; published rules have one fitted coefficient",
    )
    table.add_column("model", overflow="fold")
    table.add_column("explained", justify="right", no_wrap=True)
    table.add_column(BAND, justify="right", no_wrap=True)
    table.add_column("rule", overflow="fold")
    for model in found.models:
        band = model.explained
        cells = ("diverges", NONE) if band is None else (SCALE.text(band.mean), _ends(band))
        table.add_row(model.name, *cells, model.text)
    return table


def _ends(band: Band) -> str:
    if not math.isfinite(band.low):
        return "none (one unit)"
    return SCALE.interval(band)


def write_files(found: Inference, folder: AnyPath) -> Path:
    """Write inference.json, rule.json, rule.py, report.html and TensorBoard's files.

    Args:
        found: the result of an inference.
        folder: where to write the files.

    Returns:
        The path of report.html.
    """
    folder = as_path(folder, "folder")
    write_json(folder / SUMMARY, finite_json(found.to_json()))
    found.rule().save(folder / RULE)
    write_text(folder / PROGRAM, program(found))
    write_text(folder / PAGE, page(found))
    _write_board(found, folder / BOARD)
    return folder / PAGE


def _write_board(found: Inference, folder: Path) -> None:
    writer = summary_writer(folder, None)
    for number, step in enumerate(found.steps):
        writer.add_scalar("selection/terms", len(step.terms), number)
        writer.add_scalar("selection/z", step.z, number)
    for each in found.terms:
        for name, value in (("value", each.theta), ("low", each.low), ("high", each.high)):
            writer.add_scalar(f"theta/{each.term.name}/{name}", value, 0)
    for own in found.time_constants:
        for name, value in (("value", own.tau), ("low", own.low), ("high", own.high)):
            writer.add_scalar(f"tau/{own.name}/{name}", value, 0)
    for model in found.models:
        if model.explained is not None:
            name = model.name.replace(",", "").replace(" ", "_")
            writer.add_scalar(f"heldout/{name}", model.explained.mean, 0)
    writer.add_text("rule/equation", found.equation, 0)
    writer.add_text("rule/in_words", "  \n".join(found.in_words), 0)
    writer.close()


def page(found: Inference) -> str:
    """Return the page: the rule, its uncertainty, the comparison, the selection."""
    from markupsafe import Markup

    drawn = {
        name: {"svg": Markup(inlined(svg(figure, name), caption)), "caption": caption}
        for name, (figure, caption) in _figures(found).items()
    }
    return filled_page(
        "inferred.html.j2",
        title=found.data["files"],
        equation=typographic(found.equation),
        remembers=any(each.term.memory.clocks for each in found.terms),
        sentences=(*found.in_words, *found.taus_in_words),
        terms=[_term_row(found, i) for i in range(len(found.terms))],
        often=[(name, f"{100 * share:.0f} %") for name, share in _first(found, 12)],
        models=[
            {
                "name": m.name,
                "mean": NONE if m.explained is None else typographic(SCALE.text(m.explained.mean)),
                "band": NONE if m.explained is None else typographic(_ends(m.explained)),
                "rule": m.text,
            }
            for m in found.models
        ],
        steps=[
            {"what": s.what, "term": s.term, "z": typographic(f"{s.z:.1f}") if s.z else "",
             "p": f"{s.p:.2g}" if s.p < 1 else "", "rule": ", ".join(t.label for t in s.terms)}
            for s in found.steps
        ],
        figures=drawn, band=BAND, level=f"{100 * LEVEL:g} %", facts=facts(found),
        notes=found.notes,
        settings=", ".join(f"{name} {value}" for name, value in found.given.items()),
    )  # fmt: skip


def _term_row(found: Inference, index: int) -> dict[str, str]:
    each = found.terms[index]
    return {
        "label": each.term.label,
        "name": each.term.name,
        "theta": typographic(f"{each.theta:.4g}"),
        "interval": typographic(f"{each.low:.4g} to {each.high:.4g}"),
        "kept": f"{100 * each.kept:.0f} %",
        "without": NONE if each.without is None else f"{100 * each.without.mean:.1f}",
        "certain": "yes" if each.is_certain else "no",
    }


def _figures(found: Inference) -> Mapping[str, tuple[Figure, str]]:
    shown = {}
    if found.terms:
        bands = {t.term.label: Band(t.theta, t.low, t.high, percent=False) for t in found.terms}
        shown["theta"] = (
            whiskers(bands, x="coefficient θ", scale=THETA, zero=True),
            f"Coefficients with their {100 * LEVEL:g} % intervals.",
        )
    models = {m.name: _drawable(m.explained) for m in found.models if m.explained is not None}
    if models:
        shown["models"] = (
            whiskers(models, x=f"held-out {SCALE.axis}", scale=SCALE, mark=next(iter(models)),
                     zero=True),
            f"Deviance explained on held-out data against no plasticity: mean and {BAND}.",
        )  # fmt: skip
    return shown


def _drawable(band: Band) -> Band:
    low = band.low if math.isfinite(band.low) else band.mean
    high = band.high if math.isfinite(band.low) else band.mean
    return replace(band, low=low, high=high)
