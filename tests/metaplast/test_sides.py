"""Which side of a split is sampled, and when: the held-out side only for the final test."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
from sides import Side, Sources
from support import Clouds, named, seeded

from metaplast.batch_jobs.sweep import candidates, judge, recommend
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery, Observer
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSplit

TINY = DiscoveryConfig(
    terms="error_hebbian,error_error,oja", hidden=(5,), episodes=8, meta_batch=2, refit=4,
    refit_batch=2, validation=10, test_episodes=4, l1=0.0, engine="fused", dtype="float64",
)  # fmt: skip
FINAL = {
    "pool": TINY,
    "known rule": replace(TINY, terms="bio"),
    "no refit": replace(TINY, refit=0),
}


class Watch(Observer):
    """Adds each step and each test of a discovery to the log of the sides."""

    def __init__(self, log):
        self.log = log

    def record(self, loop, record):
        self.log.append(("step", record.stage))

    def tested(self, name, episodes):
        self.log.append(("tested", name))


@pytest.mark.parametrize("case", FINAL)
def test_the_held_out_side_is_asked_for_the_final_test_and_for_nothing_else(case):
    sources = Sources()
    log = sources.log
    split = sources.open("clouds", None)
    result = Discovery(FINAL[case], split=split, observers=[Watch(log)]).run()
    final = {*result.heldout, *(f"without {name}" for name in result.without)}
    final |= {f"with {name}" for name in result.added}
    assert (len(final) > 3) == (case == "pool")
    for asked, said in itertools.pairwise(log):
        if asked[0] in ("train", "test"):
            is_final = said[0] == "tested" and said[1] in final
            assert asked[0] == ("test" if is_final else "train"), said
    first = sources.sides.index("test")
    assert "step" not in sources.sides[first:], "nothing is learned after the first look"
    tested = {said[1] for asked, said in itertools.pairwise(log) if asked[0] == "test"}
    assert tested == final


@pytest.mark.slow
def test_search_selection_and_test_meet_different_tasks():
    sources, watch = Sources(), []
    discovery = Discovery(TINY, split=sources.open("clouds", None), observers=[Watch(sources.log)])
    discovery.run()
    for asked, said in itertools.pairwise(sources.log):
        if asked[0] in ("train", "test"):
            kind = said[0] if said[0] != "step" else f"step of {said[1]}"
            watch.append((asked[0], kind, asked[1]))
    searched = {seed for _, kind, seed in watch if kind == "step of search"}
    validated = {seed for side, kind, seed in watch if side == "train" and kind == "tested"}
    tested = {seed for side, _, seed in watch if side == "test"}
    assert searched
    assert validated
    assert tested
    assert not searched & validated
    assert not tested & (searched | validated)


@pytest.mark.slow
def test_what_is_planted_is_looked_at_after_the_run_alone():
    class Sealed:
        """A rule that fails when it is used."""

        def __getattribute__(self, name):
            raise AssertionError(f"the planted rule was asked for {name}")

    split = replace(Sources().open("clouds", None), planted=Sealed())
    result = Discovery(TINY, split=split).run()
    assert result.kept
    with pytest.raises(AssertionError, match="the planted rule"):
        _ = result.recovery.is_recovered


def test_planting_keeps_the_sides_apart(monkeypatch):
    sources = Sources()
    monkeypatch.setattr("episodes.planted.open_source", partial(sources.open, inputs=6))
    split = open_source("planted:F0=0.02", EpisodeRequest())
    bound = split.bind(FullyConnected((6, 5, 3)))
    draw = seeded()
    assert "test" not in sources.sides, "the planted rule is drawn on the meta-training side"
    for side in ("train", "test"):
        sources.log.clear()
        getattr(bound, side).sample(2, draw)
        assert sources.sides == [side]


# --- a sweep ---


@pytest.fixture(scope="module")
def result():
    split = EpisodeSplit(Clouds(), Clouds(), "images", 6, 3, "clouds")
    return Discovery(replace(TINY, seed=7), split=split).run()


def judged(result, monkeypatch, seed=0):
    sources = Sources()
    monkeypatch.setattr("metaplast.discovery.parts.open_source", sources.open)
    return judge(result, seed=seed)["judged"], sources


def test_a_sweep_judges_rules_on_the_meta_training_side_of_its_own_split(result, monkeypatch):
    found, sources = judged(result, monkeypatch)
    assert len(found["loss"]) == len(found["score"]) == TINY.validation
    assert set(sources.sides) == {"train"}
    # The split is made with the seed of the sweep, not with the seed of the run.
    assert [request.seed for request in sources.requests] == [0]


@pytest.mark.slow
def test_a_sweep_judges_all_its_runs_on_the_same_tasks_that_no_run_learned_from(
    result, monkeypatch
):
    _, sources = judged(result, monkeypatch)
    other = replace(result, config=replace(result.config, seed=3, l1=0.1))
    assert judged(other, monkeypatch)[1].log == sources.log
    own = Sources()
    split = own.open("clouds", None)
    Discovery(replace(TINY, seed=0), split=split).run()
    assert not sources.seeds("train") & (own.seeds("train") | own.seeds("test"))


def test_the_recommended_rule_does_not_depend_on_held_out_accuracy():
    from test_sweep import RUNS

    chosen = recommend(candidates(RUNS)).best
    for best in range(len(RUNS)):
        runs = [
            replace(
                run,
                summary={
                    **run.summary,
                    "heldout": {
                        name: {**test, "mean": float(index == best)}
                        for name, test in run.summary["heldout"].items()
                    },
                },
            )
            for index, run in enumerate(RUNS)
        ]
        assert recommend(candidates(runs)).best.name == chosen.name


def test_a_log_of_sides_tells_them_apart():
    log = []
    learner = Learner.on_stack(FullyConnected((6, 5, 3)), "fixed", named("oja"))
    draw = seeded(1)
    batch = Side("train", log).sample(2, draw)
    assert batch.support_x.shape[-1] == learner.network.widths[0]
    assert log == [("train", 1)]
