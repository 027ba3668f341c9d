"""Constraints on weights: the set is never left, and the gradient stops where a weight was cut."""

import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from live_memory import LiveMatrices
from support import assert_close, assert_is_one_sentence, matrices_of, named, normal, seeded
from systems.settings import SETTINGS, Setting
from systems.test_contract import problem_of

from metaplast.base.errors import UserError
from metaplast.engines import Problem, get_engine
from metaplast.engines.memory_need import episode_bytes
from metaplast.engines.way_back import WayBack
from metaplast.systems.constrained import Constrained, constrained, unconstrained
from metaplast.systems.constraint import (
    Limits,
    WeightConstraint,
    all_constraints,
    get_constraint,
)
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.algebra import W

WRITTEN = ("none", "nonnegative", "dale", "dale:fraction=0.3,inputs=free", "bounds:-0.1,0.3")
every = pytest.mark.parametrize("text", WRITTEN)
LIMITED = [name for name, setting in SETTINGS.items() if setting.system.limits]
limited = pytest.mark.parametrize("name", LIMITED)
STACK = FullyConnected((5, 4, 4, 3), "tanh")


def refused(call, *given, **options):
    with pytest.raises(UserError) as caught:
        call(*given, **options)
    assert_is_one_sentence(caught.value)
    return str(caught.value)


# --- the constraints themselves ---


def test_every_installed_constraint_is_tested():
    assert {text.partition(":")[0] for text in WRITTEN} == set(all_constraints())


@every
@pytest.mark.parametrize("from_inputs", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 5])
def test_a_constraint_keeps_its_laws(text, from_inputs, columns):
    constraint = get_constraint(text)
    assert get_constraint(constraint.written) == constraint
    assert hash(get_constraint(text)) == hash(constraint)
    assert constraint.summary
    assert constraint.text
    limits = constraint.limits(columns, from_inputs=from_inputs)
    assert len(limits.low) == len(limits.high) == columns
    assert all(low <= high for low, high in zip(limits.low, limits.high, strict=True))
    drawn = normal(2, 3, columns)
    begun = constraint.start(drawn, from_inputs=from_inputs)
    assert limits.holds(begun)
    assert torch.equal(begun, constraint.start(drawn.clone(), from_inputs=from_inputs))
    inside = limits.project(drawn)
    assert limits.holds(inside)
    assert torch.equal(limits.project(inside), inside)
    assert torch.equal(limits.unchanged(drawn), inside == drawn)
    assert limits.holds(torch.full_like(drawn, torch.nan))


@pytest.mark.parametrize("text", WRITTEN[1:])
@pytest.mark.parametrize("from_inputs", [False, True])
@pytest.mark.parametrize("library", ["np", "torch"])
def test_the_code_of_a_constraint_is_the_constraint(text, from_inputs, library):
    constraint, matrix = get_constraint(text), normal(4, 5)
    expected = {
        "projection": constraint.limits(5, from_inputs=from_inputs).project(matrix[None])[0],
        "beginning": constraint.start(matrix[None], from_inputs=from_inputs)[0],
    }
    for name, result in expected.items():
        lines = [line.format(xp=library, place="") for line in getattr(constraint, name)]
        made = {"np": np, "torch": torch}
        exec("def found(W, from_inputs):\n" + "\n".join(f"    {line}" for line in lines), made)
        given = matrix if library == "torch" else matrix.numpy()
        found = made["found"](given, from_inputs)
        assert found.dtype == given.dtype
        assert_close(torch.as_tensor(found), result, 1e-15)


def test_signs_follow_the_presynaptic_neuron():
    """All inputs excite; of five neurons, the first four."""
    system = constrained(FullyConnected((6, 5, 2)), "dale")
    drawn, plain = (s.draw(2, seeded(), torch.float64) for s in (system, unconstrained(system)))
    signs = torch.tensor([1.0, 1, 1, 1, -1]).double()
    assert torch.equal(drawn.matrices["W1"], plain.matrices["W1"].abs())
    assert torch.equal(drawn.matrices["W2"], plain.matrices["W2"].abs() * signs)
    for name in ("B1", "B2"):  # Backward weights are not constrained.
        assert torch.equal(drawn.matrices[name], plain.matrices[name])
    free = constrained(FullyConnected((6, 5, 2)), "dale:inputs=free").draw(
        2, seeded(), torch.float64
    )
    assert torch.equal(free.matrices["W1"], plain.matrices["W1"])
    assert torch.equal(free.matrices["W2"], drawn.matrices["W2"])


def test_no_constraint_leaves_the_system_as_it_is():
    assert constrained(STACK, "none") is STACK
    assert (STACK.limits, STACK.weights) == ({}, "none")
    held = constrained(STACK, "dale:fraction=0.80")
    assert unconstrained(held) is STACK
    assert held.weights == held.spec()["weights"] == "dale"
    assert "weights dale" in held.description
    other = held.with_feedback("symmetric")
    assert (other.weights, other.feedback_name) == ("dale", "symmetric")


def test_prescribed_weights_stay_and_missing_ones_are_drawn():
    system = constrained(STACK, "nonnegative")
    given = State({"W2": -torch.ones(1, 4, 4)})
    found = system.complete(given, 1, seeded(), torch.float32)
    assert torch.equal(found.matrices["W2"], given.matrices["W2"])
    assert (found.matrices["W1"] >= 0).all()


@pytest.mark.parametrize(
    "text",
    ["dael", "dale:", "dale:fraction=2", "dale:fraction=-0.1", "dale:fraction=nan", "dale:0.5",
     "dale:fraction=x", "dale:inputs=mixed", "dale:share=1", "bounds", "bounds:1", "bounds:2,1",
     "bounds:nan,1", "bounds:inf,inf", "bounds:a,b", "nonnegative:1", "none:1", "", 3],
)  # fmt: skip
def test_a_constraint_that_cannot_be_read_is_refused(text):
    refused(get_constraint, text)


# --- learning ---


@limited
def test_weights_stay_in_the_set_after_each_step(name):
    """Some are cut, and the signs of columns never change."""
    setting = SETTINGS[name]
    # With larger changes, there is no fixed point any more.
    problem = problem_of(setting, size=setting.size * (1 if "fixed" in name else 10))
    learner, state, cut = problem.learner, problem.state, 0
    limits = learner.system.limits
    assert set(limits) == {group.name for group in learner.system.groups if group.matrix == W}
    for step in range(5):
        state = learner.step(state, problem.episode_theta, problem.episodes.example(step))
        for key, bounds in limits.items():
            low, high = bounds.tensors(state.matrices[key])
            matrix = state.matrices[key]
            assert ((matrix >= low) & (matrix <= high)).all()
            cut += int(((matrix == low) | (matrix == high)).sum())
    assert cut


def one_weight(theta, weight=0.5, steps=1):
    """Return a network of one weight that shrinks by (1 − θ) in each step, kept non-negative."""
    learner = Learner(constrained(FullyConnected((1, 2)), "nonnegative"), named("decay"))
    weights = torch.tensor([[[weight], [0.1]]]).double()
    state = State({"W1": weights, "B1": torch.ones(1, 1, 2).double()})
    x, label = torch.ones(1, steps, 1).double(), torch.zeros(1, steps, dtype=torch.int64)
    batch = EpisodeBatch(x, label, x[:, :1], label[:, :1])
    return Problem(learner, torch.tensor([theta], dtype=torch.float64), state, batch)


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_no_gradient_passes_through_a_cut_weight(engine):
    """With θ = 2, decay turns W into −W, which is cut to 0: θ does not matter any more."""
    cut = get_engine(engine).run(one_weight(2.0, steps=3))
    assert torch.equal(cut.theta_gradient, torch.zeros(1, 1).double())
    assert torch.equal(cut.final.matrices["W1"], torch.zeros(1, 2, 1).double())
    free = get_engine(engine).run(one_weight(0.3, steps=3))
    nudged = get_engine(engine).run(one_weight(0.3 + 1e-6, steps=3))
    slope = (nudged.loss - free.loss) / 1e-6
    assert_close(free.theta_gradient[:, 0], slope, 1e-5)
    assert free.theta_gradient.abs() > 1e-3


def test_an_adjoint_that_ignores_the_cut_is_noticed(monkeypatch):
    """Without the mask, the gradient is wrong by far more than the tests above allow."""
    problem = problem_of(SETTINGS["stack, plastic, dale"])
    exact = get_engine("batched").run(problem).theta_gradient
    pull = WayBack._pull_back

    def forgetful(self, states, *rest):
        return pull(self, (state._replace(unchanged=None) for state in states), *rest)

    monkeypatch.setattr(WayBack, "_pull_back", forgetful)
    wrong = get_engine("batched").run(problem).theta_gradient
    assert (wrong - exact).abs().max() > 1e-3 * exact.abs().max()


def test_a_weight_that_rests_on_its_bound_is_no_difference_between_engines():
    """Weights that begin at zero, and inputs that never arrive: V is exactly at its bound."""
    problem = problem_of(SETTINGS["stack, plastic, dale"], steps=11)
    state = problem.state.map(lambda matrix: matrix * (matrix.abs() > 0.3))
    dark = problem.episodes.support_x.clone()
    dark[..., :2] = 0
    problem = replace(problem, state=state, episodes=replace(problem.episodes, support_x=dark))
    expected, found = (get_engine(name).run(problem) for name in ("reference", "batched"))
    assert_close(found.theta_gradient, expected.theta_gradient)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles with a C++ compiler")
def test_the_compiled_engine_agrees():
    # Each layer and each term costs seconds of compiling.
    system = constrained(FullyConnected((4, 3, 3), feedback_name="plastic"), "dale:fraction=0.6")
    terms = named("error_hebbian", "backward_hebbian")
    problem = problem_of(Setting(system, terms, (4,), size=0.2), steps=11)
    expected, found = (get_engine(name).run(problem) for name in ("batched", "compiled"))
    assert_close(found.theta_gradient, expected.theta_gradient)
    for a, b in zip(matrices_of(found.final), matrices_of(expected.final), strict=True):
        assert_close(a, b)
    free = replace(problem, learner=Learner(unconstrained(system), terms))
    without = get_engine("batched").run(free).theta_gradient
    assert (without - expected.theta_gradient).abs().max() > 1e-2, "the bounds must matter here"


@limited
def test_weights_that_begin_outside_are_refused(name):
    problem = problem_of(SETTINGS[name])
    key = next(
        key for key, bounds in problem.learner.system.limits.items()
        if bounds.low[0] > -torch.inf or bounds.high[0] < torch.inf
    )  # fmt: skip
    outside = problem.state.matrices[key].clone()
    outside[0, 0, 0] = -1
    state = State({**problem.state.matrices, key: outside}, problem.state.carry)
    text = refused(replace, problem, state=state)
    assert f"weights {key} violate the constraint" in text
    assert f"--weights {SETTINGS[name].system.weights}" in text


@pytest.mark.slow
def test_kept_states_count_in_the_memory_that_is_needed():
    """The estimate is the memory in use: about 2√T states of a segment, and masks of cuts."""
    wide, batch = (
        FullyConnected((24, 24)),
        EpisodeBatch(
            normal(1, 64, 24).abs(),
            torch.zeros(1, 64).long(),
            normal(1, 3, 24),
            torch.ones(1, 3).long(),
        ),
    )
    copies = {}
    for text in ("none", "dale"):
        learner = Learner(constrained(wide, text), named("error_hebbian", "oja"))
        state = learner.draw(1, seeded(), torch.float64)
        problem = Problem(learner, 0.01 * normal(2), state, batch)
        with LiveMatrices(least=24 * 24) as live:
            get_engine("batched").run(problem)
        need = episode_bytes(learner, "batched", 64, 3, torch.float64)
        copies[text] = (live.peak / (8 * 24 * 24), need / (8 * 24 * 24))
    assert copies["dale"][0] == pytest.approx(copies["none"][0] + 17, abs=1)
    assert copies["dale"][1] == pytest.approx(copies["none"][1] + 17)


@dataclass(frozen=True)
class Half(WeightConstraint):
    """A constraint that a package might bring: the first half of the columns stays at zero."""

    name = "half"
    summary = "half of the synapses are missing"
    text = "half of the synapses are missing"

    def limits(self, columns, *, from_inputs):
        gone = columns // 2
        return Limits(
            (0.0,) * gone + (-9.0,) * (columns - gone), (0.0,) * gone + (9.0,) * (columns - gone)
        )


def test_a_constraint_is_one_class():
    learner = Learner(Constrained(STACK, Half()), named("error_hebbian", "oja"))
    state = learner.draw(2, seeded(), torch.float64)
    batch = SETTINGS["stack, plastic, dale"].batch()
    problem = Problem(learner, 0.1 * normal(2), state, batch)
    expected, found = (get_engine(name).run(problem) for name in ("reference", "batched"))
    assert_close(found.theta_gradient, expected.theta_gradient)
    assert not found.final.matrices["W2"][..., :2].any()
    assert found.final.matrices["W2"][..., 2:].all()


def test_a_constraint_is_plain_data_in_a_spec():
    for name in LIMITED:
        json.dumps(SETTINGS[name].system.spec())
