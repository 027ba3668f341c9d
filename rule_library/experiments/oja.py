"""Oja's rule compared with feedback alignment, and its effect on the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.curve import Curve
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BP,
    FA,
    OJA,
    WINDOW,
    A,
    ahead,
    label,
    overview,
    panels,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = A
_ORTHONORMALITY = f"ours: {A} measures it; that Oja lowers it is our reading"


def _loss_below(variant: str) -> Callable[[Table], Numbers]:
    """Return the measure of FA's loss minus a variant's over the last sixth, nats."""

    def measure(table: Table) -> Numbers:
        names = (variant, "feedback_alignment")
        own, fa = (table.series(name, "loss").last(1 / 6) for name in names)
        return fa - own

    return measure


def _decades(table: Table, variant: str) -> Numbers:
    """Return the mean over hidden layers of log10(error with Oja / without it), [seed]."""
    hidden = slice(0, -1)
    logs = [
        np.mean(
            [np.log10(s.last(1 / 6)) for s in table.numbered(name, "orthonormality")[hidden]], 0
        )
        for name in (variant, "feedback_alignment")
    ]
    return np.asarray(logs[0] - logs[1])


def _errors(table: Table, variant: str, layer: int) -> Curve:
    return table.numbered(variant, "orthonormality")[layer].curve(window=WINDOW, median=True)


def draw(table: Table, variant: str = "oja") -> Mapping[str, Figure]:
    """Return the curves of a variant of the rule, and the orthonormality error of each layer."""
    names = ("feedback_alignment", variant)
    layers = range(len(table.numbered(variant, "orthonormality")))
    errors = [
        Panel(
            f"orthonormality error, layer {layer + 1}, median",
            "meta-episodes",
            {label(name): _errors(table, name, layer) for name in names},
            limits=(0.1, 1e5),
            log=True,
        )
        for layer in layers
    ]
    return {**overview(table, variant), "orthonormality": panels(errors)}


def claims(variant: str, note: str = "") -> tuple[Claim, ...]:
    """Return the claims about Oja's rule, for one of its variants."""
    return (
        Claim("Oja raises accuracy above FA's", _SOURCE + note, ahead(variant, "feedback_alignment"), 0, unit="points"),
        Claim("Oja lowers the loss below FA's", _SOURCE + note, _loss_below(variant), 0, unit="nats"),
        Claim(
            "Oja lowers the orthonormality error: mean over hidden layers of log10(with / without)",
            _ORTHONORMALITY + note, lambda table: _decades(table, variant), high=0, unit="decades",
        ),
    )  # fmt: skip


oja = Experiment(
    name="oja",
    title="Oja's rule compared with feedback alignment, and the orthonormality of weights",
    source=_SOURCE,
    text="Oja's rule y_ℓ y_ℓ₋₁ᵀ − y_ℓ y_ℓᵀ W_ℓ is added to feedback alignment. It uses no error; it improves the "
    "forward flow of information. The orthonormality error is ‖z_ℓ − W_ℓ W_ℓᵀ y_ℓ‖² on the query images after each episode. "
    "With the published loop, a single episode that nearly diverges can ruin a run: its gradient is so large that Adam moves θ far away, or hardly moves it "
    "from then on. `oja-steady` is the same experiment with the outer loop chosen on separate seeds.",
    variants=(FA, OJA, BP),
    claims=claims("oja"),
    draw=draw,
)  # fmt: skip
