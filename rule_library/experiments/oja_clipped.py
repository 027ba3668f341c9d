"""Oja's rule beside feedback alignment, with clipped meta-gradients."""

from __future__ import annotations

from functools import partial

from metaplast.reproduce.contract import Experiment
from rule_library.experiments.oja import claims, draw
from rule_library.experiments.shared import BP, FA, OJA_CLIPPED, A

oja_clipped = Experiment(
    name="oja-clipped",
    title="Oja's rule beside feedback alignment, meta-gradients clipped",
    source=f"{A}, figs. 7 and 8; clipping is ours",
    text="As `oja`, but the meta-gradient of an episode is clipped to norm 1.",
    variants=(FA, OJA_CLIPPED, BP),
    claims=claims("oja_clipped", "; clipping is ours"),
    draw=partial(draw, variant="oja_clipped"),
)
