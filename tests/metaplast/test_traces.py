"""Traces: against plain loops, finite differences and every engine; what they do in known rules."""

from dataclasses import replace

import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, normal, random_problem, seeded
from systems.settings import SETTINGS

from metaplast import Learner, Rule, RuleOptimizer, UserError
from metaplast.engines import get_engine
from metaplast.export import export_rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.systems.traced import traced
from metaplast.terms.algebra import W, outer, post, pre, sign, trace
from metaplast.terms.notation import ASCII, LATEX, TEXT
from metaplast.terms.operator import Operator
from metaplast.terms.term import Term
from metaplast.terms.traces import trace_of


def term(name, formula):
    return Term(name, formula, "made up")


def memory_terms(tau=3):
    """Return terms with traces of every kind of vector."""
    return (
        *named("error_hebbian"),
        term("low", outer(trace(post.error, tau), trace(pre.activity, 2 * tau))),
        term("squares", outer(post.activity * trace(post.activity**2, tau), pre.activity)),
        term("signs", outer(sign(post.error), trace(pre.error, tau))),
        term("carried", outer(trace(post.activity, tau), W.T @ trace(post.activity, tau))),
    )


# --- a trace is its formula ---


def test_a_trace_is_a_plain_loop():
    network = FullyConnected((4, 3, 2), "softplus:10")
    rule = term("slow", outer(trace(post.activity, 4), trace(pre.activity**2, 2.5)))
    learner = Learner(network, (rule,))
    theta = torch.full((1, 2, 1), 0.1, dtype=torch.float64)
    state = learner.draw(1, seeded(), torch.float64)
    weights = [w[0].clone() for w in state.weights]
    slow, fast = [torch.zeros(3).double(), torch.zeros(2).double()], [0.0, 0.0]
    for t in range(6):
        x, label = normal(4, seed=t).abs(), torch.tensor([t % 2])
        hidden = torch.nn.functional.softplus(weights[0] @ x, beta=10)
        y = [x, hidden, torch.softmax(weights[1] @ hidden, 0)]
        for k in (0, 1):
            slow[k] = (1 - 1 / 4) * slow[k] + y[k + 1] / 4
            fast[k] = (1 - 1 / 2.5) * fast[k] + y[k] ** 2 / 2.5
            weights[k] = weights[k] + 0.1 * torch.outer(slow[k], fast[k])
        state = learner.step(state, theta, Examples(x[None], label))
        for found, wanted in zip(state.weights, weights, strict=True):
            assert_close(found[0], wanted, 1e-12)


@pytest.mark.parametrize("engine", ["reference", "batched", "fused"])
def test_with_tau_one_a_trace_is_the_signal_to_the_bit(engine):
    plain = (*named("error_hebbian"), term("a", outer(post.activity**2, pre.activity)))
    slow = (plain[0], term("a", outer(trace(post.activity**2, 1), trace(pre.activity, 1))))
    one, other = (get_engine(engine).run(random_problem(t, steps=6)) for t in (plain, slow))
    assert torch.equal(one.loss, other.loss)
    assert_close(one.theta_gradient, other.theta_gradient, 1e-14)
    assert all(map(torch.equal, one.final.weights, other.final.weights))


@pytest.mark.parametrize("feedback", ["fixed", "symmetric", "direct"])
@pytest.mark.parametrize("per_layer", [False, True])
def test_engines_agree_and_gradients_are_those_of_finite_differences(feedback, per_layer):
    problem = random_problem(memory_terms(), feedback=feedback, per_layer=per_layer, steps=7)
    names = ("reference", "batched", "fused")
    wanted, found, fused = (get_engine(name).run(problem) for name in names)
    for one in (found, fused):
        assert_close(one.loss, wanted.loss, 1e-12)
        assert_close(one.theta_gradient, wanted.theta_gradient, 1e-9)
    step = 1e-5
    for index in range(0, problem.theta.numel(), 3):
        nudge = torch.zeros_like(problem.theta)
        nudge.view(-1)[index] = step
        up, down = (
            get_engine("batched").run(replace(problem, theta=problem.theta + s), gradient=False)
            for s in (nudge, -nudge)
        )
        numeric = (up.loss - down.loss) / (2 * step)
        assert_close(found.theta_gradient.flatten(1)[:, index], numeric, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_every_system_offers_traces_of_what_it_offers(name):
    setting = SETTINGS[name]
    group = setting.system.groups[0]
    source = sorted((s for s in group.offers if s.population == "pre"), key=str)[0]
    slow = term("slow", outer(post.one, trace(source, 3)))
    learner = Learner(setting.system, (*setting.terms, slow))
    assert trace(source, 3) in learner.system.groups[0].offers
    problem = _problem(learner, setting)
    wanted, found = (get_engine(engine).run(problem) for engine in ("reference", "batched"))
    assert_close(found.loss, wanted.loss, 1e-9)
    assert_close(found.theta_gradient, wanted.theta_gradient, 1e-8)
    assert wanted.theta_gradient[..., -1].abs().max() > 0


def _problem(learner, setting):
    from metaplast.engines import Problem

    batch = setting.batch()
    theta = setting.size * normal(len(learner.terms), seed=5)
    return Problem(learner, theta, learner.draw(2, seeded(), torch.float64), batch)


def test_time_steps_follow_each_other_and_samples_of_a_batch_do_not():
    from metaplast.systems.traced import follow
    from metaplast.terms.synapses import Synapses

    values, start = normal(1, 3, 2), torch.zeros(1, 2).double()
    signal = trace_of(trace(pre.activity, 4))
    ends = Synapses(Operator(normal(1, 2, 2)), {pre.activity: values})
    inside, after = follow(signal, ends, start, signal.tau)
    slow = start
    for k in range(3):
        slow = 0.75 * slow + values[:, k] / 4
        assert_close(inside[:, k], slow, 1e-15)
    assert_close(after, slow, 1e-15)
    inside, after = follow(signal, replace(ends, weight=1 / 3), start, signal.tau)
    assert_close(after, values.mean(1) / 4, 1e-15)
    assert_close(inside[:, 2], after, 1e-15)


def test_a_trace_outlives_examples_but_not_episodes():
    learner = Learner(FullyConnected((4, 3, 2)), memory_terms())
    state = learner.draw(2, seeded(), torch.float64)
    assert set(state.carry) == set(learner.system.carried)
    assert state.carry
    assert all(not vector.any() for vector in state.carry.values())
    view = View.of(state)
    example = Examples(normal(2, 4).abs(), torch.tensor([0, 1]))
    after = learner.system.present(view, example, learner.reads).carry
    activities = [vector for name, vector in after.items() if "activity" in name]
    assert activities
    assert all(vector.any() for vector in activities)


# --- names, files, refusals ---


@pytest.mark.parametrize(
    ("signal", "kind"),
    [
        (trace(post.activity, 20), "activity_trace_20"),
        (trace(pre.error**2, 2.5), "error_square_trace_2_5"),
        (trace(post.signal("drive"), 3), "drive_trace_3"),
    ],
)
def test_the_kind_of_a_trace_says_what_it_follows(signal, kind):
    assert signal.kind == kind
    assert trace_of(signal).as_signal == signal


@pytest.mark.parametrize("kind", ["activity", "trace_5", "activity_trace", "activity_trace_x",
                                  "activity_trace_0", "activity_trace_0_5"])  # fmt: skip
def test_other_kinds_are_no_traces(kind):
    assert trace_of(post.signal(kind)) is None


def test_equations_and_files(tmp_path):
    rule = term("squares", outer(post.activity * trace(post.activity**2, 50), pre.activity))
    assert rule.spell(TEXT) == "(yₗ ⊙ ⟨yₗ², τ=50⟩) yₗ₋₁ᵀ"
    assert rule.spell(ASCII) == "(y_l * <y_l^2, tau=50>) y_{l-1}^T"
    assert r"\langle y_{\ell}^{2} \rangle_{\tau=50}" in rule.spell(LATEX)
    assert rule.is_local
    saved = Rule.of((rule,), torch.tensor([0.1]), "fixed", {})
    saved.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json").terms == (rule,)


@pytest.mark.parametrize(
    "make",
    [
        lambda: trace(post.activity, 0.5),
        lambda: trace(post.activity, float("nan")),
        lambda: trace(post.activity, "20"),
        lambda: trace(post.activity, True),
        lambda: trace(post.one, 5),
        lambda: trace(post.activity * post.error, 5),
        lambda: trace(W.T @ post.activity, 5),
        lambda: trace(3, 5),
        lambda: Learner(
            FullyConnected((4, 3, 2)), (term("t", outer(trace(post.signal("drive"), 5), pre.one)),)
        ),
        lambda: Learner(
            FullyConnected((4, 3, 2)), (term("t", outer(trace(trace(post.error, 2), 5), pre.one)),)
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(make):
    with pytest.raises(UserError) as caught:
        make()
    assert_is_one_sentence(caught.value)


def test_steps_without_memory_refuse_traces():
    rule = Rule.of(memory_terms(), 0.01 * torch.ones(5), "fixed", {})
    weights = [torch.randn(5, 6), torch.randn(3, 5)]
    backward = [torch.randn(6, 5), torch.randn(5, 3)]
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 5, bias=False), torch.nn.Softplus(beta=10),
        torch.nn.Linear(5, 3, bias=False),
    )  # fmt: skip
    for refused in (
        lambda: rule.step(weights, torch.randn(6), 1, backward),
        lambda: RuleOptimizer(model, rule),
    ):
        with pytest.raises(UserError, match="traces") as caught:
            refused()
        assert_is_one_sentence(caught.value)


def test_an_optimizer_refuses_traces_and_documents_print_them():
    """Programs of NumPy and JAX keep them: tests/export/test_memory_exports.py."""
    rule = Rule.of(memory_terms(), 0.01 * torch.ones(5), "fixed", {})
    network = FullyConnected((6, 5, 3))
    with pytest.raises(UserError, match="trace"):
        export_rule(rule, network, "torch")
    assert r"\tau=3" in export_rule(rule, network, "latex").text


def test_a_system_without_traces_stays_itself():
    network = FullyConnected((4, 3, 2))
    assert traced(network, {post.activity}) is network


# --- known rules ---


def learn(terms, theta, inputs, *, outputs=1, seed=0):
    """Return the weights of linear neurons after learning inputs, [step, input]."""
    network = FullyConnected((inputs.shape[1], outputs), objective_name="mse")
    learner = Learner(network, terms)
    state = learner.draw(1, seeded(seed), torch.float64)
    state = State({name: 0.3 * m.abs() for name, m in state.matrices.items()}, state.carry)
    coefficients = torch.tensor(theta, dtype=torch.float64)[None, None]
    target = torch.zeros(1, outputs, dtype=torch.float64)
    for x in inputs:
        state = learner.step(state, coefficients, Examples(x[None], target))
    return state.weights[0][0]


@pytest.mark.slow
def test_ojas_single_neuron_finds_the_first_component():
    scale = torch.tensor([1.0, 0.5, 0.3]).double()
    inputs = normal(3000, 3, seed=2) * scale
    found = learn(named("oja_single"), [0.02], inputs)[0]
    assert abs(found.norm() - 1) < 0.05
    assert found[0].abs() / found.norm() > 0.99


@pytest.mark.slow
def test_the_covariance_rule_ignores_the_mean_and_hebbs_rule_does_not():
    mean = torch.tensor([2.0, 2.0, 0.0]).double()
    inputs = mean + normal(1500, 3, seed=3) * torch.tensor([0.1, 0.1, 1.0]).double()
    cosines = {}
    for name in ("hebbian", "covariance"):
        found = learn(named(name), [4e-3], inputs)[0]
        cosines[name] = (found / found.norm())[2].abs()
    assert cosines["hebbian"] < 0.2
    assert cosines["covariance"] > 0.9


@pytest.mark.slow
def test_bcm_becomes_selective():
    patterns = torch.eye(3, dtype=torch.float64)
    order = torch.randint(3, (9000,), generator=seeded(5))
    found = learn(named("bcm"), [0.02], patterns[order], seed=1)[0]
    # The answer to one of n equally likely patterns tends to n, the others to 0.
    answers = found.sort().values
    assert abs(answers[-1] - 3) < 0.6
    assert answers[:-1].abs().max() < 0.1


def test_pre_before_post_potentiates_and_post_before_pre_depresses():
    rule = named("pair_timing")[0]
    learner = Learner(FullyConnected((1, 1), objective_name="mse"), (rule,))
    # A trace that is updated before it is used: pairs that are d steps apart.
    keep, tau = 1 - 1 / 5, 5
    for x_first in (True, False):
        moved = _paired(learner, x_first)
        expected = keep**2 / tau * (1 if x_first else -1)
        assert_close(moved, torch.tensor(expected, dtype=torch.float64), 1e-12)


def _paired(learner, x_first):
    """Return ΔW by one presynaptic and one postsynaptic event, two steps apart."""
    from metaplast.systems.traced import follow
    from metaplast.terms.synapses import Synapses
    from metaplast.terms.term import full_update

    x = torch.zeros(1, 5, 1).double()
    y = x.clone()
    (x if x_first else y)[0, 0] = 1
    (y if x_first else x)[0, 2] = 1
    ends = Synapses(Operator(torch.zeros(1, 1, 1).double()), {pre.activity: x, post.activity: y})
    signals = dict(ends.signals)
    for signal in learner.system.traces:
        found = trace_of(signal)
        signals[signal] = follow(found, ends, torch.zeros(1, 1).double(), found.tau)[0]
    return full_update(learner.terms[0], replace(ends, signals=signals)).sum()
