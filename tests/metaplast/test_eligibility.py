"""Eligibilities and third factors: plain loops, notation, files, refusals, broadcast scalars."""

from dataclasses import replace

import pytest
import torch
from support import (
    assert_close,
    assert_is_one_sentence,
    named,
    normal,
    random_problem,
    refusal,
    seeded,
)

from metaplast import Rule, RuleOptimizer, UserError, unroll
from metaplast.engines import get_engine
from metaplast.export import export_rule
from metaplast.rules.canonical import with_oja
from metaplast.systems.broadcast import Broadcasting
from metaplast.systems.eligible import Eligible
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.state import View
from metaplast.systems.system import Examples
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import (
    B,
    Formula,
    W,
    dot,
    eligible,
    outer,
    post,
    pre,
    reward,
    scalar,
    surprise,
    trace,
)
from metaplast.terms.collected import held
from metaplast.terms.formula_data import is_same_formula
from metaplast.terms.layout import inner_terms
from metaplast.terms.notation import ASCII, LATEX
from metaplast.terms.operator import Operator
from metaplast.terms.synapses import Synapses
from metaplast.terms.term import DenseFormula, Term
from metaplast.terms.term_data import read_term, term_data

HEBB = outer(post.activity, pre.activity)
NETWORK = FullyConnected((4, 3, 2), "tanh")
SIZE = scalar("error_size")


def term(name, formula):
    return Term(name, formula, "made up")


def steps(learner, count, theta=0.1):
    """Return the weights after some steps on fixed examples."""
    state = learner.draw(1, seeded(), torch.float64)
    theta = torch.full((1, 2, len(learner.terms)), theta, dtype=torch.float64)
    for t in range(count):
        state = learner.step(state, theta, Examples(normal(1, 4, seed=t), torch.tensor([t % 2])))
    return state


# --- what it computes ---


@pytest.mark.parametrize("per_neuron", [False, True])
def test_an_eligibility_is_a_plain_loop(per_neuron):
    factor = post.error if per_neuron else SIZE
    learner = Learner(NETWORK, (term("late", factor * eligible(HEBB - 0.5 * (W * HEBB), 4)),))
    start = learner.draw(1, seeded(), torch.float64)
    weights = [w[0].clone() for w in start.weights]
    back = start.backward[1][0]
    kept = [torch.zeros_like(w) for w in weights]
    for t in range(5):
        x = normal(4, seed=t)
        hidden = torch.tanh(weights[0] @ x)
        y = [x, hidden, torch.softmax(weights[1] @ hidden, 0)]
        error = y[2] - torch.nn.functional.one_hot(torch.tensor(t % 2), 2)
        errors = [(back @ error) * (1 - hidden**2), error]
        for k in (0, 1):
            product = torch.outer(y[k + 1], y[k])
            kept[k] = 0.75 * kept[k] + product - 0.5 * weights[k] * product
        for k in (0, 1):
            third = errors[k][:, None] if per_neuron else error.norm()
            weights[k] = weights[k] + 0.1 * third * kept[k]
    for found, wanted in zip(steps(learner, 5).weights, weights, strict=True):
        assert_close(found[0], wanted, 1e-12)


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_with_tau_one_it_is_the_formula_to_the_bit(engine):
    oja = HEBB - outer(post.activity, W.T @ post.activity)
    assert eligible(oja, 1) == oja
    assert (SIZE * eligible(oja, 1)) == SIZE * oja
    plain, slow = ((*named("error_hebbian"), term("t", f)) for f in
                   (SIZE * oja - HEBB, SIZE * eligible(oja, 1.0) - eligible(HEBB, 1)))  # fmt: skip
    one, other = (get_engine(engine).run(random_problem(t, steps=5)) for t in (plain, slow))
    assert torch.equal(one.loss, other.loss)
    assert torch.equal(one.theta_gradient, other.theta_gradient)
    assert all(map(torch.equal, one.final.weights, other.final.weights))


def test_near_tau_one_it_is_near_the_formula():
    """The path through the matrix leads to the same limit as the short cut."""
    found, wanted = (
        steps(Learner(NETWORK, (term("t", post.error * f if f.eligibilities else f),)), 4)
        for f in (eligible(HEBB, 1 + 1e-9), outer(post.error * post.activity, pre.activity))
    )
    for a, b in zip(found.weights, wanted.weights, strict=True):
        assert_close(a, b, 1e-7)


def test_what_is_collected_may_be_a_vector_that_decays():
    """With ones on the row side, an eligibility is a trace, except that it is not normalised."""
    tau = 5
    kept = term("t", post.error * eligible(outer(post.one, pre.activity), tau))
    followed = term("t", tau * outer(post.error, trace(pre.activity, tau)))
    found, wanted = (steps(Learner(NETWORK, (t,)), 6) for t in (kept, followed))
    for a, b in zip(found.weights, wanted.weights, strict=True):
        assert_close(a, b, 1e-12)


def test_terms_share_an_eligibility_and_the_carried_matrix_is_it():
    kept = eligible(HEBB, 3)
    learner = Learner(NETWORK, (term("a", SIZE * kept), term("b", (SIZE - trace(SIZE, 2)) * kept)))
    assert isinstance(learner.system, Eligible)
    assert list(learner.system.added.values()) == [12, 6]
    state = learner.draw(1, seeded(), torch.float64)
    assert not any(vector.any() for vector in state.carry.values())
    after = steps(learner, 1, theta=0.0)
    view = View.of(after)
    shown = learner.system.present(
        view, Examples(normal(1, 4, seed=0), torch.tensor([0])), learner.reads
    )
    (held,) = shown.synapses["W1"].held.values()
    product = torch.einsum("er,ec->erc", *(shown.synapses["W1"].signals[s][:, 0]
                                           for s in (post.activity, pre.activity)))  # fmt: skip
    assert_close(held.before, product, 1e-12)  # The same example, with θ = 0.
    assert_close(held.after, (1 + 2 / 3) * product, 1e-12)


def test_time_steps_follow_each_other_and_samples_of_a_batch_do_not():
    kept = eligible(HEBB - 0.5 * (W * HEBB), 4).monomials[0].eligibility
    y, x, start = normal(2, 3, 4, seed=1), normal(2, 3, 5, seed=2), normal(2, 4, 5, seed=3)
    matrix = normal(2, 4, 5, seed=4)
    ends = Synapses(Operator(matrix), {post.activity: y, pre.activity: x})
    found = held(kept.tau, inner_terms(kept), ends, start)
    each = torch.einsum("ekr,ekc->kerc", y, x) * (1 - 0.5 * matrix)
    wanted = start
    for product in each:
        wanted = 0.75 * wanted + product
    assert_close(found.after, wanted, 1e-13)
    assert torch.equal(found.before, start)
    mean = held(kept.tau, inner_terms(kept), replace(ends, weight=1 / 3), start)
    assert_close(mean.after, 0.75 * start + each.mean(0), 1e-13)


def test_surprise_is_the_reward_beyond_its_mean():
    assert (surprise * HEBB) == reward * HEBB - trace(reward, 20) * HEBB
    assert ((reward - trace(reward, tau=20)) * HEBB) == surprise * HEBB
    assert (HEBB * (2 * -surprise)) == -2 * (reward * HEBB) + 2 * (trace(reward, 20) * HEBB)
    learner = Learner(NETWORK, (term("t", (SIZE - trace(SIZE, 4)) * HEBB),))
    weights = steps(learner, 3).weights
    start = learner.draw(1, seeded(), torch.float64)
    plain = [w[0].clone() for w in start.weights]
    mean = 0.0
    for t in range(3):
        x = normal(4, seed=t)
        hidden = torch.tanh(plain[0] @ x)
        out = torch.softmax(plain[1] @ hidden, 0)
        size = (out - torch.nn.functional.one_hot(torch.tensor(t % 2), 2)).norm()
        mean = 0.75 * mean + size / 4
        ends = ((hidden, x), (out, hidden))
        plain = [
            w + 0.1 * (size - mean) * torch.outer(*e) for w, e in zip(plain, ends, strict=True)
        ]
    for found, wanted in zip(weights, plain, strict=True):
        assert_close(found[0], wanted, 1e-12)


# --- scalars of the output ---


def test_scalars_of_the_output_reach_every_group():
    learner = Learner(NETWORK, (term("t", SIZE * (scalar("confidence") * HEBB)),))
    assert isinstance(learner.system, Broadcasting)
    state = learner.draw(2, seeded(), torch.float64)
    example = Examples(normal(2, 4), torch.tensor([0, 1]))
    shown = learner.system.present(View.of(state), example, learner.reads)
    ends = shown.synapses["W2"].signals
    for name in ("W1", "W2"):
        scalars = shown.synapses[name].scalars
        assert_close(scalars["error_size"], ends[post.error].square().sum(-1).sqrt(), 1e-12)
        assert torch.equal(scalars["confidence"], ends[post.activity].max(-1).values)


@pytest.mark.parametrize("each", [False, True])
def test_in_sequences_they_are_zero_without_an_output(each):
    system = Recurrent((2, 3, 2), Timing(2, 1, 4, each=each), objective_name="mse")
    learner = Learner(system, (term("t", SIZE * HEBB),))
    state = learner.draw(1, seeded(), torch.float64)
    target = normal(1, 4, 2) if each else normal(1, 2)
    shown = learner.system.present(View.of(state), Examples(normal(1, 2, 2), target), learner.reads)
    size = {name: s.scalars["error_size"] for name, s in shown.synapses.items()}
    assert {n: v.shape[1] for n, v in size.items()} == {
        "input": 4, "recurrent": 3, "readout": 4 if each else 1
    }  # fmt: skip
    assert torch.equal(size["recurrent"], size["input"][:, 1:])
    assert (size["input"] > 0).sum() == (4 if each else 1)
    assert size["input"][0, -1] == size["readout"][0, -1]


def test_an_error_of_zero_has_a_finite_gradient():
    system = FullyConnected((2, 2), objective_name="mse")
    learner = Learner(system, (*named("error_hebbian"), term("t", SIZE * HEBB)))
    state = learner.draw(1, seeded(), torch.float64)
    state = replace(state, matrices={**state.matrices, "W1": 0 * state.matrices["W1"]})
    zeros = torch.zeros(1, 3, 2).double()
    from metaplast.tasks.batch import EpisodeBatch

    batch = EpisodeBatch(normal(1, 3, 2), zeros, normal(1, 3, 2), zeros)
    found = unroll(learner, torch.tensor([0.1, 0.1]).double(), state, batch)
    assert found.finite.all()


def test_only_probabilities_are_a_confidence():
    sure = term("t", scalar("confidence") * HEBB)
    text = refusal(Learner, FullyConnected((4, 2), objective_name="mse"), (sure,))
    assert 'scalar("confidence")' in text


# --- printed, stored, labelled ---


LATE = term("late", 2 * (reward * (post.error * eligible(0.5 * HEBB - W * HEBB, 10))))


def test_how_it_is_written():
    late = term("late", 2 * (reward * eligible(0.5 * HEBB - W * HEBB, 10)))
    assert late.spell() == "2 reward elig(0.5 yₗ yₗ₋₁ᵀ − Wₗ ⊙ yₗ yₗ₋₁ᵀ, τ=10)"
    assert LATE.spell().startswith("2 reward eₗ ⊙ elig(")
    assert LATE.spell(ASCII).endswith("W_l * y_l y_{l-1}^T, tau=10)")
    assert r"\mathrm{elig}_{\tau=10}(0.5" in LATE.spell(LATEX)
    assert term("s", surprise * HEBB).spell() == "reward yₗ yₗ₋₁ᵀ − ⟨reward, τ=20⟩ yₗ yₗ₋₁ᵀ"


def test_it_is_local_where_what_it_collects_is():
    gate = dot(post.error, post.error)
    for formula, label in (
        (eligible(HEBB, 3), "local"),
        (post.error * eligible(HEBB, 3), "local"),
        (reward * eligible(HEBB, 3), "local + broadcast scalar"),
        (eligible(reward * HEBB, 3), "local + broadcast scalar"),
        (reward * eligible(outer(post.activity, W.T @ post.activity), 3), "non-local"),
        (gate * eligible(HEBB, 3), "non-local"),
        (eligible(gate * HEBB, 3), "non-local"),
    ):
        assert term("t", formula).locality == label


def test_files_hold_it(tmp_path):
    data = term_data(LATE)
    assert read_term("late", data) == LATE
    rule = Rule.of((LATE, *named("decay")), torch.tensor([0.1, 0.2]), "fixed", {})
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json").terms == rule.terms
    other = eligible(0.5 * HEBB - W * HEBB, 11).monomials[0].eligibility
    changed = Formula(W, (replace(LATE.formula.monomials[0], eligibility=other),))
    assert is_same_formula(LATE.formula, LATE.formula + 0 * HEBB)
    assert not is_same_formula(LATE.formula, changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.update(tau=0.5),
        lambda kept: kept.update(tau="10"),
        lambda kept: kept.update(monomials=[]),
        lambda kept: kept["monomials"][0].update(row=None, column=None),
        lambda kept: kept["monomials"][0].update(eligibility={"tau": 2.0, "monomials": []}),
        lambda kept: kept.pop("tau"),
    ],
)
def test_damaged_files_are_refused(change):
    data = term_data(LATE)
    change(data["monomials"][0]["eligibility"])
    with pytest.raises(ValueError, match="late"):
        read_term("late", data)


def test_an_eligibility_takes_no_column():
    data = term_data(LATE)
    data["monomials"][0]["column"] = {"population": "pre", "kind": "activity"}
    with pytest.raises(ValueError, match="post signal only"):
        read_term("late", data)


def test_it_is_no_part_of_ojas_rule():
    late = term("late", eligible(HEBB, 3))
    pairs = [(late, 1.0), (term("t", outer(post.one, W.T @ post.one)), -1.0)]
    assert with_oja(pairs) == pairs


# --- refusals ---


@pytest.mark.parametrize(
    "make",
    [
        lambda: eligible(HEBB, 0.5),
        lambda: eligible(HEBB, "3"),
        lambda: eligible(HEBB, float("inf")),
        lambda: eligible(post.activity, 3),
        lambda: eligible(3, 3),
        lambda: eligible(eligible(HEBB, 3), 3),
        lambda: W * eligible(HEBB, 3),
        lambda: pre.activity * eligible(HEBB, 3),
        lambda: pre.error * HEBB,
        lambda: post.error * (post.activity * (post.signal("x") * eligible(HEBB, 3))),
        lambda: post.error * (post.signal("x") * HEBB),
        lambda: eligible(HEBB, 3) * eligible(HEBB, 3),
        lambda: eligible(HEBB, 3) + B,
        lambda: trace(reward, 0.5),
        lambda: reward + 1,
        lambda: reward + HEBB,
        lambda: surprise * post.error,
        lambda: surprise / 2,
        lambda: Term("t", surprise, "here"),
    ],
)
def test_what_is_no_formula_is_refused(make):
    with pytest.raises(UserError) as caught:
        make()
    assert_is_one_sentence(caught.value)


def test_the_signal_may_stand_behind():
    assert eligible(HEBB, 3) * post.error == post.error * eligible(HEBB, 3)
    assert eligible(HEBB, 3) * post.error**2 == (post.error**2) * eligible(HEBB, 3)


def test_a_factor_of_each_neuron_without_an_eligibility_is_part_of_the_row():
    """With this, formulas with τ = 1 are like those with any other τ."""
    assert post.error * eligible(HEBB, 1) == outer(post.error * post.activity, pre.activity)
    assert post.error * outer(post.one, pre.activity) == outer(post.error, pre.activity)
    assert post.one * eligible(HEBB, 3) == eligible(HEBB, 3)
    assert post.error * -W == -(W * outer(post.error, pre.one))
    both = post.error * (eligible(HEBB, 3) + 2 * HEBB)
    assert both == post.error * eligible(HEBB, 3) + 2 * outer(
        post.error * post.activity, pre.activity
    )
    assert post.error * (post.error * eligible(HEBB, 3)) == post.error**2 * eligible(HEBB, 3)


def test_steps_and_programs_without_memory_refuse_eligibilities():
    rule = Rule.of((term("late", post.error * eligible(HEBB, 3)),), torch.ones(1), "fixed", {})
    weights, backward = [torch.randn(2, 3)], [torch.randn(3, 2)]
    model = torch.nn.Sequential(torch.nn.Linear(3, 2, bias=False))
    problem = random_problem(rule.terms)
    for refused in (
        lambda: rule.step(weights, torch.randn(3), 1, backward),
        lambda: RuleOptimizer(model, rule),
        lambda: get_engine("fused").run(problem),
        lambda: unroll(
            problem.learner, problem.theta, problem.state, problem.episodes, engine="fused"
        ),
        lambda: export_rule(rule, FullyConnected((3, 2)), "torch"),
        lambda: export_rule(rule, Recurrent((2, 3, 2), Timing(2, 1, 4)), "numpy"),
    ):
        with pytest.raises(UserError, match="eligib") as caught:
            refused()
        assert_is_one_sentence(caught.value)
    for name in ("latex", "markdown", "json"):
        assert "elig" in export_rule(rule, FullyConnected((3, 2)), name).text


def test_a_torch_function_is_not_collected():
    dense = DenseFormula(W, lambda s: s.operator.tensor, frozenset(), True, "f", "f")
    assert "eligible(outer(" in refusal(eligible, dense, 3)
