"""The report of a discovery: one self-contained page, and its figures as files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from metaplast.base.bands import BAND, Band
from metaplast.base.errors import UserError
from metaplast.base.files import write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.discovery.result import DISCOVERED, left_out
from metaplast.report.canvas import inlined, save_figure, svg
from metaplast.report.facts import facts
from metaplast.report.pictures import Picture, pictures
from metaplast.report.rule_picture import rule_svg
from metaplast.report.run import FinishedRun, read_run
from metaplast.report.template import filled_page
from metaplast.rules.notebook import equation_html, mathml, typographic
from metaplast.tasks.source import held_out_word
from metaplast.terms.faded import fades
from metaplast.terms.notation import LATEX
from metaplast.terms.term import Term

PAGE, FIGURES = "report.html", "figures"
# The rule as one picture, to paste into a talk.
RULE_PICTURE = f"{FIGURES}/rule.svg"


def write_report(folder: AnyPath, terms: Iterable[Term] = ()) -> Path:
    """Write report.html and the folder of figures into the folder of a finished run.

    Args:
        folder: the folder of the run.
        terms: your own terms that no installed package offers.

    Returns:
        The path of report.html.

    Raises:
        UserError: if the folder holds no finished run.
    """
    folder = as_path(folder, "folder")
    run = read_run(folder, terms)
    try:
        shown = pictures(run)
        # Drawing takes most of the time, so the page and the files share the drawings.
        drawings = {picture.name: svg(picture.figure, picture.name) for picture in shown}
        page = render(run, shown, drawings)
        drawn = _rule_picture(run)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        # The drawing code reads numbers and names from the files, which may be damaged.
        raise UserError(
            f"{folder} is damaged or was written by another version of metaplast "
            f"({type(error).__name__}: {' '.join(str(error).split()).rstrip('.')[:200]}); do the "
            f"run again."
        ) from error
    for picture in shown:
        save_figure(picture.figure, folder / FIGURES / picture.name, drawings[picture.name])
    write_text(folder / RULE_PICTURE, drawn)
    write_text(folder / PAGE, page)
    return folder / PAGE


def _rule_picture(run: FinishedRun) -> str:
    """Return the rule and its scores as one SVG."""
    scores = {name: run.band("heldout", name) for name in run.summary["heldout"]}
    scores = {DISCOVERED: scores.pop(DISCOVERED), **scores}
    caption = f"{run.scale.name} on {run.summary['test_episodes']} held-out tasks of "
    return rule_svg(run.rule, scores, run.scale, f"{caption}{run.summary['dataset']}, with {BAND}s")


def render(run: FinishedRun, shown: list[Picture], drawings: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        run: the finished run.
        shown: its figures.
        drawings: what `svg` returned for each figure, by name.
    """
    from markupsafe import Markup

    drawn = {
        picture.name: {
            "svg": Markup(inlined(drawings[picture.name], picture.caption)),
            "caption": picture.caption,
            "files": f"{FIGURES}/{picture.name}",
        }
        for picture in shown
    }
    return filled_page(
        "page.html.j2",
        title=run.folder.resolve().name,
        equation=Markup(equation_html(run.rule)),
        plain_equation=str(run.rule),
        rule_picture=RULE_PICTURE,
        rules=[_rule_row(run, name) for name in run.summary["heldout"]],
        lengths=_length_rows(run),
        terms=[_term_row(run, term) for term in run.shown],
        terms_left_out=left_out(len(run.terms) - len(run.shown)),
        trials=[_trial_row(run, trial) for trial in run.summary.get("trials", [])],
        figures=drawn,
        held_out=held_out_word(run.summary["held_out"], run.objective.target_kind),
        score=run.scale.name,
        score_key=run.scale.key,
        change_of_score=run.scale.change_axis,
        loss=run.objective.loss_axis,
        band=BAND,
        per_layer=run.rule.is_per_layer,
        fades=any(map(fades, run.rule.terms)),
        divergences=run.summary["divergences"],
        notices=run.summary.get("notices", []),
        non_finite=run.summary["non_finite_episodes"],
        facts=facts(run),
        command=run.command,
    )


def _rule_row(run: FinishedRun, name: str) -> dict[str, Any]:
    entry, band = run.summary["heldout"][name], run.band("heldout", name)
    loss = entry["loss"]
    return {
        "name": name.replace("_", " "),
        "mean": typographic(run.scale.text(band.mean)),
        "band": typographic(run.scale.interval(band)),
        "loss": "–" if loss is None or not math.isfinite(loss) else f"{loss:.3f}",
        "diverged": entry["non_finite"],
        "found": name == DISCOVERED,
    }


def _length_rows(run: FinishedRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return every rule's score and band for each number of support examples.

    There are no rows if all tasks have the same number.
    """
    found = {name: entry.get("by_steps", {}) for name, entry in run.summary["heldout"].items()}
    rows = []
    for steps in found[DISCOVERED]:
        bands = [Band.from_json(each[steps], steps) for each in found.values()]
        texts = [(run.scale.text(band.mean), run.scale.interval(band)) for band in bands]
        rows.append((steps, [(typographic(mean), typographic(ends)) for mean, ends in texts]))
    return rows


def _term_row(run: FinishedRun, term: Term) -> dict[str, Any]:
    from markupsafe import Markup

    searched, theta = run.searched, run.rule.named_theta
    kept = term.name in theta.names
    return {
        "name": term.name,
        "formula": Markup(mathml(run.final(term).spell(LATEX))),
        "searched": typographic(searched.range_text(term.name)),
        "theta": typographic(theta.text(term.name)) if kept else "–",
        "kept": kept,
        "change": typographic(run.effect(term)),
        "locality": term.locality,
        "citation": term.citation,
    }


def _trial_row(run: FinishedRun, trial: Mapping[str, Any]) -> dict[str, Any]:
    band = Band(trial["change"], trial["low"], trial["high"])
    return {
        "term": trial["term"],
        # Earlier versions tried only the candidates that the gradient supports.
        "by_value": trial.get("start", 0.0) != 0,
        "errors": typographic(f"{trial['errors']:.1f}"),
        # Earlier versions tried candidates one by one.
        "tried_with": trial.get("tried_with", ""),
        "change": typographic(run.scale.change(band)),
        "entered": trial["entered"],
    }
