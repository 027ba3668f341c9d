"""Each term, planted by itself, is read back by its name: exponents keep their order."""

import os

import pytest

from metaplast.base.errors import UserError
from metaplast.recordings import (
    Design,
    InferenceSettings,
    Layer,
    PlainRule,
    Recording,
    infer,
    simulate,
)
from metaplast.recordings.monomial import taylor

DESIGN = Design(inputs=20, neurons=10, trials=20, steps=50, noise=0.02, reward=True)
POOL = {term.name: term for term in taylor(reward=True)}
# All 81 take half a minute.
SOME = tuple(POOL) if os.environ.get("METAPLAST_ALL_TERMS") else ("xy2w", "x2yw2", "x2y2w2r2")


def recorded(term):
    """Return a recording with the largest coefficient at which weights do not diverge."""
    for theta in (0.5, 0.2, 0.05, 0.02):
        try:
            return simulate(PlainRule((term.to_term(),), (theta,)), Layer(), DESIGN)
        except UserError:
            continue
    raise AssertionError(term.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_a_term_planted_alone_is_found_by_its_name(name):
    recording = Recording.of(recorded(POOL[name]).arrays)
    found = infer(recording, InferenceSettings(terms="taylor-reward"), compare=False)
    assert [each.term.name for each in found.terms] == [name]
