"""Values of candidates: found where the gradient shows nothing, and only then."""

from dataclasses import replace

import pytest
import torch
from support import Clouds, named
from test_growth import OUTER, SETTINGS, TERMS, Valley, assert_same_search, loop_of, tried

from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.meta.growing_loop import GrowingLoop
from metaplast.meta.probe import probe
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.coefficients import Coefficients

VALUES = replace(SETTINGS, values=(0.3, 1.0), look=8)
FITTED = torch.tensor([0.5, 0.0, -1.0, 0.0], dtype=torch.float64)
FREE = torch.zeros(4, dtype=torch.int64)


class Chaos(Valley):
    """A valley in which the gradient to some terms is noise while their coefficient is zero."""

    def __init__(self, target, hidden, **options):
        super().__init__(target, **options)
        self.hidden, self.values = hidden, []

    def run(self, problem, *, gradient=True):
        if not gradient:
            seen, self.values = len(self.looks), [*self.values, problem]
            outcome = super().run(problem)
            del self.looks[seen:]
            if self.trained and self.trained[-1] is problem:
                self.trained.pop()
            return outcome
        outcome = super().run(problem)
        names = [term.name for term in problem.learner.terms]
        for name in set(self.hidden) & set(names):
            if problem.theta[names.index(name)] == 0:
                sign = torch.tensor([1.0, -1.0] * 2).to(outcome.theta_gradient)
                outcome.theta_gradient[:, names.index(name)] = 50 * sign
        return outcome


class Sites:
    """Runs a valley with the θ of one site, which must be that of all."""

    name = "sites"

    def __init__(self, engine):
        self.engine = engine

    def run(self, problem, *, gradient=True):
        first = problem.theta[0]
        assert torch.equal(problem.theta, first.expand_as(problem.theta))
        outcome = self.engine.run(replace(problem, theta=first), gradient=gradient)
        each = outcome.theta_gradient[:, None] / len(problem.theta)
        return replace(outcome, theta_gradient=each.expand(-1, len(problem.theta), -1))


def test_a_term_whose_gradient_is_noise_is_found_by_its_value():
    target = {"error_hebbian": 0.5, "oja": -0.6, "error_error": 0.3}
    engine = Chaos(target, hidden=["oja"])
    loop = loop_of(engine, growth=VALUES)
    loop.run()
    assert tried(loop)[:2] == [("error_error", True), ("oja", True)]
    first, second, *_ = loop.growth.trials
    # One by its gradient, one by the value of the right sign that came nearest.
    assert first.start == 0
    assert second.start == pytest.approx(-float(engine.values[0].theta[0]), rel=0.3)
    assert abs(second.errors) < SETTINGS.errors
    assert loop.theta[[0, 1, 2]].tolist() == pytest.approx([0.5, 0.3, -0.6], abs=0.15)
    blind = loop_of(Chaos(target, hidden=["oja"]), growth=replace(VALUES, values=()))
    blind.run()
    assert tried(blind) == [("error_error", True)]


def test_values_are_tried_on_the_tasks_of_a_look_and_once_for_each_rule():
    engine = Chaos({"error_hebbian": 0.5}, hidden=[])
    loop = loop_of(engine, growth=VALUES)
    loop.run()
    assert tried(loop) == []
    look = engine.looks[-VALUES.look :]
    # Nothing helps, so only the tasks of the first quarter of a look are used, all in one problem.
    first = look[: VALUES.look // 4]
    starts = torch.cat([problem.episodes.support_x for problem in first])
    weights = torch.cat([problem.state.matrices["W1"] for problem in first])
    for problem in engine.values:
        assert torch.equal(problem.episodes.support_x, starts)
        assert torch.equal(problem.state.matrices["W1"], weights)
        assert problem.theta[0] == look[0].theta[0]
        assert len(problem.learner.terms) == 2
    # Four candidates, one of which must not be negative.
    settings = [(p.learner.terms[1].name, float(p.theta[1])) for p in engine.values]
    assert len(set(settings)) == 14
    assert len(settings) == 14
    assert min(value for name, value in settings if name == "decay") > 0


def test_a_candidate_that_looked_better_leaves_the_rule_as_it_was():
    class Mirage(Chaos):
        """Its values help, and training with it harms."""

        def run(self, problem, *, gradient=True):
            outcome = super().run(problem, gradient=gradient)
            names = [term.name for term in problem.learner.terms]
            if gradient and "oja" in names and problem.theta[names.index("oja")] != 0:
                return replace(outcome, loss=outcome.loss + 5, score=outcome.score / 2)
            return outcome

    loop = loop_of(Mirage({"error_hebbian": 0.5, "oja": 0.5}, hidden=["oja"]), growth=VALUES)
    loop.run()
    assert tried(loop) == [("oja", False)]
    assert loop.growth.positions == [0]
    assert torch.equal(loop.theta, loop.growth.fitted)


@pytest.mark.slow
def test_a_search_that_stops_around_its_probe_goes_on_bit_for_bit(tmp_path):
    def fresh():
        return loop_of(
            Chaos({"error_hebbian": 0.5, "oja": 0.6}, hidden=["oja"], noise=0.0), growth=VALUES
        )

    whole, cycle = fresh(), VALUES.cycle
    stops = (cycle - 1, cycle, cycle + 1, 2 * cycle - 1, 2 * cycle)
    while not whole.is_done:
        whole.run_step()
        if whole.progress.step in stops:
            save_checkpoint(tmp_path / f"{whole.progress.step}.pt", whole.state())
    assert tried(whole) == [("oja", True)]
    for stop in stops:
        second = fresh()
        second.restore(load_checkpoint(tmp_path / f"{stop}.pt"))
        second.run()
        assert_same_search(second, whole)


@pytest.mark.slow
def test_a_search_of_an_earlier_version_ends_without_values():
    options = {"target": {"error_hebbian": 0.5, "oja": 0.6}, "traps": ["error_error"]}
    loop = loop_of(Chaos(hidden=["oja"], **options), growth=VALUES)
    for _ in range(VALUES.cycle):
        loop.run_step()
    state = loop.state()
    del state["growth"]["probed"], state["growth"]["evidence"], state["growth"]["joins"]
    (trying,) = state["growth"]["trying"]
    del trying["start"]
    state["growth"]["trying"] = trying
    again = loop_of(Chaos(hidden=["oja"], **options), growth=VALUES)
    again.restore(state)
    again.run()
    assert tried(again) == [("error_error", False)]
    loop.run()
    assert ("oja", True) in tried(loop)


def test_candidates_that_help_at_some_value_enter_one_by_one():
    engine = Chaos({"error_hebbian": 0.5, "oja": -0.6, "decay": 0.5}, hidden=["oja", "decay"])
    loop = loop_of(engine, growth=VALUES)
    loop.run()
    found = [trial for trial in loop.growth.trials if trial.entered]
    assert {trial.term for trial in found} == {"oja", "decay"}
    assert all(trial.start and not trial.tried_with for trial in found)
    assert len({trial.step for trial in found}) == 2


def test_values_are_multiples_in_scaled_units_and_sites_move_together():
    engine = Chaos({"error_hebbian": 0.5}, hidden=[])
    learner = Learner.on_stack(FullyConnected((6, 5, 3)), "fixed", named(*TERMS))
    start = torch.tensor([[0.1, 0, 0, 0, 0]] * 2, dtype=torch.float64)
    scale = torch.tensor([[1.0, 0.5, 0.1, 1.0, 1.0]] * 2, dtype=torch.float64)
    theta = Coefficients(TERMS, start)
    settings = replace(OUTER, scaling="down")
    options = ("search", learner, Clouds(), Sites(engine), settings, theta)
    loop = GrowingLoop(*options, growth=VALUES, scale=scale, tied=True)
    loop.run()
    largest = float(loop.theta[0, 0])
    seen = {
        (problem.learner.terms[1].name, round(float(problem.theta[1]) / largest, 3))
        for problem in engine.values
    }
    for name, unit in (("error_error", 0.5), ("oja", 0.1)):
        values = {value for term, value in seen if term == name}
        assert values == {round(way * size * unit, 3) for way in (1, -1) for size in VALUES.values}


# --- the probe ---


def found(measure, before=None, settings=VALUES, signs=FREE):
    base = torch.stack([torch.full((32,), 0.5), torch.full((32,), -1.0)], dim=1).double()
    before = base if before is None else before

    def on(places):
        return lambda *tried: torch.cat([measure(*tried, place) for place in places])

    return probe(settings, FITTED, before, [1, 3], signs, on)


def rows(score, loss, spread=0.0, tasks=4):
    noise = spread * torch.tensor([1.0, -1.0, 2.0, -2.0])[:tasks].double()
    return torch.stack([score + noise, -(loss + noise)], dim=1)


def test_the_best_value_of_each_term_counts_and_a_better_score_before_a_lower_loss():
    gains = {(1, 0.3): 0.02, (1, 1.0): 0.06, (3, -0.3): 0.04}

    def measure(position, value, place):
        gain = gains.get((position, round(value, 3)), -0.1)
        return rows(0.5 + gain, 1.0 - gain)

    # Multiples of the largest coefficient, 1.
    assert found(measure) == [(1, 1.0), (3, -0.3)]
    by_loss = {(1, 0.3): (0.5, 0.2), (3, 0.3): (0.52, 1.0)}
    assert found(lambda p, v, k: rows(*by_loss.get((p, round(v, 3)), (0.4, 2.0)))) == [
        (3, 0.3), (1, 0.3),
    ]  # fmt: skip


def test_a_gain_within_its_error_or_below_the_least_or_with_a_lower_score_is_none():
    assert found(lambda *_: rows(0.52, 0.9, spread=0.5)) == []
    assert found(lambda *_: rows(0.501, 1.0), settings=replace(VALUES, errors=0.0)) == []
    assert found(lambda *_: rows(0.499, 0.2)) == []
    assert found(lambda *_: rows(0.52, 0.9)) != []


def test_a_sign_that_a_coefficient_must_have_is_kept():
    tried_values = []

    def measure(position, value, place):
        tried_values.append((position, value))
        return rows(0.4, 2.0)

    assert found(measure, signs=torch.tensor([0, 1, 0, -1])) == []
    assert all(value > 0 for position, value in tried_values if position == 1)
    assert all(value < 0 for position, value in tried_values if position == 3)
    assert {position for position, _ in tried_values} == {1, 3}


def test_a_value_that_does_not_look_better_on_the_first_tasks_is_not_measured_further():
    places = []

    def measure(position, value, place):
        places.append(place)
        return rows(0.6, 0.5) if value > 0 else rows(0.4, 2.0)

    assert {position for position, _ in found(measure)} == {1, 3}
    # Each term has two values of each sign.
    assert len(places) == 4 * VALUES.look + 4 * VALUES.look // 4


def test_of_many_candidates_those_are_tried_that_the_gradient_supports_best(monkeypatch):
    monkeypatch.setattr("metaplast.meta.growing_loop.MOST", 2)
    engine = Chaos({"error_hebbian": 0.5}, hidden=["error_error"])
    loop = loop_of(engine, growth=VALUES)
    loop.run()
    errors = loop.growth._evidence[1].abs()
    best = errors[1:].topk(2).indices.add(1).tolist()
    assert loop.growth.likeliest(2) == sorted(best)
    tested = {problem.learner.terms[1].name for problem in engine.values}
    assert tested == {TERMS[k] for k in best}
    assert loop.growth.likeliest(9) == [1, 2, 3, 4]


def test_each_task_is_drawn_once_for_all_values():
    drawn = []

    def on(places):
        drawn.append(list(places))
        return lambda position, value: torch.cat([rows(0.6, 0.5) for _ in places])

    before = torch.tensor([[0.5, -1.0]] * 40).double()
    settings = replace(VALUES, look=10)
    assert len(probe(settings, FITTED, before, [1, 3], FREE, on)) == 2
    assert drawn == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


def test_looks_of_several_lengths_are_joined_by_length():
    """Episodes of different lengths cannot share a tensor; their order stays."""

    class Lengths(Clouds):
        def sample(self, episodes, generator):
            self.steps = int(torch.randint(2, 4, (), generator=generator))
            return super().sample(episodes, generator)

    engine = Chaos({"error_hebbian": 0.5, "oja": -0.6}, hidden=["oja"])
    loop = loop_of(engine, growth=VALUES, sampler=Lengths())
    loop.run()
    assert ("oja", True) in tried(loop)
    assert {problem.episodes.steps for problem in engine.values} == {2, 3}
