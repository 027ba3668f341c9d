"""What lands in TensorBoard, read back with TensorBoard's own reader."""

import pytest

from metaplast.config import DiscoveryConfig
from metaplast.discovery import Discovery
from metaplast.tracking import FOLDER, TensorBoard

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

CONFIG = DiscoveryConfig(
    episodes=8, meta_batch=2, refit=4, refit_batch=2, validation=4, test_episodes=4,
    hidden=(12, 8), shots=8, queries=4, engine="batched",
    terms="error_hebbian,error_error,oja,decay",
)  # fmt: skip


def read(folder):
    reader = event_accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return reader


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    result = Discovery(CONFIG, observers=(TensorBoard(folder),)).run()
    return folder / FOLDER, result


def test_theta_of_each_term_is_a_curve_that_equals_the_history(tracked):
    folder, result = tracked
    for term in CONFIG.choice.terms:
        tag = f"theta/{term.name}"
        curve = [event.value for event in read(folder / "terms" / term.name).Scalars(tag)]
        expected = [
            record.theta[term.name][0]
            for record in result.history
            if record.stage in ("search", "refit") and term.name in record.theta
        ]
        # The last point is the final rule's: zero where selection dropped the term.
        expected.append(result.rule.coefficients.get(term.name, 0.0))
        assert curve == pytest.approx(expected, rel=1e-6)


def test_the_refit_follows_the_search_on_the_episode_axis(tracked):
    steps = [event.step for event in read(tracked[0] / "discovered").Scalars("meta/accuracy")]
    assert steps == [2, 4, 6, 8, 10, 12]


def test_all_charts_are_there(tracked):
    reader = read(tracked[0] / "discovered")
    scalars = set(reader.Tags()["scalars"])
    assert {
        "meta/loss", "meta/accuracy", "rule/l1_norm", "rule/active_terms",
        "guard/non_finite_episodes", "angle/layer_1", "angle/layer_2", "heldout/accuracy",
    } <= scalars  # fmt: skip
    assert "custom_scalars__config__" in reader.Tags()["tensors"]
    assert read(tracked[0] / "backprop").Scalars("heldout/accuracy")


def test_the_equation_is_the_rules(tracked):
    reader = read(tracked[0] / "discovered")
    (event,) = reader.Tensors("rule/equation/text_summary")
    assert event.tensor_proto.string_val[0].decode() == str(tracked[1].rule)
