"""The fixed-point network against plain loops, inverses and autograd through its relaxation."""

import warnings
from dataclasses import replace

import pytest
import torch
from support import assert_close, assert_is_one_sentence, matrices_of, named, normal, seeded

from metaplast.base import notices
from metaplast.base.errors import UserError
from metaplast.base.notices import NoticeWarning, collected
from metaplast.engines import Problem, get_engine, unroll
from metaplast.systems import fixed_point, get_objective
from metaplast.systems.activation import parse_activation
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.fixed_point_kind import fixed_point_kind
from metaplast.systems.implicit import CHECKED, dense, gmres, relax
from metaplast.systems.kind import SystemRequest
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.mini_batches import MiniBatches
from metaplast.tasks.request import EpisodeRequest
from metaplast.terms.algebra import outer, post, pre
from metaplast.terms.library import get_term
from metaplast.terms.term import Term, full_update

SYSTEM = FixedPoint((3, 6, 4), gain=0.8, tolerance=1e-13, rate=0.9, steps=4000)
EYE = torch.eye(6, dtype=torch.float64)
GRADIENT, REPARAMETERISED, UNGATED = named(
    "error_hebbian", "reparameterised", "reparameterised_ungated"
)


def drawn(system=SYSTEM, episodes=2, samples=3):
    """Return a state and a mini-batch."""
    state = system.draw(episodes, seeded(1), torch.float64)
    target = torch.randint(system.outputs, (episodes, samples), generator=seeded(2))
    return state, Examples(normal(episodes, samples, system.inputs, seed=3), target)


def unrolled_rates(W, drive, steps=4000, rate=0.1):
    """Return the rates of one input after many small steps, as the published loop takes them."""
    r = torch.zeros_like(drive)
    for _ in range(steps):
        r = r + rate * (-r + torch.tanh(W @ r + drive))
    return r


def plain(state, example, episode, sample):
    """Return W, r, G and ∇ of one sample, each by its definition."""
    W, W_x, R = (state.matrices[name][episode] for name in ("W", "input", "readout"))
    r = unrolled_rates(W, W_x @ example.input[episode, sample])
    G = torch.diag(1 - r.square())
    y = torch.softmax(R @ r, 0)
    y[example.target[episode, sample]] -= 1
    return W, r, G, R.T @ y


def change(system, state, example, term):
    """Return the change by one term with θ = 1."""
    learner = Learner(system, (term,))
    after = learner.step(state, torch.ones(len(state.matrices["W"]), 1, 1).double(), example)
    return after.matrices["W"] - state.matrices["W"]


def formula(term, W, r, G, grad):
    """Return ΔW by the published formula, full matrices and inverses."""
    if term is GRADIENT:
        return torch.linalg.inv(EYE - G @ W.T) @ G @ torch.outer(grad, r)
    if term is REPARAMETERISED:
        return (
            (EYE - W @ G) @ G @ torch.outer(grad, r) @ (EYE - G @ W).T @ (EYE - G @ W)
        )  # fmt: skip
    return (EYE - W @ G) @ torch.outer(grad, r) @ (EYE - W @ G).T @ (EYE - W @ G)


@pytest.mark.slow
@pytest.mark.parametrize("term", [GRADIENT, REPARAMETERISED, UNGATED], ids=lambda t: t.name)
@pytest.mark.parametrize("solver", ["dense", "gmres"])
def test_each_rule_is_its_formula_averaged_over_the_mini_batch(term, solver):
    system = replace(SYSTEM, solver=solver)
    state, example = drawn(system)
    found = change(system, state, example, term)
    for e in range(2):
        parts = [formula(term, *plain(state, example, e, k)) for k in range(3)]
        assert_close(found[e], -torch.stack(parts).mean(0), 1e-8)


def test_the_error_hebbian_term_is_the_gradient_through_the_relaxation():
    state, example = drawn(episodes=1, samples=1)
    W = state.matrices["W"][0].clone().requires_grad_()
    drive = state.matrices["input"][0] @ example.input[0, 0]
    output = state.matrices["readout"][0] @ unrolled_rates(W, drive, 400)
    loss = torch.nn.functional.cross_entropy(output[None], example.target[0])
    (gradient,) = torch.autograd.grad(loss, W)
    assert_close(change(SYSTEM, state, example, GRADIENT)[0], -gradient, 1e-8)


@pytest.mark.parametrize("solver", ["dense", "gmres"])
def test_every_signal_has_the_gradient_of_its_definition(solver):
    """Rates through 400 relaxation steps, errors through an explicit solve, all of it autograd."""
    system = replace(SYSTEM, solver=solver)
    state, example = drawn(system, episodes=1, samples=1)
    reads = GRADIENT.signals | REPARAMETERISED.signals
    weights = {}
    found = []
    for definition in (False, True):
        W = state.matrices["W"].clone().requires_grad_()
        if definition:
            W_x, R = state.matrices["input"][0], state.matrices["readout"][0]
            r = unrolled_rates(W[0], W_x @ example.input[0, 0], 400)
            G = torch.diag(1 - r.square())
            grad = R.T @ (torch.softmax(R @ r, 0) - torch.eye(4).double()[example.target[0, 0]])
            V = EYE - G @ W[0]
            signals = {
                "activity": r, "error": torch.linalg.solve(EYE - G @ W[0].T, G @ grad),
                "linearised_error": (EYE - W[0] @ G) @ G @ grad, "linearised_rate": V.T @ V @ r,
            }  # fmt: skip
        else:
            view = View.of(State({**state.matrices, "W": W}))
            shown = system.present(view, example, reads).synapses["W"].signals
            signals = {
                signal.kind: value[0, 0] for signal, value in shown.items() if signal.kind != "one"
            }
        total = 0
        for k, name in enumerate(sorted(signals)):
            weights.setdefault(name, normal(6, seed=20 + k))
            total = total + (weights[name] * signals[name]).sum()
        found.append(torch.autograd.grad(total, W)[0])
    assert_close(*found, 1e-8)
    assert found[0].abs().max() > 0.1


def test_with_a_gain_of_one_the_two_reparameterised_rules_are_one():
    system = replace(SYSTEM, activation="linear", gain=0.3)
    state, example = drawn(system)
    one, other = (change(system, state, example, t) for t in (REPARAMETERISED, UNGATED))
    assert_close(one, other)
    assert one.abs().max() > 0.01


def test_without_recurrence_it_is_one_layer():
    state, example = drawn()
    state = State({**state.matrices, "W": torch.zeros_like(state.matrices["W"])})
    shown = SYSTEM.present(View.of(state), example, frozenset({post.error})).synapses["W"]
    rates = torch.tanh(example.input @ state.matrices["input"].mT)
    assert_close(shown.post_activity, rates, 1e-14)
    y = torch.softmax(rates @ state.matrices["readout"].mT, -1)
    error = y - torch.nn.functional.one_hot(example.target, 4)
    slope = 1 - rates.square()
    assert_close(shown.post_error, slope * (error @ state.matrices["readout"]), 1e-12)


def test_a_mini_batch_changes_w_by_the_mean_of_its_samples():
    state, example = drawn()
    alone = [
        change(SYSTEM, state, Examples(example.input[:, k], example.target[:, k]), GRADIENT)
        for k in range(3)
    ]
    assert_close(change(SYSTEM, state, example, GRADIENT), torch.stack(alone).mean(0), 1e-12)


def test_direct_wiring_drives_and_reads_the_first_neurons():
    system = FixedPoint((2, 5, 3), "linear", "mse", drive="direct", readout="direct",
                        tolerance=1e-13)  # fmt: skip
    state = system.draw(1, seeded(), torch.float64)
    assert list(state.matrices) == ["W"]
    W, x = state.matrices["W"][0], normal(1, 1, 2)
    rates = torch.linalg.solve(torch.eye(5).double() - W, torch.cat([x[0, 0], torch.zeros(3)]))
    assert_close(system.output(View.of(state), x)[0, 0], rates[:3], 1e-10)
    target = normal(1, 1, 3, seed=4)
    shown = system.present(View.of(state), Examples(x, target), frozenset({post.error}))
    error = torch.cat([rates[:3] - target[0, 0], torch.zeros(2)])
    expected = torch.linalg.solve(torch.eye(5).double() - W.T, error)
    assert_close(shown.synapses["W"].post_error[0, 0], expected, 1e-10)


# --- relaxation and solvers ---


def test_a_relaxation_reports_steps_and_residual():
    state, example = drawn()
    end = SYSTEM.relaxed(View.of(state), example.input)
    W, drive = state.matrices["W"], example.input @ state.matrices["input"].mT
    off = (torch.tanh(end.rates @ W.mT + drive) - end.rates).abs().amax(-1)
    assert end.settled.all()
    assert_close(end.residual, off, 1e-15)
    assert (off <= 1e-13).all()
    assert (end.steps % CHECKED == 0).all()
    assert (end.steps > 0).all()
    before = relax(torch.tanh, W, drive, rate=0.9, tolerance=1e-13,
                   most=int(end.steps.max()) - CHECKED)  # fmt: skip
    assert not before.settled.all()


def test_a_sample_does_not_depend_on_slower_ones():
    state, example = drawn()
    together = SYSTEM.relaxed(View.of(state), example.input)
    for k in range(3):
        alone = SYSTEM.relaxed(View.of(state), example.input[:, k : k + 1])
        assert torch.equal(alone.steps[:, 0], together.steps[:, k])
        assert_close(alone.rates[:, 0], together.rates[:, k], 1e-15)


def system_of(neurons=6, size=0.3):
    s = torch.rand(2, 4, neurons, generator=seeded(), dtype=torch.float64)
    return s, size * normal(2, neurons, neurons, seed=1), normal(2, 4, neurons, seed=2)


@pytest.mark.parametrize("solver", [dense, gmres])
def test_a_solver_solves(solver):
    s, M, b = system_of()
    for k in range(4):
        for e in range(2):
            A = EYE - torch.diag(s[e, k]) @ M[e].T
            assert_close(solver(s, M, b, 1e-14)[e, k], torch.linalg.inv(A) @ b[e, k], 1e-11)


def test_gmres_stops_at_its_tolerance_and_takes_a_zero_right_side():
    s, M, b = system_of(20, 0.1)
    b[0, 0] = 0
    for tolerance in (1e-2, 1e-6):
        x = gmres(s, M, b, tolerance)
        off = (x - s * (x @ M) - b).norm(dim=-1)
        assert (off <= 1.0001 * tolerance * b.norm(dim=-1)).all()
        assert off.max() > tolerance**2
    assert not x[0, 0].any()


def test_a_singular_system_is_no_error():
    ones = torch.ones(1, 1, 2, dtype=torch.float64)
    assert not torch.isfinite(dense(ones, torch.eye(2).double()[None], ones, 0)).all()


@pytest.mark.parametrize("solver", ["dense", "gmres"])
def test_nothing_is_relaxed_on_the_way_back(solver, monkeypatch):
    relaxed, real = [], fixed_point.relax
    monkeypatch.setattr(fixed_point, "relax", lambda *a, **o: relaxed.append(1) or real(*a, **o))
    solved, solve = [], fixed_point.SOLVERS[solver]
    counting = lambda *a: solved.append(1) or solve(*a)  # noqa: E731
    monkeypatch.setattr(fixed_point, "SOLVERS", {solver: counting})
    system = FixedPoint((3, 5, 2), solver=solver)
    learner = Learner(system, (GRADIENT,))
    state = learner.draw(2, seeded(), torch.float64)
    targets = [torch.randint(2, (2, n), generator=seeded()) for n in (6, 3)]
    batch = EpisodeBatch(normal(2, 6, 3), targets[0], normal(2, 3, 3), targets[1])
    theta = torch.tensor([0.1]).double()
    problem = Problem(learner, theta, state, batch)
    get_engine("batched").run(problem, gradient=False)
    forward = len(relaxed)
    assert (forward, len(solved)) == (6 + 1, 6)
    relaxed.clear()
    get_engine("batched").run(problem)
    # Segments are repeated once, and the first step back finds out which products there are.
    assert len(relaxed) <= 2 * 6 + 1 + 1


# --- inputs that do not settle ---


def unstable():
    """Return a linear network in which one mode grows, and inputs that do and do not excite it."""
    system = FixedPoint((3, 3, 3), "linear", "mse", drive="direct", readout="direct", steps=200)
    W = torch.diag(torch.tensor([0.5, 0.2, 1.5])).double()[None]
    quiet, loud = [1.0, 2.0, 0.0], [1.0, 2.0, 1e-3]
    inputs = torch.tensor([[quiet, loud]]).double()
    return system, State({"W": W}), inputs, torch.zeros_like(inputs)


def test_a_sample_that_does_not_settle_is_skipped_counted_and_named():
    system, state, x, target = unstable()
    ones = Term("ones", outer(post.one, pre.one), "made up")
    for term in (GRADIENT, REPARAMETERISED, get_term("oja"), ones):
        with collected() as seen:
            both = change(system, state, Examples(x, target), term)
        alone = change(system, state, Examples(x[:, :1], target[:, :1]), term)
        assert_close(both, alone / 2, 1e-12)
        assert both.abs().max() > 0
        what = "inputs did not settle and were skipped"
        assert seen.count(what) == 1
        assert "sample 1 of episode 0" in seen.lines[0]
        assert "spectral radius of W was 1.5" in seen.lines[0]
        assert "after 200 steps" in seen.lines[0]
    with collected() as seen:
        output = system.output(View.of(state), x)
    assert not output[0, 1].any()
    assert_close(output[0, 0], torch.tensor([2.0, 2.5, 0.0]).double(), 1e-5)
    assert seen.lines


def test_decay_acts_on_a_skipped_example_too():
    system, state, x, target = unstable()
    with collected():
        found = change(system, state, Examples(x[:, 1], target[:, 1]), get_term("decay"))
    assert_close(found, -state.matrices["W"], 1e-15)


def test_without_a_collector_it_is_warned_of_once(monkeypatch):
    monkeypatch.setattr(notices, "_WARNED", set())
    system, state, x, _ = unstable()
    with pytest.warns(NoticeWarning, match="did not settle and were skipped"):
        system.output(View.of(state), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        system.output(View.of(state), x)


def test_learning_into_an_unstable_region_is_survived_and_differentiated():
    """The loss and the gradient of an episode with unsettled inputs are finite."""
    system, state, x, target = unstable()
    learner = Learner(system, (GRADIENT, get_term("oja")))
    batch = EpisodeBatch(x, target, x, target)
    theta = torch.tensor([0.01, 0.01]).double()
    with collected() as seen:
        for engine in ("batched", "reference"):
            out = unroll(learner, theta, state, batch, engine=engine)
            assert out.finite.all()
            assert out.theta_gradient.abs().max() > 0
    assert seen.lines


def test_a_matrix_that_is_not_finite_diverges_and_is_not_skipped():
    system, state, x, target = unstable()
    state = State({"W": state.matrices["W"] * torch.nan})
    with collected():
        assert torch.isnan(system.output(View.of(state), x)).all()
        assert torch.isnan(change(system, state, Examples(x, target), GRADIENT)).all()


# --- mini-batches in episodes ---


def episodes(steps=6):
    return EpisodeBatch(
        normal(2, steps, 3), torch.randint(4, (2, steps), generator=seeded()),
        normal(2, 2, 3, seed=5), torch.randint(4, (2, 2), generator=seeded(1)),
    )  # fmt: skip


def test_support_examples_are_joined_in_order():
    batch = episodes()
    joined = batch.in_batches(3)
    assert tuple(joined.support_x.shape) == (2, 2, 3, 3)
    assert torch.equal(joined.example(1).input, batch.support_x[:, 3:])
    assert torch.equal(joined.example(1).target, batch.support_y[:, 3:])
    assert torch.equal(joined.query_x, batch.query_x)
    for wrong in (4, 7):
        with pytest.raises(UserError, match=f"mini-batches of {wrong}") as caught:
            batch.in_batches(wrong)
        assert_is_one_sentence(caught.value)
    with pytest.raises(UserError, match="cannot be divided"):
        joined.in_batches(1)


def test_a_source_joins_them_for_a_system_that_asks_for_it():
    asked = EpisodeRequest(ways=2, shots=3)

    class Sampler:
        request, range_is_known = asked, True

        def sample(self, count, generator):
            return episodes()

        def digest(self):
            return "data"

    one, two = MiniBatches(Sampler(), 2), MiniBatches(Sampler(), 3)
    assert one.sample(2, seeded()).steps == 3
    assert (one.request, one.range_is_known) == (asked, True)
    assert one.digest() != two.digest()


def test_a_stack_takes_no_mini_batches():
    from metaplast.systems.fully_connected import FullyConnected

    learner = Learner(FullyConnected((3, 4)), (GRADIENT,))
    state = learner.draw(2, seeded(), torch.float64)
    with pytest.raises(UserError, match="one by one, got mini-batches") as caught:
        unroll(learner, torch.ones(1).double(), state, episodes().in_batches(2))
    assert_is_one_sentence(caught.value)


# --- bad input ---


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("tolerance=0", "tolerance must be above 0"),
        ("tolerance=-1", "tolerance must be above 0"),
        ("tolerance=nan", "tolerance must be above 0"),
        ("gain=1", "gain must be at least 0 and below 1.*spectral"),
        ("rate=0", "rate must be above 0"),
        ("steps=0", "steps must be from 1"),
        ("batch=0", "batch must be from 1"),
        ("solver=lu", "unknown solver 'lu'"),
        ("drive=straight", "unknown drive 'straight'"),
        ("steps=many", "steps of fixed-point must be a whole number"),
        ("nonsense=1", "unknown setting of fixed-point 'nonsense'"),
        ("gain", "each setting once, as name=value"),
        ("gain=0.1,gain=0.2", "each setting once"),
        ("drive=direct", "a neuron for each of the 9 inputs"),
    ],
)
def test_a_bad_argument_is_told_in_one_sentence(argument, said):
    request = SystemRequest(9, 2, (5,), "tanh", feedback="implicit", argument=argument)
    with pytest.raises(UserError, match=said) as caught:
        fixed_point_kind.build(request)
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden": (5, 5)}, "one population of neurons"),
        ({"hidden": ()}, "one population of neurons"),
        ({"init": "normal:1"}, "its own gain"),
        ({"feedback": "symmetric"}, "no feedback symmetric; choose from implicit"),
        ({"activation": "sine"}, "activation"),
    ],
)
def test_a_bad_request_is_told_in_one_sentence(changes, said):
    request = SystemRequest(9, 2, (5,), "tanh", feedback="implicit")
    with pytest.raises(UserError, match=said) as caught:
        fixed_point_kind.build(replace(request, **changes))
    assert_is_one_sentence(caught.value)


def test_every_setting_is_read():
    text = "gain=0.3,drive=direct,readout=direct,rate=0.2,steps=70,tolerance=1e-4,solver=gmres"
    request = SystemRequest(3, 4, (5,), "linear", feedback="implicit", argument=f"{text},batch=2")
    assert fixed_point_kind.build(request) == FixedPoint(
        (3, 5, 4), "linear", gain=0.3, drive="direct", readout="direct", rate=0.2, steps=70,
        tolerance=1e-4, solver="gmres", batch=2,
    )  # fmt: skip


def test_a_tolerance_that_the_dtype_does_not_resolve_is_refused():
    with pytest.raises(UserError, match="float32 resolves tolerances from") as caught:
        SYSTEM.draw(1, seeded(), torch.float32)
    assert_is_one_sentence(caught.value)


def test_a_stack_has_neither_this_activation_nor_these_signals():
    with pytest.raises(UserError, match="activation"):
        parse_activation("linear")
    from metaplast.systems.fully_connected import FullyConnected

    with pytest.raises(UserError, match=r"reads post\.linearised_error, pre\.linearised_rate"):
        Learner(FullyConnected((3, 4)), (REPARAMETERISED,))
    with pytest.raises(UserError, match="no feedback implicit"):
        FullyConnected((3, 4), feedback_name="implicit")


def test_torch_is_not_asked_to_compile_it():
    learner = Learner(SYSTEM, (GRADIENT,))
    refused = get_engine("compiled").refusal(learner, torch.device("cpu"))
    assert "--engine batched" in refused
    assert Learner(SYSTEM, (GRADIENT,)).feedback_name == "implicit"


@pytest.mark.parametrize("term", [REPARAMETERISED, UNGATED], ids=lambda t: t.name)
def test_the_reparameterised_rules_are_not_local(term):
    assert term.locality == "non-local"
    assert not term.is_local
    assert GRADIENT.locality == "local"


def test_the_full_update_is_the_low_rank_one():
    state, example = drawn()
    reads = REPARAMETERISED.signals
    shown = SYSTEM.present(View.of(state), example, reads).synapses["W"]
    assert_close(
        full_update(REPARAMETERISED, shown), change(SYSTEM, state, example, REPARAMETERISED), 1e-13
    )
    assert post.error not in shown.signals


def test_the_state_is_drawn_with_the_given_gain():
    system = FixedPoint((400, 300, 200), gain=0.7)
    state = system.draw(1, seeded(), torch.float32)
    radius = torch.linalg.eigvals(state.matrices["W"][0]).abs().max()
    assert 0.6 < radius < 0.85
    for name, columns in (("input", 400), ("readout", 300)):
        assert abs(float(state.matrices[name].std()) * columns**0.5 - 1) < 0.02
    assert get_objective(system.objective_name).name == "cross-entropy"
    assert [m.shape[0] for m in matrices_of(state)] == [1, 1, 1]


@pytest.mark.parametrize("widths", [(3, 6), (3, 6, 4, 2), 5, "364", None, (3, 6.5, 4)])
def test_widths_that_are_not_three_whole_numbers_are_refused(widths):
    with pytest.raises(UserError, match="widths") as caught:
        FixedPoint(widths)
    assert_is_one_sentence(caught.value)


def test_widths_may_be_a_list_or_an_array():
    assert {FixedPoint([3, 6, 4]), FixedPoint(torch.tensor([3, 6, 4]))} == {FixedPoint((3, 6, 4))}
