"""Only the three surviving terms."""

from __future__ import annotations

from functools import partial

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BIO,
    BP,
    FA,
    A,
    ahead,
    overview,
)  # fmt: skip

_SOURCE = f"{A}, inferred: as good as the pool, which comes near BP"


bio = Experiment(
    name="bio",
    title="Only the three surviving terms",
    source=A,
    text="The error-Hebbian term, the error-error term and Oja's rule, meta-learned together without the other seven "
    "and without penalty.",
    variants=(FA, BIO, BP),
    claims=(
        Claim("bio is near BP at the end", _SOURCE, ahead("bio", "backprop"), -10, 10, "points"),
        Claim("bio is far above FA", _SOURCE, ahead("bio", "feedback_alignment"), 20, unit="points"),
    ),
    draw=partial(overview, variant="bio"),
)  # fmt: skip
