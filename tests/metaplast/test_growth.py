"""A rule that grows: which candidates enter, when it ends, and that a stop loses nothing."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from support import Clouds, essence, named

from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.base.plain_data import DataError
from metaplast.discovery import run as run_module
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.run import Discovery
from metaplast.discovery.selection import select
from metaplast.discovery.summary import summary
from metaplast.engines import Outcome
from metaplast.meta.evidence import Evidence
from metaplast.meta.growing_loop import GrowingLoop
from metaplast.meta.growth import Growth
from metaplast.meta.growth_settings import GrowthSettings
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.coefficients import Coefficients

TERMS = ("error_hebbian", "error_error", "oja", "decay", "presynaptic_error")
SETTINGS = GrowthSettings(train=30, look=3, bar=0.03, clip=0.0, least=0.002)
OUTER = OuterSettings(meta_batch=4, meta_lr=0.05, scaling="none", clip=0.0, l1=0.03)


class Valley:
    """Stands in for an engine: the loss is ½‖θ − target‖², and the score falls with the loss.

    Args:
        target: best coefficient of each term by name; zero for the others.
        traps: terms whose gradient promises a gain, although any coefficient but zero harms.
        noise: standard deviation of the gradient between tasks.
    """

    name = "valley"

    def __init__(self, target, traps=(), noise=0.1):
        self.target, self.traps, self.noise = target, traps, noise
        self.looks, self.trained = [], []

    def run(self, problem, *, gradient=True):
        names = [term.name for term in problem.learner.terms]
        count, theta = problem.episodes.episodes, problem.theta
        (self.looks if len(names) == len(TERMS) else self.trained).append(problem)
        target = torch.tensor([self.target.get(name, 0.0) for name in names]).to(theta)
        off = (theta - target).expand(count, -1).clone()
        missing = sum(v**2 for name, v in self.target.items() if name not in names)
        loss = 0.5 * (off.square().sum(1) + missing)
        for trap in self.traps:
            if trap in names:
                place = names.index(trap)
                loss = loss + 10 * theta[place].abs()
                off[:, place] = -2.0
        draw = torch.Generator().manual_seed(len(self.looks) + len(self.trained))
        off += self.noise * torch.randn(off.shape, generator=draw, dtype=off.dtype)
        return Outcome(loss, 1 / (1 + loss), off, problem.state)


def loop_of(
    engine, *, start=(0.1, 0.0, 0.0, 0.0, 0.0), growth=SETTINGS, settings=OUTER, sampler=None,
    **named_options,
):  # fmt: skip
    learner = Learner.on_stack(FullyConnected((6, 5, 3)), "fixed", named(*TERMS))
    theta = Coefficients(TERMS, torch.tensor(start, dtype=torch.float64))
    options = ("search", learner, sampler or Clouds(), engine, settings, theta)
    if not growth:
        return OuterLoop(*options)
    return GrowingLoop(*options, growth=growth, **named_options)


def tried(loop):
    return [(trial.term, trial.entered) for trial in loop.growth.trials]


def test_terms_enter_together_the_steepest_first_and_others_stay_exactly_zero():
    loop = loop_of(Valley({"error_hebbian": 0.5, "error_error": -0.3, "oja": 0.6}))
    loop.run()
    assert tried(loop) == [("oja", True), ("error_error", True)]
    first, second = loop.growth.trials
    assert first.step == second.step == 2 * SETTINGS.cycle - 1
    assert (first.tried_with, second.tried_with) == ("", "oja")
    assert (first.change, first.low, first.high) == (second.change, second.low, second.high)
    # Near the target: the training is short, and the penalty pulls.
    assert loop.theta[:3].tolist() == pytest.approx([0.5, -0.3, 0.6], abs=0.15)
    assert loop.theta[3:].tolist() == [0.0, 0.0]
    active = [record.active for record in loop.progress.history]
    assert active == sorted(active)
    assert active[-1] == 3


def test_no_more_than_tries_enter_together():
    target = {"error_error": -0.3, "oja": 0.6, "decay": 0.4, "presynaptic_error": 0.5}
    loop = loop_of(Valley({"error_hebbian": 0.5, **target}), growth=replace(SETTINGS, tries=2))
    loop.run()
    trials = loop.growth.trials
    assert [trial.term for trial in trials if trial.entered] == [
        "oja", "presynaptic_error", "decay", "error_error"
    ]  # fmt: skip
    assert [trial.tried_with for trial in trials] == ["", "oja", "", "decay"]


@pytest.mark.slow
def test_a_candidate_that_does_not_help_leaves_the_rule_as_it_was():
    target = {"error_hebbian": 0.5, "oja": 0.8}
    without, engine = loop_of(Valley(target)), Valley(target, traps=["error_error"])
    loop = loop_of(engine)
    without.run()
    loop.run()
    # The trap promises most, before and after the only term that helps. Both together do not help.
    trap = ("error_error", False)
    assert tried(loop) == [trap, ("oja", False), trap, ("oja", True), trap]
    assert [t.tried_with for t in loop.growth.trials] == ["", "error_error", "", "", ""]
    # One term, three together, each of the two with the first one, and again the trap.
    sizes = [len(problem.learner.terms) for problem in engine.trained[:: SETTINGS.train]]
    assert sizes == [1, 3, 2, 2, 3]
    assert loop.growth.joined == {2: loop.growth.trials[3].step}
    assert loop.growth.positions == without.growth.positions == [0, 2]
    for trial in loop.growth.trials:
        assert (trial.change > 0) == trial.entered
    # After the last trial, θ is bit for bit what the look before it measured.
    looks = [problem.theta for problem in engine.looks]
    assert torch.equal(loop.theta, looks[-1 - SETTINGS.look])


def test_the_search_ends_after_some_candidates_in_a_row_that_do_not_help():
    engine = Valley({"error_hebbian": 0.5}, traps=TERMS[1:])
    loop = loop_of(engine, growth=replace(SETTINGS, tries=2))
    loop.run()
    # Two together, and then each of them alone.
    assert [entered for _, entered in tried(loop)] == [False] * 4
    assert loop.is_done
    assert loop.progress.step == 4 * SETTINGS.cycle


def test_in_a_look_theta_rests_and_the_tasks_are_those_of_every_look():
    engine = Valley({"error_hebbian": 0.5, "oja": 0.8})
    loop_of(engine).run()
    looks = [engine.looks[k : k + SETTINGS.look] for k in range(0, len(engine.looks), 3)]
    assert len(looks) >= 2
    for look in looks:
        assert all(torch.equal(problem.theta, look[0].theta) for problem in look)
        for one, other in zip(look, looks[0], strict=True):
            assert torch.equal(one.episodes.support_x, other.episodes.support_x)
            assert torch.equal(one.state.weights[0], other.state.weights[0])
    inputs = [p.episodes.support_x for p in looks[0]] + [
        p.episodes.support_x for p in engine.trained
    ]
    assert len({tuple(x.flatten().tolist()) for x in inputs}) == len(inputs)


WAITING = replace(SETTINGS, waiting=frozenset({"oja", "presynaptic_error"}))


def test_candidates_that_wait_are_not_measured_until_no_other_helps():
    target = {"error_hebbian": 0.5, "error_error": -0.3, "oja": 0.5}
    engine = Valley(target)
    loop = loop_of(engine, growth=WAITING)
    loop.run()
    # Oja's rule promises most from the start.
    assert tried(loop) == [("error_error", True), ("oja", True)]
    assert loop.theta[:3].tolist() == pytest.approx([0.5, -0.3, 0.5], abs=0.15)
    # After two looks at three terms, another one follows at once: it measures all.
    kinds = [
        tuple(term.name for term in problem.learner.terms)
        for problem in engine.trained + engine.looks
    ]
    assert kinds.count(("error_hebbian", "error_error", "decay")) == 2 * SETTINGS.look
    assert kinds.count(("error_hebbian", "error_error")) == SETTINGS.train
    assert kinds.count(TERMS) == len(engine.looks) == 2 * SETTINGS.look
    steps = [record.step for record in loop.progress.history]
    assert steps == list(range(3 * SETTINGS.cycle + SETTINGS.look))
    # It measures the rule as it was, on the same tasks.
    same = [p for p in engine.trained if p.learner.terms[-1].name == "decay"][-SETTINGS.look :]
    for old, new in zip(same, engine.looks, strict=False):
        assert old.theta[:2].tolist() == new.theta[:2].tolist()
        assert torch.equal(old.episodes.support_x, new.episodes.support_x)


def test_if_nothing_else_helps_those_that_wait_are_tried():
    loop = loop_of(Valley({"error_hebbian": 0.5, "oja": 0.8}), growth=WAITING)
    loop.run()
    assert tried(loop) == [("oja", True)]
    nothing = loop_of(Valley({"error_hebbian": 0.5}, noise=0.0), growth=WAITING)
    nothing.run()
    assert tried(nothing) == []
    assert nothing.progress.step == SETTINGS.cycle + SETTINGS.look


def test_candidates_that_waited_are_measured_even_if_the_others_use_up_all_trials():
    target = {"error_hebbian": 0.5, "error_error": -0.3, "oja": 0.5, "presynaptic_error": 0.4}
    loop = loop_of(Valley(target), growth=replace(WAITING, most=2))
    loop.run()
    assert tried(loop) == [("error_error", True), ("oja", True)]
    assert loop.growth.done
    assert loop.growth.positions == [0, 1, 2]


def test_a_term_that_the_rule_begins_with_does_not_wait():
    growth = replace(SETTINGS, waiting=frozenset({"error_hebbian", "oja"}))
    loop = loop_of(Valley({"error_hebbian": 0.5, "decay": 0.3}), growth=growth)
    assert loop.growth.measured == [0, 1, 3, 4]
    loop.run()
    assert tried(loop)[0] == ("decay", True)


def test_values_of_candidates_that_wait_are_not_tried():
    growth = replace(WAITING, values=(0.5,))
    measured = []
    engine = Valley({"error_hebbian": 0.5, "error_error": -0.3})
    run = engine.run

    def watched(problem, *, gradient=True):
        if not gradient:
            measured.append((problem.learner.terms[-1].name, loop.growth.measured))
        return run(problem, gradient=gradient)

    engine.run = watched
    loop = loop_of(engine, growth=growth)
    loop.run()
    early = {name for name, open_now in measured if len(open_now) < len(TERMS)}
    late = {name for name, open_now in measured if len(open_now) == len(TERMS)}
    assert early == {"decay"}
    assert late == {"oja", "decay", "presynaptic_error"}


def test_coefficients_shrink_in_chaotic_training_but_never_in_a_look():
    engine = Valley({"error_hebbian": 0.5}, noise=1e6)
    loop = loop_of(engine, shrinks=True)
    for _ in range(SETTINGS.cycle):
        loop.run_step()
    shrunk = [record.shrunk for record in loop.progress.history]
    # The bar is the first loss, so the first step has none.
    assert all(shrunk[1 : SETTINGS.train])
    assert not any(shrunk[SETTINGS.train :])
    looks = {tuple(problem.theta.tolist()) for problem in engine.looks}
    assert len(looks) == 1
    assert len(loop.growth.before) == SETTINGS.look * OUTER.meta_batch


def test_training_sees_the_active_terms_alone():
    engine = Valley({"error_hebbian": 0.5, "oja": 0.8})
    loop = loop_of(engine)
    loop.run()
    history = loop.progress.history
    training = [record for record in history if loop.growth.place(record.step) is None]
    for problem, record in zip(engine.trained, training, strict=True):
        names = [term.name for term in problem.learner.terms]
        assert problem.theta.tolist() == [record.theta[name][0] for name in names]
    sizes = [len(problem.learner.terms) for problem in engine.trained]
    assert sizes == sorted(sizes)
    assert set(sizes) == {1, 2}


def test_a_term_that_training_brings_to_zero_leaves():
    marks = torch.tensor([True, False, False]), torch.tensor([False] * 3)
    growth = Growth(SETTINGS, ("a", "b", "c"), *marks)
    first, gradients = (
        torch.tensor([[0.0, -1.0, third]]) + 0.01 * torch.eye(3) for third in (0.0, 0.5)
    )
    growth.see(torch.full((3,), 0.2), torch.ones(3), first)
    growth.conclude(32, torch.tensor([0.5, 0.0, 0.0]))
    growth.advance()
    assert growth.positions == [0, 1]
    growth.see(torch.full((3,), 0.9), torch.ones(3), gradients)
    growth.conclude(65, torch.tensor([0.0, 0.7, 0.0]))
    growth.advance()
    # The third candidate has entered; the first term is out.
    assert growth.positions == [1, 2]


STOPS = (1, 29, 31, 33, 34, 36, 62, 66, 67, 69, 70, 98)


@pytest.mark.slow
@pytest.mark.parametrize("growth", [SETTINGS, WAITING])
def test_a_restored_search_goes_on_bit_for_bit(tmp_path, growth):
    engine = {"target": {"error_hebbian": 0.5, "oja": 0.8}, "traps": ["error_error"], "noise": 0.0}
    whole = loop_of(Valley(**engine), growth=growth)
    while not whole.is_done:
        whole.run_step()
        if whole.progress.step in STOPS:
            save_checkpoint(tmp_path / f"{whole.progress.step}.pt", whole.state())
    for stop in STOPS:
        second = loop_of(Valley(**engine), growth=growth)
        second.restore(load_checkpoint(tmp_path / f"{stop}.pt"))
        assert second.progress.step == stop
        second.run()
        assert_same_search(second, whole)


def test_a_loop_goes_back_to_a_state_in_which_candidates_waited():
    engine = {"target": {"error_hebbian": 0.5, "oja": 0.8}, "noise": 0.0}
    loop = loop_of(Valley(**engine), growth=WAITING)
    loop.run_step()
    early = copy.deepcopy(loop.state())
    loop.run()
    trials, theta = list(loop.growth.trials), loop.theta.clone()
    loop.restore(early)
    assert len(loop.growth.measured) == 3
    loop.run()
    assert loop.growth.trials == trials
    assert torch.equal(loop.theta, theta)


def test_a_candidate_that_training_leaves_at_zero_has_not_entered():
    marks = torch.tensor([True, False, False]), torch.tensor([False] * 3)
    growth = Growth(SETTINGS, ("a", "b", "c"), *marks)
    gradients = torch.tensor([[0.0, -1.0, 0.5]]) + 0.01 * torch.eye(3)
    growth.see(torch.full((3,), 0.2), torch.ones(3), gradients)
    growth.conclude(32, torch.tensor([0.5, 0.0, 0.0]))
    growth.advance()
    growth.see(torch.full((3,), 0.9), torch.ones(3), torch.zeros(3, 3))
    assert growth.conclude(65, torch.tensor([0.5, 0.7, 0.0]))
    assert growth.positions == [0, 1]
    assert [(trial.term, trial.entered) for trial in growth.trials] == [("b", True), ("c", False)]
    assert growth.joined == {1: 65}


def test_what_an_earlier_version_did_not_do_is_not_done_after_a_second_resume_either():
    target = {"error_hebbian": 0.5, "error_error": -0.3, "oja": 0.6, "decay": 0.4}
    early = loop_of(Valley(target), growth=WAITING)
    early.run_step()
    state = early.state()
    del state["growth"]["joins"], state["growth"]["waiting"], state["growth"]["probed"]
    growth = replace(WAITING, values=(0.5,))
    once = loop_of(Valley(target), growth=growth, shrinks=True)
    once.restore(state)
    twice = loop_of(Valley(target), growth=growth, shrinks=True)
    twice.restore(copy.deepcopy(once.state()))
    for loop in (once, twice):
        assert not loop.shrinks
        assert loop.growth.place(1) is None
        assert len(loop.growth.measured) == len(TERMS)
        loop.run()
        assert {trial.tried_with for trial in loop.growth.trials} == {""}
        assert all(trial.start == 0 for trial in loop.growth.trials)
        assert not loop.growth.wants_values
        assert loop.growth.joined == {}
    assert len(once.growth.trials) >= 3
    assert twice.growth.trials == once.growth.trials
    assert torch.equal(twice.theta, once.theta)


def test_a_search_of_an_earlier_version_tries_candidates_one_by_one():
    target = {"error_hebbian": 0.5, "error_error": -0.3, "oja": 0.6}
    loop = loop_of(Valley(target), shrinks=True)
    for _ in range(SETTINGS.cycle):
        loop.run_step()
    state = loop.state()
    growth = state["growth"]
    del growth["joins"]
    growth |= {"queue": growth["queue"][1:], "trying": growth["trying"][0]}
    growth["active"][1] = False
    again = loop_of(Valley(target), shrinks=True)
    again.restore(state)
    assert not again.shrinks
    again.restore(again.state())
    again.run()
    assert [(trial.term, trial.tried_with) for trial in again.growth.trials] == [
        ("oja", ""), ("error_error", "")
    ]  # fmt: skip
    assert again.growth.trials[0].step < again.growth.trials[1].step
    loop.run()
    assert loop.growth.trials[1].tried_with


def test_a_search_of_an_earlier_version_has_no_candidates_that_wait():
    loop = loop_of(Valley({"error_hebbian": 0.5}), growth=WAITING)
    loop.run_step()
    state = loop.state()
    del state["growth"]["waiting"]
    loop.restore(state)
    assert len(loop.growth.measured) == len(TERMS)


def assert_same_search(second, whole):
    assert torch.equal(second.theta, whole.theta)
    assert second.growth.trials == whole.growth.trials
    assert [r.loss for r in second.progress.history] == [r.loss for r in whole.progress.history]


def test_an_interrupt_in_a_decision_leaves_the_state_before_the_step(monkeypatch):
    loop = loop_of(Valley({"error_hebbian": 0.5, "oja": 0.8}))
    for _ in range(SETTINGS.cycle - 1):
        loop.run_step()
    before = copy.deepcopy(loop.state())
    conclude = Growth.conclude

    def interrupted(self, *args):
        conclude(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Growth, "conclude", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run_step()
    after = loop.state()
    assert torch.equal(after["u"], before["u"])
    assert after["step"] == before["step"]
    assert len(after["growth"]["scores"]) == len(before["growth"]["scores"]) == SETTINGS.look - 1
    assert after["growth"]["active"].tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("active", torch.ones(3, dtype=torch.bool)),
        ("active", torch.ones(5)),
        ("done", 1),
        ("trying", {"position": 9, "gradient": 0.0, "errors": 0.0}),
        ("trying", [{"position": 9, "gradient": 0.0, "errors": 0.0}]),
        ("joins", 1),
        ("scores", [torch.tensor([float("nan")])]),
        ("scores", [torch.ones(4)]),
        ("before", torch.ones(12, 3)),
        ("fitted", torch.ones(3)),
        ("gradients", [torch.ones(4, 3)]),
        ("trials", [{"step": 1}]),
        ("skipped", 7),
        ("waiting", 1),
    ],
)
def test_a_damaged_state_is_refused(part, value):
    loop = loop_of(Valley({"error_hebbian": 0.5}))
    loop.run_step()
    state = loop.state()
    state["growth"][part] = value
    with pytest.raises(DataError):
        loop_of(Valley({})).restore(state)


def test_a_state_without_growth_does_not_fit_a_rule_that_grows():
    plain = loop_of(Valley({"error_hebbian": 0.5}), growth=None)
    plain.run_step()
    with pytest.raises(DataError, match="only one of the two"):
        loop_of(Valley({})).restore(plain.state())


# --- evidence ---


def evidence(means, *, tasks=64, spread=1.0, active=(), clip=0.0):
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(tasks, len(means), generator=draw, dtype=torch.float64)
    noise = (noise - noise.mean(0)) / noise.std(0)
    marked = torch.tensor([k in active for k in range(len(means))])
    return Evidence.of(torch.tensor(means) + spread * noise, marked, clip), marked


def positions(found, active, bar=0.03, signed=()):
    signs = torch.tensor([int(k in signed) for k in range(len(active))])
    return [c.position for c in found.candidates(active, signs, bar, 3.0)]


def test_a_candidate_is_several_standard_errors_from_zero():
    # A standard error is 1/8.
    found, active = evidence([0.3, 0.5, -0.9, 2.0], active=[3])
    assert positions(found, active) == [2, 1]
    assert found.errors.tolist() == pytest.approx([2.4, 4.0, -7.2, 16.0], abs=0.3)


def test_the_penalty_is_a_bar():
    found, active = evidence([0.02, 0.04], spread=0.01)
    assert positions(found, active) == [1]
    assert positions(found, active, bar=0.0) == [1, 0]


def test_the_bar_counts_clipped_gradients():
    # A gradient of 0.2 is a fiftieth of a clipped step if the rule's own gradient is 10.
    found, active = evidence([10.0, 0.2], spread=0.01, active=[0], clip=1.0)
    assert found.steady[1] == pytest.approx(0.02, rel=0.01)
    assert positions(found, active) == []


def test_a_coefficient_that_may_not_be_negative_enters_only_upwards():
    found, active = evidence([0.9, -0.8])
    assert positions(found, active, signed=[0]) == [1]
    assert positions(found, active, signed=[0, 1]) == [1]


def test_a_single_task_decides_nothing():
    gradients = 0.1 * torch.randn(64, 1, generator=torch.Generator().manual_seed(0)) + 0.2
    calm = Evidence.of(gradients, torch.tensor([False]), 0.0)
    gradients[5] = -1e6
    wild = Evidence.of(gradients, torch.tensor([False]), 0.0)
    assert float(wild.mean) > 0
    assert float(wild.errors) > 0.5 * float(calm.errors)


def test_of_several_sites_the_strongest_counts():
    draw = torch.Generator().manual_seed(0)
    gradients = 0.1 * torch.randn(64, 2, 3, generator=draw)
    gradients[:, 1, 2] -= 0.5
    found = Evidence.of(gradients, torch.tensor([False] * 3), 0.0)
    assert positions(found, torch.tensor([False] * 3)) == [2]
    assert float(found.mean[2]) == pytest.approx(-0.5, abs=0.05)


def test_equal_gradients_of_all_tasks_are_finite_evidence():
    found = Evidence.of(torch.full((4, 2), 30.0), torch.tensor([True, False]), 1.0)
    assert bool(found.errors.isfinite().all())
    assert positions(found, torch.tensor([True, False])) == [1]


@pytest.mark.parametrize("tasks", [0, 1])
def test_too_few_tasks_say_nothing(tasks):
    found = Evidence.of(torch.ones(tasks, 2), torch.tensor([True, False]), 1.0)
    assert positions(found, torch.tensor([True, False])) == []


# --- a discovery ---


def config(**changes):
    settings = {
        "terms": "error_hebbian,oja,error_error,decay", "entry": 40, "look": 16, "refit": 16,
        "refit_batch": 4, "validation": 8, "test_episodes": 8, "episodes": 8, "hidden": (12,),
        "shots": 6, "queries": 4, "engine": "fused", "meta_lr": 5e-3,
    }  # fmt: skip
    return DiscoveryConfig(**(settings | changes))


def test_only_pools_of_products_grow_unless_the_user_says_so():
    assert DiscoveryConfig(terms="products").growth is not None
    assert DiscoveryConfig(terms="products", entry=0).growth is None
    assert DiscoveryConfig(terms="all").growth is None
    assert DiscoveryConfig(terms="all", entry=80).growth is not None
    assert DiscoveryConfig(terms="bio", entry=80).growth is None
    assert DiscoveryConfig(terms="products", penalty="subgradient").growth is None


def test_a_configuration_keeps_its_identity_unless_growth_was_asked_for():
    plain = DiscoveryConfig(terms="all")
    assert not {"entry", "look"} & plain.to_json().keys()
    for found in (plain, config(), config(entry=0), DiscoveryConfig(terms="products", look=32)):
        assert DiscoveryConfig.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.slow
def test_a_discovery_tells_how_its_rule_grew(tmp_path, monkeypatch):
    passed = {}

    def watched(*options, joined, **named):
        passed.update(joined)
        return select(*options, joined=joined, **named)

    monkeypatch.setattr(run_module, "select", watched)
    result = discover(config(), folder=tmp_path / "run")
    assert result.trials
    steps = {trial.term: trial.step for trial in result.trials if trial.entered}
    assert {result.searched.terms[k].name: step for k, step in passed.items()} == steps
    entered = {trial.term for trial in result.trials if trial.entered}
    assert set(result.kept) <= {"error_hebbian", *entered, *result.added}
    rest = {term.name for term in result.searched.terms} - set(result.kept)
    assert result.errors.keys() | result.added.keys() == rest
    assert not result.errors.keys() & result.added.keys()
    found = summary(result)
    assert [trial["term"] for trial in found["trials"]] == [t.term for t in result.trials]
    assert found["errors"] == result.errors
    # The first refit takes twice the tasks of the others.
    assert (found["tasks"]["refit"], found["tasks"]["backprop"]) == (32, 8)
    search = [record for record in result.history if record.stage == "search"]
    assert found["tasks"]["search"] == search[-1].episodes == 4 * len(search)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theta", "search", "later"), [("shared", (3, 14), (2,)), ("per-layer", (12,), (0,))]
)
def test_a_growing_run_that_is_killed_goes_on_bit_for_bit(theta, search, later, tmp_path):
    """In the training and the looks of the search, at its end, and in a refit."""
    asked = config(theta=theta)
    whole = discover(asked)
    steps = sum(record.stage == "search" for record in whole.history)

    class Stop:
        def __init__(self, after):
            self.left = after

        def record(self, loop, record):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        def begin(self, discovery): ...
        def tested(self, name, episodes): ...
        def finish(self, result): ...

    for after in (*search, *(steps + more for more in later)):
        folder = tmp_path / f"{after}"
        with pytest.raises(KeyboardInterrupt):
            discover(asked, folder=folder, observers=[Stop(after)])
        again = Discovery.resume(folder).run()
        assert essence(again) == essence(whole)
        assert again.trials == whole.trials
        assert again.errors == whole.errors


@pytest.mark.slow
def test_all_layers_move_together_while_a_rule_grows():
    result = discover(config(theta="per-layer"))
    found = [v for each in result.history if each.stage == "search" for v in each.theta.values()]
    assert {len(values) for values in found} == {2}
    assert all(len(set(values)) == 1 for values in found)
