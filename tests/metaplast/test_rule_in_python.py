"""A rule in a notebook: one step on plain tensors, and how it shows itself."""

import pytest
import torch
from support import TERMS, assert_close, assert_is_one_sentence, named, seeded

from metaplast import FullyConnected, Recurrent, Rule, Timing, UserError
from metaplast.systems.fixed_point import FixedPoint
from metaplast.terms.notation import LATEX

NETWORK = FullyConnected((5, 4, 4, 3))


def rule_of(*names, theta=None, feedback="fixed"):
    terms = named(*names)
    theta = torch.linspace(-0.02, 0.03, len(terms)) if theta is None else torch.tensor(theta)
    return Rule.of(terms, theta, feedback)


def drawn(rule, episodes=1):
    return rule.learner(NETWORK).draw(episodes, seeded(1), torch.float64)


def plain_loop(rule, weights, backward, x, label):
    """Return the weights after one step of a rule of F0 and oja, neuron by neuron."""
    theta = rule.coefficients
    y = [x]
    for w in weights[:-1]:
        y.append(torch.log1p(torch.exp(10 * (w @ y[-1]))) / 10)
    y.append(torch.softmax(weights[-1] @ y[-1], 0))
    e = [y[-1].clone()]
    e[0][label] -= 1
    for level in reversed(range(1, len(weights))):
        e.insert(0, (backward[level] @ e[0]) * (1 - torch.exp(-10 * y[level])))
    e.insert(0, None)
    after = []
    for layer, w in enumerate(weights):
        new = w.clone()
        for i in range(w.shape[0]):
            for j in range(w.shape[1]):
                carried = sum(y[layer + 1][k] * w[k, j] for k in range(w.shape[0]))
                oja = y[layer + 1][i] * (y[layer][j] - carried)
                new[i, j] += -theta["error_hebbian"] * e[layer + 1][i] * y[layer][j]
                new[i, j] += theta["oja"] * oja
        after.append(new)
    return after


def test_a_rule_learns_in_every_system_that_has_its_feedback():
    systems = {
        "symmetric": NETWORK,
        "truncated:1": Recurrent((5, 4, 3), Timing(1, 1, 3)),
        "implicit": FixedPoint((5, 4, 3)),
    }
    for feedback, system in systems.items():
        rule = rule_of("error_hebbian", feedback=feedback)
        assert rule.learner(system).feedback_name == feedback
    for wrong, words in ((FixedPoint((5, 4, 3)), "has no feedback truncated"), ([3], "a network")):
        with pytest.raises(UserError, match=words) as caught:
            rule_of("error_hebbian", feedback="truncated:1").learner(wrong)
        assert_is_one_sentence(caught.value)


def test_a_step_equals_a_plain_loop_over_synapses():
    rule = rule_of("error_hebbian", "oja", theta=[0.1, 0.05])
    state = drawn(rule)
    weights, backward = ([m[0] for m in group] for group in (state.weights, state.backward))
    before = [w.clone() for w in weights]
    x = torch.rand(5, generator=seeded(), dtype=torch.float64)
    got, same = rule.step(weights, x, 2, backward)
    for a, b in zip(got, plain_loop(rule, weights, backward, x, 2), strict=True):
        assert_close(a, b)
    assert all(torch.equal(a, b) for a, b in zip(same, backward, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))


@pytest.mark.parametrize("feedback", ["fixed", "symmetric", "direct", "sign-symmetric", "plastic"])
def test_a_batch_is_one_step_for_each_episode(feedback):
    names = ["error_hebbian", "error_error", "oja"]
    names += ["backward_hebbian", "backward_decay"] if feedback == "plastic" else []
    rule = rule_of(*names, feedback=feedback)
    state = drawn(rule, episodes=3)
    x = torch.rand(3, 5, generator=seeded(), dtype=torch.float64)
    label = torch.tensor([0, 2, 1])
    together = rule.step(state.weights, x, label, state.backward, activation="tanh")
    for i in range(3):
        one = [[m[i] for m in group] for group in (state.weights, state.backward)]
        alone = rule.step(one[0], x[i], label[i], one[1], activation="tanh")
        for a, b in zip(
            (*together.weights, *together.backward), (*alone.weights, *alone.backward), strict=True
        ):
            assert_close(a[i], b)
    moved = [not torch.equal(a, b) for a, b in zip(together.backward, state.backward, strict=True)]
    assert all(moved) if feedback == "plastic" else not any(moved)


def test_coefficients_of_each_layer_reach_their_layer():
    rule = rule_of("error_hebbian", theta=[[0.0], [0.1], [0.0]])
    state = drawn(rule)
    weights, backward = ([m[0] for m in group] for group in (state.weights, state.backward))
    after, _ = rule.step(weights, torch.rand(5, dtype=torch.float64), 1, backward)
    assert [torch.equal(a, b) for a, b in zip(after, weights, strict=True)] == [True, False, True]


def test_shapes_that_do_not_fit_are_one_sentence():
    rule = rule_of("error_hebbian")
    state = drawn(rule)
    (w1, w2, w3), backward = ([m[0] for m in group] for group in (state.weights, state.backward))
    x = torch.rand(5, dtype=torch.float64)
    wrong = [
        ([], x, 1, ()),
        ([w1, w3], x, 1, backward),
        ([w1, w2, w3], x[:4], 1, backward),
        ([w1, w2, w3], x[None], 1, backward),
        ([w1, w2, w3], x, 1, ()),
        ([w1, w2, w3], x, 1, [b.mT for b in backward]),
    ]
    for arguments in wrong:
        with pytest.raises(UserError) as refused:
            rule.step(*arguments)
        assert_is_one_sentence(refused.value)
    with pytest.raises(UserError, match="each of 2 layers"):
        rule_of("error_hebbian", theta=[[0.1], [0.1]]).step([w1, w2, w3], x, 1, backward)


def test_repr_is_one_line_with_the_equation():
    rule = rule_of("error_hebbian", "oja", theta=[0.1, 2e-5])
    assert repr(rule) == (
        "<Rule, fixed feedback: ΔWₗ = −0.1 eₗ yₗ₋₁ᵀ + 2e-05 (yₗ yₗ₋₁ᵀ − yₗ yₗᵀ Wₗ)>"
    )


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("feedback", ["fixed", "plastic"])
def test_notebooks_get_equation_and_table(per_layer, feedback):
    terms = [term for term in TERMS if feedback == "plastic" or not term.is_backward]
    theta = 1e-6 * torch.arange(1.0, 1 + len(terms))
    rule = Rule.of(tuple(terms), theta.expand(3, -1) if per_layer else theta, feedback)
    page, text = rule._repr_html_(), rule._repr_markdown_()
    assert page.count("<math") == page.count("</math>") > len(terms)
    for term in terms:
        assert term.name in page
        assert term.name in text
    assert "\\" not in page
    assert text.count("$$") == (4 if feedback == "plastic" else 2)
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    latex = rule._repr_latex_()
    assert latex.count("{") == latex.count("}")
    assert latex.count(" &= ") == (2 if feedback == "plastic" else 1)
    assert latex.startswith("$")
    assert latex.endswith("$")


def test_small_numbers_are_typeset_as_powers_of_ten_and_no_factor_runs_into_the_next():
    rule = rule_of("presynaptic_error", "decay", theta=[-0.0138, 2.5e-5])
    assert LATEX.number(2.5e-5) == r"2.5 \times 10^{-5}"
    assert rule.equation(LATEX) == (
        r"\Delta W_{\ell} = 0.0138\, \mathbf{1}\, e_{\ell-1}^{\top} - 2.5 \times 10^{-5}\, W_{\ell}"
    )
    assert "e-05" not in rule._repr_html_().split("<table>")[0]


def test_an_empty_rule_shows_itself():
    rule = Rule.of((), torch.zeros(0), "fixed")
    assert "ΔWₗ = 0" in repr(rule)
    assert "<mn>0</mn>" in rule._repr_html_()


def test_terms_of_one_s_own_load_with_their_rule(tmp_path):
    from metaplast import Term, outer, post, pre

    mine = Term("mine", outer(post.activity, pre.activity), "here")
    Rule.of((mine,), torch.tensor([0.5]), "fixed").save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json").terms == (mine,)
    assert Rule.load(tmp_path / "rule.json", terms=[mine]).coefficients == {"mine": 0.5}
    other = Term("mine", outer(post.error, pre.activity), "here")
    with pytest.raises(UserError, match="was written when mine meant"):
        Rule.load(tmp_path / "rule.json", terms=[other])
