"""Oja's rule compared with feedback alignment, with the outer loop chosen on separate seeds."""

from __future__ import annotations

from functools import partial

from metaplast.reproduce.experiment import Experiment
from rule_library.experiments.oja import claims, draw
from rule_library.experiments.shared import BP, FA, LOOPS, A, learned

_OJA = learned("oja_steady", "oja", LOOPS)

oja_steady = Experiment(
    name="oja-steady",
    title="Oja's rule compared with feedback alignment, with the outer loop chosen",
    source=f"{A}; the outer loop is ours",
    text="As `oja`, but with the outer loop that does best on separate seeds.",
    variants=(FA, _OJA, BP),
    claims=claims(_OJA.name, "; the outer loop is ours"),
    draw=partial(draw, variant=_OJA.name),
)
