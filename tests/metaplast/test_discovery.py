"""Whole discoveries in miniature: stages, selection, baselines, and continuing after a kill."""

import itertools
import json
import shutil
from dataclasses import replace

import pytest
import torch
from support import Clouds, assert_is_one_sentence, essence

from metaplast.base.errors import UserError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.fits import Fit
from metaplast.discovery.loops import ASKED
from metaplast.discovery.observer import Observer
from metaplast.discovery.refits import EVIDENCE, Refits
from metaplast.discovery.result import REFIT, SEARCH, trial
from metaplast.discovery.run import CONFIG, Discovery, write_config
from metaplast.discovery.stages import CHECKPOINT, Stages
from metaplast.meta.standstill import StandstillError
from metaplast.rules.rule import Rule
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.coefficients import Coefficients
from metaplast.watch import stages_in_words

TINY = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 8, "meta_batch": 2,
    "refit": 4, "refit_batch": 2, "look": 4, "validation": 4, "test_episodes": 4,
    "dataset": "digits", "engine": "fused",
}  # fmt: skip
SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")


class Watcher:
    """Counts what it is shown; may copy the run's folder after given records, or stop the run."""

    def __init__(self, source=None, copies=None, stop_after=None):
        self.source, self.copies, self.stop_after = source, copies or {}, stop_after
        self.records, self.tests, self.begun, self.result = [], [], 0, None

    def begin(self, discovery):
        self.begun += 1

    def record(self, loop, record):
        self.records.append(record)
        if len(self.records) in self.copies:
            shutil.copytree(self.source, self.copies[len(self.records)])
        if len(self.records) == self.stop_after:
            raise KeyboardInterrupt

    def tested(self, name, episodes):
        self.tests.append((name, episodes))

    def finish(self, result):
        self.result = result


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("theta", ["shared", "per-layer"])
def test_a_run_killed_anywhere_goes_on_bit_for_bit(theta, folder, tmp_path):
    config = DiscoveryConfig(terms="error_hebbian,error_error,oja", theta=theta, l1=0.0, **TINY)
    write_config(folder, config)
    # 4 steps of search, 4 of the first refit, 2 of each trial of the selection, then 4 of each
    # baseline: killed early and in every stage.
    copies = {k: tmp_path / f"killed{k}" for k in (1, 3, 4, 5, 7, 9, 12, 15)}
    watcher = Watcher(folder, copies)
    whole = discover(config, folder=folder, observers=[watcher], checkpoint_seconds=0.0)
    stages = [record.stage for record in whole.history]
    assert stages[:8] == ["search"] * 4 + ["refit"] * 4
    trials = [stage for stage in stages if stage.startswith("select")]
    assert len(trials) >= 2, "at least one round of the selection"
    assert sorted(stages[8:]) == ["backprop"] * 4 + ["feedback_alignment"] * 4 + sorted(trials)
    for count, killed in copies.items():
        again = Watcher()
        resumed = Discovery.resume(killed, observers=[again]).run()
        assert essence(resumed) == essence(whole)
        # Of the steps before the kill, all but the last were on disk.
        assert len(again.records) == len(whole.history) - (count - 1)


@pytest.mark.slow
def test_an_interrupt_keeps_everything_computed(folder):
    config = DiscoveryConfig(terms="error_hebbian,oja", l1=0.0, **TINY)
    write_config(folder, config)
    with pytest.raises(KeyboardInterrupt):
        discover(config, folder=folder, observers=[Watcher(stop_after=3)])
    discovery = Discovery.resume(folder)
    assert discovery.stages.done == {"search": 3 * config.meta_batch}
    assert essence(discovery.run()) == essence(discover(config))


def test_a_finished_run_resumes_to_the_same_result(folder):
    config = DiscoveryConfig(terms="error_hebbian", **TINY)
    write_config(folder, config)
    whole = discover(config, folder=folder)
    watcher = Watcher()
    assert essence(Discovery.resume(folder, observers=[watcher]).run()) == essence(whole)
    assert watcher.records == []


@pytest.mark.slow
def test_the_seed_decides_everything():
    config = DiscoveryConfig(terms="bio", **TINY)
    assert essence(discover(config)) == essence(discover(config))
    other = discover(DiscoveryConfig(terms="bio", seed=1, **TINY))
    assert other.rule != discover(config).rule


@pytest.mark.slow
@pytest.mark.parametrize("terms", ["bio", "local_plastic", "feedback_alignment"])
def test_known_rules_are_neither_pruned_nor_refitted(terms):
    config = DiscoveryConfig(terms=terms, threshold=0.999, **TINY)
    result = discover(config, split=SPLIT)
    assert result.kept == tuple(term.name for term in config.choice.terms)
    assert "refit" not in {record.stage for record in result.history}
    assert result.rule.theta == result.searched.theta


def test_a_pool_is_pruned_and_refitted():
    config = DiscoveryConfig(terms="all", threshold=0.5, **TINY)
    result = discover(config, split=SPLIT)
    sizes = {
        name: max(abs(t) / s for t, s in zip(_list(theta), result.scale[name], strict=True))
        for name, theta in result.searched.coefficients.items()
    }
    largest = max(sizes.values())
    candidates = {name for name, size in sizes.items() if size > 0.5 * largest}
    assert 0 < len(candidates) < 10
    refit = [record for record in result.history if record.stage == "refit"]
    assert len(refit) == 4  # The first refit takes twice the tasks of the others.
    assert set(refit[0].theta) == candidates
    assert set(result.kept) <= candidates
    start = {name: result.searched.coefficients[name] for name in candidates}
    assert {name: value[0] for name, value in refit[0].theta.items()} == pytest.approx(start)


@pytest.mark.slow
def test_the_refit_meets_tasks_of_its_own():
    discovery = Discovery(DiscoveryConfig(terms="oja,error_hebbian", l1=0.0, **TINY), split=SPLIT)
    discovery.run()
    first = {
        name: loop.problem(0, 2, loop.theta).episodes.support_x
        for name, loop in discovery.stages.loops.items()
    }
    assert not torch.equal(first["refit"], first["search"])
    for baseline in ("backprop", "feedback_alignment"):
        assert torch.equal(first[baseline], first["search"])


def test_refits_share_their_tasks_if_they_start_from_the_same_fit():
    """Refits from smaller fits have other tasks: a rule would overfit repeated ones."""
    discovery = Discovery(
        DiscoveryConfig(terms="error_hebbian,error_error,oja,activity_error", **TINY), split=SPLIT
    )
    search = discovery.stages.run(SEARCH, discovery._search)
    refits = Refits(discovery._loops, search)
    start = refits.start([0, 1, 2, 3])
    assert len(start.kept) == 4
    smaller = refits.without(start, [3], start)
    groups = [
        [REFIT],
        [trial(1, f"without {search.learner.terms[3].name}")],
        [
            trial(2, "as it is"),
            trial(3, f"without {search.learner.terms[0].name}"),
            trial(4, f"with {search.learner.terms[3].name}"),
        ],
    ]
    refits.again(smaller)
    refits.without(smaller, [0], smaller)
    # If a coefficient becomes zero in the refit, its term is left out of the comparison.
    refits.put_back(smaller.only(smaller.kept[:2]), 3)
    loops = discovery.stages.loops
    first = [
        [loops[name].problem(0, 2, loops[name].theta).episodes.support_x for name in group]
        for group in groups
    ]
    assert len(smaller.kept) == 3
    assert all(torch.equal(first[2][0], each) for each in first[2])
    for one, other in itertools.combinations(first, 2):
        assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    ("sizes", "rival"),
    [
        ({"oja": 3.0, "activity_error": 2.0, "error_error": 1.0}, "oja"),
        ({"oja": -3.0, "activity_error": -4.0, "error_error": 1.0}, "activity_error"),
        # The gradient supports the term itself at least as well.
        ({"oja": 3.0, "activity_error": 2.0, "error_error": -5.0}, None),
        # Decay may not become an amplification.
        ({"decay": 9.0, "oja": 3.0, "error_error": 1.0}, "oja"),
        ({"decay": 9.0, "error_error": 1.0}, None),
        # Below the bar of the penalty.
        ({"oja": 1e-3, "error_error": 0.0}, None),
    ],
)
def test_the_rival_of_a_term_is_the_one_that_the_gradient_supports_better(sizes, rival):
    terms = "error_hebbian,error_error,oja,activity_error,decay"
    discovery = Discovery(DiscoveryConfig(terms=terms, **TINY), split=SPLIT)
    search = discovery._search()
    names = [term.name for term in search.learner.terms]
    noise = torch.tensor([1.0, -1.0]).repeat(32)[:, None]
    means = torch.tensor([sizes.get(name, 0.0) for name in names])
    search.evidence = lambda *_: means + noise
    place = names.index("error_error")
    kept = [k for k, name in enumerate(names) if name == "error_hebbian"]
    theta = Coefficients(("error_hebbian",), torch.ones(1))
    found = Refits(discovery._loops, search).rival(Fit(tuple(kept), theta, torch.ones(4)), place)
    assert (None if found is None else names[found]) == rival


def test_a_rule_with_every_term_has_no_rivals_and_asks_no_gradient():
    discovery = Discovery(DiscoveryConfig(terms="error_hebbian,oja", **TINY), split=SPLIT)
    search = discovery._search()
    search.evidence = None
    without = Fit((0,), Coefficients(("error_hebbian",), torch.ones(1)), torch.ones(4))
    assert Refits(discovery._loops, search).rival(without, 1) is None


def test_observers_are_told_of_every_task_whose_gradient_is_asked():
    told = []

    class Watcher(Observer):
        def tested(self, name, episodes):
            told.append((name, episodes))

    config = DiscoveryConfig(terms="error_hebbian,error_error,oja", **TINY)
    discovery = Discovery(config, split=SPLIT, observers=[Watcher()])
    with discovery._ready():
        theta = Coefficients(("error_hebbian",), torch.full((1,), 0.01))
        Refits(discovery._loops, discovery._search()).worth_trying(Fit((0,), theta, torch.ones(4)))
    batch, steps = config.meta_batch, EVIDENCE * config.bars.look
    assert told == [(ASKED, batch)] * steps


def _list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.slow
@pytest.mark.parametrize("theta", ["shared", "per-layer"])
def test_no_term_may_survive(theta):
    config = DiscoveryConfig(terms="error_error,oja", theta=theta, l1=1e6, **TINY)
    result = discover(config, split=SPLIT)
    assert result.kept == ()
    assert str(result.rule) == "ΔWₗ = 0"
    assert len(result.heldout["discovered"].score) == 4


@pytest.mark.slow
@pytest.mark.parametrize(("theta", "layers"), [("shared", 1), ("per-layer", 2)])
def test_baselines_have_the_rules_freedom(theta, layers):
    result = discover(DiscoveryConfig(terms="error_hebbian,oja", theta=theta, **TINY), split=SPLIT)
    assert set(result.heldout) == {"discovered", "feedback_alignment", "backprop"}
    for stage in ("backprop", "feedback_alignment"):
        records = [record for record in result.history if record.stage == stage]
        assert len(records) == 4, "as many tasks as the search"
        assert set(records[0].theta) == {"error_hebbian"}
        assert all(len(record.theta["error_hebbian"]) == layers for record in records)


@pytest.mark.slow
def test_a_pool_is_searched_with_one_theta_and_refitted_per_layer():
    config = DiscoveryConfig(terms="error_hebbian,oja", theta="per-layer", **TINY)
    result = discover(config, split=SPLIT)
    for record in result.history:
        rows = list(zip(*record.theta.values(), strict=True))
        if record.stage == SEARCH:
            assert len(set(rows)) == 1
    assert result.rule.is_per_layer
    assert len(set(result.rule.theta)) > 1


@pytest.mark.slow
def test_per_layer_baselines_learn_a_rate_for_each_layer():
    config = DiscoveryConfig(terms="error_hebbian,oja", theta="per-layer", **TINY)
    history = discover(config, split=SPLIT).history
    for stage in ("backprop", "feedback_alignment"):
        last = [record for record in history if record.stage == stage][-1]
        first, second = last.theta["error_hebbian"]
        assert first != second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("terms", "feedback", "expected"),
    [
        ("error_hebbian,oja", "fixed", {"feedback_alignment": "fixed", "backprop": "symmetric"}),
        ("error_hebbian,oja", "direct", {"feedback_alignment": "direct", "backprop": "symmetric"}),
        ("local_plastic", None, {"feedback_alignment": "fixed", "backprop": "symmetric"}),
        (
            "error_hebbian,oja",
            "symmetric-detached",
            {"feedback_alignment": "fixed", "backprop": "symmetric-detached"},
        ),
    ],
    ids=["fixed", "direct", "plastic", "detached"],
)
def test_baselines_use_the_rules_feedback_where_it_fits(terms, feedback, expected):
    discovery = Discovery(DiscoveryConfig(terms=terms, feedback=feedback, **TINY), split=SPLIT)
    discovery.run()
    found = {name: loop.learner.feedback_name for name, loop in discovery.stages.loops.items()}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("baseline", ["feedback_alignment", "backprop"])
def test_a_baseline_that_is_searched_is_not_learned_twice(baseline):
    result = discover(DiscoveryConfig(terms=baseline, **TINY), split=SPLIT)
    assert baseline not in {record.stage for record in result.history}
    assert torch.equal(result.heldout["discovered"].loss, result.heldout[baseline].loss)


def test_a_pool_of_one_term_has_baselines_of_its_own():
    # The search of a pool is penalised, so it is no baseline.
    config = DiscoveryConfig(terms="F0", l1=0.5, **TINY)
    discovery = Discovery(config, split=SPLIT)
    discovery.run()
    loops = discovery.stages.loops
    assert loops["feedback_alignment"].settings.l1 == 0
    assert loops["search"].settings.l1 == 0.5
    assert not torch.equal(loops["feedback_alignment"].theta, loops["search"].theta)


@pytest.mark.slow
def test_a_discovery_goes_on_in_its_folder_and_in_no_other(tmp_path):
    config = DiscoveryConfig(terms="error_hebbian,oja", **TINY)
    first = Discovery.in_folder(config, tmp_path / "run", split=SPLIT).run()
    watcher = Watcher()
    again = Discovery.in_folder(config, tmp_path / "run", split=SPLIT, observers=[watcher]).run()
    assert essence(again) == essence(first)
    assert watcher.records == []
    with pytest.raises(UserError, match="other settings") as caught:
        Discovery.in_folder(replace(config, seed=1), tmp_path / "run")
    assert_is_one_sentence(caught.value)


def test_observers_see_everything_once():
    watcher = Watcher()
    config = DiscoveryConfig(terms="error_hebbian,oja", l1=0.0, **TINY)
    discovery = Discovery(config, observers=[watcher], split=SPLIT)
    result = discovery.run()
    assert watcher.begun == 1
    assert watcher.result is result
    assert tuple(watcher.records) == result.history
    named = {name for name, _ in watcher.tests if not name.startswith(("select", "with"))}
    assert named - {ASKED} == {"discovered", "backprop", "feedback_alignment", "refit", "look"}
    assert {count for name, count in watcher.tests if name != ASKED} == {4}


@pytest.mark.slow
def test_a_trial_in_which_every_episode_diverges_speaks_for_the_term(monkeypatch):
    original = Stages.run

    def stage(self, name, make, *judged):
        if name.endswith("without oja"):
            raise StandstillError("every episode of the last 50 outer steps diverged.")
        return original(self, name, make, *judged)

    monkeypatch.setattr(Stages, "run", stage)
    config = DiscoveryConfig(terms="error_hebbian,oja", l1=0.0, **TINY | {"validation": 40})
    result = discover(config, split=SPLIT)
    assert "oja" in result.kept
    monkeypatch.setattr(
        Stages, "run", lambda self, _, make, *rest: stage(self, "without oja", make)
    )
    with pytest.raises(UserError, match="diverged"):
        discover(config, split=SPLIT)


@pytest.mark.slow
def test_if_everything_diverges_without_the_small_terms_all_are_refitted(monkeypatch):
    original = Stages.run

    def stage(self, name, make, *judged):
        if name == "refit":
            raise StandstillError("every episode of the last 50 outer steps diverged.")
        return original(self, name, make, *judged)

    monkeypatch.setattr(Stages, "run", stage)
    # Only the largest coefficient passes the threshold.
    config = DiscoveryConfig(terms="error_hebbian,oja,decay", l1=0.0, threshold=0.999, **TINY)
    result = discover(config, split=SPLIT)
    first, *_ = result.tried
    assert first.stage == "select 1: every term"
    assert {"error_hebbian", "oja"} <= set(first.terms)
    assert stages_in_words.training(first.stage, 3) == "refitting every term, 1 of 4"
    # If nothing was left out, nothing can be brought back.
    with pytest.raises(UserError, match="diverged"):
        discover(replace(config, threshold=0.0), split=SPLIT)


def test_the_rule_remembers_where_it_came_from(tmp_path):
    result = discover(DiscoveryConfig(terms="bio", **TINY))
    result.rule.save(tmp_path / "rule.json")
    provenance = Rule.load(tmp_path / "rule.json").provenance
    assert provenance["dataset"] == "digits"
    assert provenance["widths"] == [64, 5, 10]
    assert {"metaplast", "torch", "python"} <= set(provenance["versions"])
    assert Rule.load(tmp_path / "rule.json") == result.rule


# --- runs that cannot be resumed ---


def no_config(folder):
    (folder / CONFIG).unlink()


def foreign_config(folder):
    (folder / CONFIG).write_text('{"name": "other"}')


def list_config(folder):
    (folder / CONFIG).write_text("[]")


def cut_config(folder):
    (folder / CONFIG).write_text((folder / CONFIG).read_text()[:40])


def newer_config(folder):
    data = json.loads((folder / CONFIG).read_text())
    data["config"]["novelty"] = 1
    (folder / CONFIG).write_text(json.dumps(data))


def misfit_config(folder):
    data = json.loads((folder / CONFIG).read_text())
    data["config"]["hidden"] = "wide"
    (folder / CONFIG).write_text(json.dumps(data))


def cut_checkpoint(folder):
    (folder / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:100])


def empty_checkpoint(folder):
    from metaplast.base.checkpoint import save_checkpoint

    save_checkpoint(folder / CHECKPOINT, {})


def other_checkpoint(folder):
    from metaplast.base.checkpoint import save_checkpoint

    save_checkpoint(folder / CHECKPOINT, {"stages": {"search": {"u": 1}}, "seconds": 1.0})


SPOILERS = [
    no_config, foreign_config, list_config, cut_config, newer_config, misfit_config,
    cut_checkpoint, empty_checkpoint, other_checkpoint,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_a_damaged_run_is_refused_in_one_sentence(spoil, folder):
    config = DiscoveryConfig(terms="error_hebbian", **TINY)
    write_config(folder, config)
    with pytest.raises(KeyboardInterrupt):
        discover(config, folder=folder, split=SPLIT, observers=[Watcher(stop_after=1)])
    spoil(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError) as caught:
        Discovery.resume(folder, split=SPLIT).run()
    assert_is_one_sentence(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("terms", ["bio", "F0,F2"])
def test_the_rule_alone_is_that_of_a_whole_run(terms, tmp_path):
    config = DiscoveryConfig(terms=terms, **TINY)
    whole = discover(config, split=SPLIT)
    watcher = Watcher()
    found = Discovery(config, split=SPLIT, folder=tmp_path, observers=[watcher]).find()
    assert found.coefficients == whole.rule.coefficients
    assert "heldout_accuracy" not in found.provenance
    assert not {record.stage for record in watcher.records} & {"backprop", "feedback_alignment"}
    # Its folder is that of a run, which can continue with the test.
    again = Discovery.resume(tmp_path, split=SPLIT).run()
    assert again.heldout["discovered"].band == whole.heldout["discovered"].band
