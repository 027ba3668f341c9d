"""What lands in TensorBoard, read back with TensorBoard's own reader."""

import contextlib
import re
from dataclasses import replace

import pytest
from support import Clouds, Poisoned, Stop

from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.algebra import outer, post, pre, trace
from metaplast.terms.term import Term
from metaplast.watch import tensorboard
from metaplast.watch.tensorboard import COLOURS, FOLDER, TensorBoard, _groups, _layout

pytestmark = pytest.mark.slow  # Its reader takes seconds to load.
event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

CONFIG = DiscoveryConfig(
    episodes=8, meta_batch=2, refit=4, refit_batch=2, look=4, validation=4, test_episodes=4,
    hidden=(12, 8), shots=8, queries=4, engine="fused",
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
    # The first refit takes twice the tasks of the others.
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16]


def test_all_charts_are_there(tracked):
    reader = read(tracked[0] / "discovered")
    scalars = set(reader.Tags()["scalars"])
    assert {
        "meta/loss", "meta/accuracy", "rule/l1_norm", "rule/active_terms",
        "guard/non_finite_episodes", "angle/layer_1", "angle/layer_2", "heldout/accuracy",
    } <= scalars  # fmt: skip
    assert "custom_scalars__config__" in reader.Tags()["tensors"]
    assert read(tracked[0] / "backprop").Scalars("heldout/accuracy")


def test_each_line_of_a_chart_has_its_own_colour(tracked):
    """TensorBoard gives its seven colours in turn to the runs, by their first event."""
    folder, _ = tracked
    files = folder.rglob("events.out.tfevents.*")
    begun = {file.parent: read(file.parent).FirstEventTimestamp() for file in files}
    order = [path.relative_to(folder).as_posix() for path in sorted(begun, key=begun.get)]
    terms = [f"terms/{term.name}" for term in CONFIG.choice.terms]
    assert order == ["discovered", "feedback_alignment", "backprop", *terms]
    assert read(folder / "backprop").Scalars("baseline/error_hebbian")


@pytest.mark.parametrize("count", [1, 7, 8, 10, 56])
@pytest.mark.parametrize("sites", [1, 3])
def test_every_coefficient_is_in_one_chart_of_consecutive_terms(count, sites):
    names = [f"y{i} (x) 1" for i in range(count)]
    layout = _layout(_groups(names), sites, layers=2)
    assert [*layout] == ["theta", "errors"]
    ends = ["/layer_1", "/layer_2", "/layer_3"] if sites == 3 else [""]
    tags = {f"theta/{name}{end}": index for end in ends for index, name in enumerate(names)}
    found = []
    for kind, (pattern,) in layout["theta"].values():
        assert kind == "Multiline"
        shown = [tag for tag in tags if re.search(pattern, tag)]
        places = [tags[tag] for tag in shown]
        assert 0 < len(shown) <= COLOURS
        assert places == [*range(places[0], places[0] + len(places))]
        found += shown
    assert sorted(found) == sorted(tags)
    assert len(layout["theta"]) == sites * -(-count // COLOURS)
    assert len(layout["errors"]) == 2


LARGE = replace(CONFIG, terms="products", entry=4, validation=8)


def curves(folder):
    """Return the last value of each term that has a curve."""
    runs = (folder / FOLDER / "terms").iterdir()
    return {run.name: read(run).Scalars(f"theta/{run.name}")[-1].value for run in runs}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tensorboard, "MOST_SHOWN", 10)
        result = Discovery.in_folder(LARGE, folder, observers=[TensorBoard(folder)]).run()
    return folder, result


def test_a_large_pool_has_curves_only_for_terms_that_the_rule_has_had(large):
    folder, result = large
    shown = [record for record in result.history if record.stage in ("search", "refit")]
    had = {name for record in shown for name, (value,) in record.theta.items() if value}
    assert 1 < len(had) < 16
    final = result.rule.coefficients
    assert curves(folder) == pytest.approx({k: final.get(k, 0.0) for k in had}, rel=1e-6)
    (pattern,) = _layout([], 1, layers=0)["theta"]["coefficients"][1]
    assert all(re.search(pattern, f"theta/{name}") for name in had)


def test_a_large_pool_has_the_same_curves_after_a_resume(large, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "MOST_SHOWN", 10)
    folder, result = large
    failed = [trial.step for trial in result.trials if not trial.entered]
    # Right after candidates failed, and when only the test is left.
    for after in (failed[0] + 1, len(result.history)):
        place = tmp_path / str(after)
        observers = [TensorBoard(place), Stop(after)]
        with pytest.raises(KeyboardInterrupt):
            Discovery.in_folder(LARGE, place, observers=observers).run()
        for writer in observers[0]._writers.values():
            writer.close()
        Discovery.resume(place, observers=[TensorBoard(place)]).run()
        assert curves(place) == pytest.approx(curves(folder), rel=1e-6)


def test_diverged_episodes_are_counted_on_after_a_resume(tmp_path):
    split = EpisodeSplit(
        Poisoned([1]), Clouds(), "classes", inputs=6, outputs=3, description="clouds"
    )
    config = replace(CONFIG, terms="error_hebbian,oja", backtrack=False)
    charts = {"killed": [1, 2, 3, 4, 5], "resumed": [6, 7, 8]}
    # One of two diverges in each of four steps of the search, and in each of four of the refit.
    for part, values in charts.items():
        observers = [TensorBoard(tmp_path / part), *([Stop(5)] if part == "killed" else [])]
        with contextlib.suppress(KeyboardInterrupt):
            Discovery.in_folder(config, tmp_path, split=split, observers=observers).run()
        for writer in observers[0]._writers.values():
            writer.close()
        reader = read(tmp_path / part / FOLDER / "discovered")
        events = reader.Scalars("guard/non_finite_episodes")
        assert [event.value for event in events] == values


def test_the_equation_is_the_rules(tracked):
    reader = read(tracked[0] / "discovered")
    (event,) = reader.Tensors("rule/equation/text_summary")
    assert event.tensor_proto.string_val[0].decode() == str(tracked[1].rule)


def test_learned_time_constants_are_curves_beside_theta(tmp_path):
    slow = Term("slow", -outer(post.error, trace(pre.activity, 3)), "made up")
    config = replace(CONFIG, terms="error_hebbian", engine="auto", refit=0, learn_tau=True, l1=0.0)
    result = Discovery(config, terms=[slow], observers=(TensorBoard(tmp_path),)).run()
    reader = read(tmp_path / FOLDER / "discovered")
    curve = [event.value for event in reader.Scalars("tau/pre.activity_trace_3")]
    taus = [r.taus["pre.activity_trace_3"] for r in result.history if r.stage == "search"]
    assert curve == pytest.approx(taus, rel=1e-6)
    assert curve[-1] != curve[0]
