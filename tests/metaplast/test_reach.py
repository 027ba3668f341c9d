"""A baseline whose rate still rose when its steps ended is named, one that settled is not."""

import pytest

from metaplast import Discovery, DiscoveryConfig

SMALL = {
    "terms": "feedback_alignment", "dataset": "digits", "hidden": (5,), "ways": 2, "shots": 4,
    "queries": 4, "episodes": 80, "meta_batch": 2, "refit": 0, "validation": 4, "test_episodes": 4,
}  # fmt: skip


def notices(**changes):
    found = Discovery(DiscoveryConfig(**{**SMALL, **changes})).run().notices
    return [line for line in found if "more outer steps" in line]


@pytest.mark.parametrize(
    ("schedule", "way", "step"),
    # With a cosine, it went on in four rounds, each with steps twice as large.
    [("constant", "from 0.001 to 0.001", "1e-05"), ("cosine", "from 0.00241 to 0.00", "8e-05")],
)
def test_a_rate_that_rose_to_the_end_is_named(schedule, way, step):
    (line,) = notices(meta_lr=1e-5, schedule=schedule)
    assert line.startswith("1 of the baselines may need more outer steps; ")
    assert f"the first: backprop, whose error_hebbian went {way}" in line
    assert f"40 steps of {step} allow; raise --meta-lr or --episodes" in line


def test_a_rate_that_settled_is_not():
    assert notices(meta_lr=0.05) == []


@pytest.mark.slow
def test_another_optimizer_and_a_short_trial_are_not_judged():
    assert notices(meta_lr=1e-5, optimizer="SGD") == []
    assert notices(meta_lr=1e-5, episodes=40) == []
