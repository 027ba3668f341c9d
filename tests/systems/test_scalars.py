"""Three-factor rules: scalars that a system sends to all synapses, and node perturbation."""

import math
from dataclasses import replace

import pytest
import torch
from support import assert_close, named, normal, refusal, seeded
from systems.perturbed_example import Perturbed
from systems.settings import FORGETTING, NODE_PERTURBATION, SETTINGS

from metaplast import Rule, unroll
from metaplast.engines import Problem, get_engine
from metaplast.export import export_rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group
from metaplast.terms.algebra import W, outer, post, pre, scalar
from metaplast.terms.library import TermChoice
from metaplast.terms.term import DenseFormula, Term, full_update

MSE = Perturbed(classes=2, objective_name="mse")


def one_step(learner, noise, *, seed=0):
    """Return a state, an example with this noise, and ΔW by the terms with θ = 1."""
    episodes = len(noise)
    state = learner.draw(episodes, seeded(seed), torch.float64)
    example = Examples(normal(episodes, 3, seed=1), normal(episodes, 2, seed=2), noise)
    theta = torch.ones(episodes, 1, len(learner.terms)).double()
    after = learner.step(state, theta, example)
    return state, example, after.matrices["W"] - state.matrices["W"]


def plain_loss(weights, readout, x, target, deviation):
    """Return the squared error of one example, without tensors."""
    drives = [sum(w * a for w, a in zip(row, x, strict=True)) for row in weights]
    h = [math.tanh(z + d) for z, d in zip(drives, deviation, strict=True)]
    outputs = [sum(v * a for v, a in zip(row, h, strict=True)) for row in readout]
    return sum((z - t) ** 2 for z, t in zip(outputs, target, strict=True)) / 2


@pytest.mark.parametrize("draws", [1, 3])
def test_node_perturbation_is_a_plain_loop(draws):
    noise = normal(2, draws, 4, seed=3)
    state, example, update = one_step(Learner(MSE, (NODE_PERTURBATION,)), noise)
    for episode in range(2):
        parts = [m[episode].tolist() for m in state.matrices.values()]
        x, target = example.input[episode].tolist(), example.target[episode].tolist()
        expected = [[0.0] * 3 for _ in range(4)]
        for xi in noise[episode].tolist():
            deviation = [MSE.size * value for value in xi]
            without = plain_loss(*parts, x, target, [0.0] * 4)
            reward = without - plain_loss(*parts, x, target, deviation)
            for i in range(4):
                for j in range(3):
                    expected[i][j] += reward * deviation[i] * x[j] / draws
        assert_close(update[episode], torch.tensor(expected, dtype=torch.float64), 1e-12)


def cosine(one, other):
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


@pytest.mark.parametrize("objective", ["mse", "cross-entropy"])
def test_node_perturbation_follows_the_gradient_on_average(objective):
    system = replace(MSE, size=0.05, objective_name=objective)
    learner = Learner(system, (NODE_PERTURBATION,))
    noise = normal(1, 4000, 4, seed=4)
    state = learner.draw(1, seeded(), torch.float64)
    target = normal(1, 2, seed=2) if objective == "mse" else torch.ones(1).long()
    example = Examples(normal(1, 3, seed=1), target, noise)
    leaf = state.matrices["W"].clone().requires_grad_()
    loss, _ = learner.query(
        replace(state, matrices={**state.matrices, "W": leaf}),
        Examples(example.input[:, None], example.target[:, None]),
    )
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    theta = torch.ones(1, 1, 1).double()
    update = learner.step(state, theta, example).matrices["W"] - state.matrices["W"]
    assert cosine(update, -gradient) > 0.99
    size = float(update.norm() / (system.size**2 * gradient.norm()))
    assert 0.9 < size < 1.1
    # With a wrong sign, or the reward of another example, the loss is above this bound.
    mirrored = Term("mirrored", -NODE_PERTURBATION.formula, "made up")
    wrong = Learner(system, (mirrored,)).step(state, theta, example).matrices["W"]
    assert cosine(wrong - state.matrices["W"], -gradient) < -0.99


def test_the_exploratory_rule_follows_the_gradient_on_average():
    """For constant input and noise in the activity: the running means are those of the same x."""
    system = replace(MSE, size=0.1)
    learner = Learner(system, named("exploratory_hebbian"))
    episodes, steps = 3000, 40
    one = learner.draw(1, seeded(), torch.float64)
    state = one.map(lambda m: m.expand(episodes, *m.shape[1:]).clone())
    x, target = normal(1, 3, seed=1), normal(1, 2, seed=2)
    given = x.expand(episodes, 3), target.expand(episodes, 2)
    still, theta = torch.zeros(episodes, 1, 1).double(), torch.ones(episodes, 1, 1).double()
    noise = normal(steps, episodes, 1, 4, seed=4)
    for t in range(steps - 1):
        state = learner.step(state, still, Examples(*given, noise[t]))
    after = learner.step(state, theta, Examples(*given, noise[-1]))
    mean = (after.matrices["W"] - state.matrices["W"]).mean(0)
    leaf = one.matrices["W"].requires_grad_()
    whole = State({**one.matrices, "W": leaf}, one.carry)
    loss, _ = learner.query(whole, Examples(x[:, None], target[:, None]))
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert cosine(mean, -gradient[0]) > 0.98


def test_a_reward_lowers_the_loss_without_any_error():
    setting = replace(SETTINGS["perturbed, four times, mse"], terms=(NODE_PERTURBATION,))
    learner = Learner(setting.system, setting.terms)
    batch = setting.batch(3, 60, 4)
    # The task is to reproduce the outputs of another network.
    teacher, state = (learner.draw(3, seeded(s), torch.float64) for s in (1, 2))
    readout = {"readout": state.matrices["readout"]}
    view = replace(teacher, matrices={**teacher.matrices, **readout})
    answers = [torch.tanh(x @ view.matrices["W"].mT) @ view.matrices["readout"].mT
               for x in (batch.support_x, batch.query_x)]  # fmt: skip
    batch = replace(batch, support_y=answers[0], query_y=answers[1])
    before, after = (
        unroll(learner, torch.tensor([theta]).double(), state, batch, gradient=False).loss
        for theta in (0.0, 0.5)
    )
    assert (after < before).all()
    assert after.sum() < 0.3 * before.sum()


def test_no_noise_gives_no_reward_and_no_change():
    _, _, update = one_step(Learner(MSE, (NODE_PERTURBATION,)), torch.zeros(1, 3, 4).double())
    assert not update.any()


@pytest.mark.parametrize("draws", [1, 3])
def test_a_decay_by_a_scalar_alone_acts_at_each_occurrence(draws):
    learner = Learner(MSE, (FORGETTING,))
    state, example, update = one_step(learner, normal(2, draws, 4, seed=3))
    shown = learner.system.present(
        View.of(state), example, learner.reads
    ).synapses["W"]  # fmt: skip
    mean = shown.scalars["loss"].mean(1)
    assert_close(update, -0.1 * mean[:, None, None] * state.matrices["W"], 1e-12)
    assert_close(full_update(FORGETTING, shown), update, 1e-12)


DENSE = Term(
    "dense",
    DenseFormula(
        W,
        lambda s: s.scalars["reward"][:, None, None]
        * torch.einsum("ei,ej->eij", s.signals[post.signal("deviation")], s.pre_activity),
        frozenset({post.signal("deviation"), pre.activity}), True, "f", "f", {"reward"},
    ),
    "made up",
)  # fmt: skip


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_a_torch_function_reads_scalars_too(engine):
    setting = SETTINGS["perturbed, four times, mse"]
    found = []
    for term in (DENSE, NODE_PERTURBATION):
        learner = Learner(setting.system, (term,))
        state = learner.draw(2, seeded(5), torch.float64)
        theta = torch.tensor([0.2]).double()
        found.append(get_engine(engine).run(Problem(learner, theta, state, setting.batch())))
    assert_close(found[0].loss, found[1].loss)
    assert_close(found[0].theta_gradient, found[1].theta_gradient)
    unknown = replace(DENSE, formula=replace(DENSE.formula, scalars={"dopamine"}))
    assert 'scalar("dopamine")' in refusal(Learner, setting.system, (unknown,))


REWARDED = Term("rewarded", scalar("reward") * outer(post.activity, pre.activity), "made up")


def test_the_stack_offers_no_scalar_so_no_kernel_has_to_compute_one():
    text = refusal(Learner.on_stack, FullyConnected((4, 3, 2)), "fixed", (REWARDED,))
    assert 'rewarded reads scalar("reward"), which the system fully-connected does not' in text
    assert "it offers post.activity, post.error, pre.activity, pre.error" in text
    for setting in (SETTINGS["perturbed"], SETTINGS["perturbed, four times, mse"]):
        learner = Learner(setting.system, setting.terms)
        given = (
            torch.zeros(len(learner.terms)).double(),
            learner.draw(2, seeded(), torch.float64),
            setting.batch(),
        )
        assert "--engine batched" in refusal(unroll, learner, *given, engine="fused")


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_programs_refuse_scalars(name):
    rule = Rule((*named("oja"), REWARDED), ((1.0, 2.0),), "fixed")
    text = refusal(export_rule, rule, FullyConnected((4, 3, 2)), name)
    assert "the term rewarded reads reward" in text


def test_documents_print_scalars():
    rule = Rule((REWARDED,), ((0.5,),), "fixed")
    net = FullyConnected((4, 3, 2))
    assert r"\mathrm{reward}\, y_{\ell}" in export_rule(rule, net, "latex").text
    markdown = export_rule(rule, net, "markdown").text
    assert r"\mathrm{reward}\thinspace y_{\ell}" in markdown
    assert "local + broadcast scalar" in markdown
    assert '"scalar": "reward"' in export_rule(rule, net, "json").text
    assert str(rule) == "ΔWₗ = 0.5 reward yₗ yₗ₋₁ᵀ"


def test_a_pool_leaves_out_terms_whose_scalars_are_not_offered():
    pool = TermChoice("all", (*named("oja"), REWARDED), is_named=False)
    silent = Group("W", W, 0, frozenset({post.activity, pre.activity}))
    assert pool.usable(silent.serves).terms == named("oja")
    assert pool.usable(replace(silent, scalars=frozenset({"reward"})).serves).terms == pool.terms
