"""eHebb: Hebbian learning of the errors."""

from __future__ import annotations

from functools import partial

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BIO,
    BP,
    EHEBB,
    FA,
    OJA,
    A,
    ahead,
    over_layers,
    overview,
)  # fmt: skip

_SOURCE = A


ehebb = Experiment(
    name="ehebb",
    title="eHebb: the error-Hebbian and the error-error term",
    source=_SOURCE,
    text="With fixed random feedback, the term −e_ℓ e_ℓ₋₁ᵀ with a negative coefficient aligns the errors fed back "
    "with backprop's errors. Runs of Oja (without the error-error term) can collapse (see `oja`); the angles of such a run mean little.",
    variants=(FA, EHEBB, OJA, BIO, BP),
    claims=(
        Claim("eHebb is well above FA", _SOURCE, ahead("ehebb", "feedback_alignment"), 10, unit="points"),
        Claim("bio is above eHebb", _SOURCE, ahead("bio", "ehebb"), 0, unit="points"),
        Claim(
            "the coefficient of e_ℓ e_ℓ₋₁ᵀ in the rule is positive (θ_2 of the table negative)",
            f"{_SOURCE}, inferred",
            lambda table: -table.series("ehebb", "theta_error_error").last(), 0,
        ),
        Claim(
            "eHebb aligns the errors far better than Oja: difference of the mean angles",
            _SOURCE,
            lambda table: over_layers(table, "oja", "angle") - over_layers(table, "ehebb", "angle"),
            10, unit="°",
        ),
    ),
    draw=partial(overview, variant="ehebb"),
)  # fmt: skip
