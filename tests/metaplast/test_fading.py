"""Terms that fade: 1/(1 + n/τ), on every engine and in every choice of terms.

Programs: tests/export/test_memory_exports.py.
"""

from dataclasses import replace

import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, random_problem, refusal

from metaplast import Rule, Term, fading, outer, post, pre, trace
from metaplast.base.errors import UserError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.engines import choose_engine, get_engine
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.state import View
from metaplast.systems.system import Examples
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import W, dot
from metaplast.terms.faded import faded, fades, split_faded
from metaplast.terms.fading import fading_of
from metaplast.terms.library import choose_terms, get_term
from metaplast.terms.notation import ASCII, LATEX
from metaplast.terms.term import DenseFormula

ENGINES = ("batched", "fused")
NETWORK = FullyConnected((5, 4, 3))


def term(name, formula):
    return Term(name, formula, "made up")


FADED = (
    *named("error_hebbian", "decay", "oja"),
    *(get_term(name) for name in ("error_hebbian_fading_3", "decay_fading_2_5", "oja_fading_3")),
    term("gated", fading(4) * (dot(post.error, post.error) * outer(post.error, pre.activity))),
    term("traced", fading(4) * outer(post.error, trace(pre.activity, 3))),
    term("twice", fading(2) * (fading(4) * outer(post.error, pre.one))),
)
BACK = tuple(faded(t, 3) for t in named("backward_hebbian", "backward_decay", "backward_error_oja"))


def problem_of(feedback="fixed", **options):
    terms = FADED + (BACK if feedback == "plastic" else ())
    return random_problem(terms, feedback=feedback, **{"widths": (6, 5, 3), "steps": 7} | options)


def assert_outcomes_agree(found, expected, tolerance=1e-12):
    pairs = [(found.loss, expected.loss), (found.theta_gradient, expected.theta_gradient)]
    pairs += [(m, expected.final.matrices[k]) for k, m in found.final.matrices.items()]
    pairs += [(v, expected.final.carry[k]) for k, v in found.final.carry.items()]
    for a, b in pairs:
        assert (a - b).abs().max() <= tolerance * max(float(b.abs().max()), 1e-3)


def test_a_faded_step_is_a_plain_product():
    """Three steps, each with the coefficient divided by 1 + n/τ by hand."""
    plain = Learner(NETWORK, named("error_hebbian"))
    fades = Learner(NETWORK, (faded(*named("error_hebbian"), 3),))
    draw = torch.Generator().manual_seed(0)
    one, two = (
        each.draw(2, torch.Generator().manual_seed(1), torch.float64) for each in (plain, fades)
    )
    theta = torch.full((2, 2, 1), 0.3, dtype=torch.float64)
    for t in range(3):
        x = torch.rand(2, 5, dtype=torch.float64, generator=draw)
        example = Examples(x, torch.tensor([0, 2]))
        one = plain.step(one, theta / (1 + t / 3), example)
        two = fades.step(two, theta, example)
    for name, matrix in one.matrices.items():
        assert_close(two.matrices[name], matrix, 1e-14)
    assert two.carry["age"].tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("feedback", "per_layer"), [("fixed", False), ("symmetric", True), ("plastic", False)]
)
def test_engines_agree(engine, feedback, per_layer):
    problem = problem_of(feedback, per_layer=per_layer)
    expected = get_engine("reference").run(problem)
    found = get_engine(engine).run(problem)
    assert_outcomes_agree(found, expected)
    assert (found.theta_gradient != 0).any(0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_gradient_is_that_of_finite_differences(engine):
    problem, engine, step = problem_of(), get_engine(engine), 1e-5
    gradient = engine.run(problem).theta_gradient
    for index in range(problem.theta.numel()):
        nudge = torch.zeros_like(problem.theta)
        nudge[index] = step
        up, down = (
            engine.run(replace(problem, theta=problem.theta + s), gradient=False).loss
            for s in (nudge, -nudge)
        )
        gap = gradient[:, index] - (up - down) / (2 * step)
        assert gap.abs().max() <= 2e-8 * max(1, float(gradient.abs().max()))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_episode_continues_at_its_age(engine):
    """Two halves, the second from the final state of the first, are one episode."""
    problem, run = problem_of(), get_engine(engine).run
    whole, half = run(problem, gradient=False), problem.episodes.steps // 2
    state = problem.state
    for part in (slice(None, half), slice(half, None)):
        batch = problem.episodes
        batch = replace(
            batch, support_x=batch.support_x[:, part], support_y=batch.support_y[:, part]
        )
        found = run(replace(problem, state=state, episodes=batch), gradient=False)
        state = found.final
    for name, matrix in whole.final.matrices.items():
        assert_close(state.matrices[name], matrix, 1e-12)
    assert (state.carry["age"] == problem.episodes.steps).all()


def test_dark_pixels_change_nothing():
    """Their weights fade too, and the fused engine leaves them out of its products."""
    problem = problem_of()
    batch = problem.episodes
    x, q = batch.support_x.clone(), batch.query_x.clone()
    x[..., 2], q[..., 2] = 0, 0
    problem = replace(problem, episodes=replace(batch, support_x=x, query_x=q))
    expected = get_engine("reference").run(problem)
    assert_outcomes_agree(get_engine("fused").run(problem), expected)


def test_auto_runs_a_faded_rule_fused():
    learner = Learner(NETWORK, FADED)
    assert choose_engine("auto", learner, torch.device("cpu")).name == "fused"


def test_time_steps_of_a_sequence_share_the_age_of_their_example():
    system = Recurrent((4, 3, 2), Timing(1, 1, 5))
    learner = Learner(system, (faded(*named("error_hebbian"), 3),))
    state = learner.draw(2, torch.Generator().manual_seed(0), torch.float64)
    state.carry["age"].fill_(6)
    example = Examples(torch.rand(2, 1, 4, dtype=torch.float64), torch.tensor([0, 1]))
    shown = learner.system.present(View.of(state), example, learner.reads)
    for synapses in shown.synapses.values():
        factor = synapses.scalars["fading_3"]
        assert factor.shape == (2, synapses.count)
        assert torch.equal(factor, torch.full_like(factor, 1 / 3))


@pytest.mark.parametrize("text", ["products", "all", "decay", "bio"])
def test_a_choice_has_every_term_and_its_faded_form(text):
    plain, both = choose_terms(text), choose_terms(f"{text}*fading:250")
    assert both.terms == (*plain.terms, *(faded(term, 250) for term in plain.terms))
    assert (both.feedback, both.is_named, both.grows) == (
        plain.feedback, plain.is_named, plain.grows
    )  # fmt: skip
    assert both.is_pool
    assert both.text == f"{text}*fading:250"


@pytest.mark.parametrize(
    ("system", "text"),
    [("fully-connected", "all"), ("fully-connected", "products"), ("recurrent", "all"),
     ("fixed-point", "all")],
)  # fmt: skip
def test_a_discovery_has_the_faded_terms_of_its_pool(system, text):
    plain, both = (
        DiscoveryConfig(terms=each, system=system, hidden=(9,)).choice.terms
        for each in (text, f"{text}*fading:250")
    )
    assert both == (*plain, *(faded(term, 250) for term in plain))


def test_what_fades_already_gets_no_other_form():
    slower = term("slower", fading(3) * outer(post.error, pre.activity))
    assert fades(slower)
    assert not fades(*named("oja"))
    assert "no term" in refusal(choose_terms, "oja_fading_250*fading:250")


def test_local_terms_stay_local_and_others_do_not_become_so():
    chosen = choose_terms("products*fading:250").limited("local")
    local = choose_terms("products").limited("local")
    assert len(chosen.terms) == 2 * len(local.terms)
    rewarded = faded(get_term("rewarded_eligibility"), 250)
    assert rewarded.locality == get_term("rewarded_eligibility").locality
    assert rewarded.locality == "local + broadcast scalar"


@pytest.mark.parametrize(
    "name",
    [
        "oja_fading_0",
        "oja_fading_-3",
        "oja_fading_1e400",
        "oja_fading_0250",
        "oja_fading_250_0",
        "oja_fading_99999999999",
    ],
)
def test_a_name_with_a_wrong_time_constant_is_one_sentence(name):
    sentence = refusal(get_term, name)
    assert "_fading_250" in sentence
    assert name in sentence


@pytest.mark.parametrize("tau", ["", "x", "0", "-3", "nan", "inf", "1e10"])
def test_a_wrong_time_constant_is_one_sentence(tau):
    with pytest.raises(UserError) as caught:
        choose_terms(f"products*fading:{tau}")
    assert_is_one_sentence(caught.value)
    assert "products*fading:250" in str(caught.value)


def test_other_mistakes_are_one_sentence():
    assert "unknown" in refusal(choose_terms, "productz*fading:250")
    dense = DenseFormula(W, lambda synapses: synapses.weight, (), True, "f", "f")
    assert "torch function" in refusal(faded, term("dense", dense), 3)
    with pytest.raises(UserError):
        fading(0.5)
    assert "unknown" in refusal(get_term, "nothing_fading_3")
    assert "function of time" in refusal(trace, fading(250), 5)
    for text in ("decay,oja*fading:5", "decay*fading:5,oja", "oja decay*fading:5"):
        assert "oja_fading_250" in refusal(choose_terms, text)


def test_names_say_what_fades_and_how():
    assert split_faded("error_hebbian_fading_2_5") == ("error_hebbian", 2.5)
    assert split_faded("error_hebbian_fading") is None
    assert (fading_of("fading_250"), fading_of("fading_0"), fading_of("reward")) == (
        250,
        None,
        None,
    )
    found = get_term("F0_fading_250")
    assert (found.name, found.initial, found.in_pool) == (
        "error_hebbian_fading_250",
        get_term("F0").initial,
        False,
    )
    assert found.spell() == "−(1+n/250)⁻¹ eₗ yₗ₋₁ᵀ"
    assert found.spell(ASCII).startswith("-(1+n/250)^-1")
    assert "(1+n/250)^{-1}" in found.spell(LATEX)


def test_a_rule_file_keeps_it(tmp_path):
    rule = Rule(FADED[:5], ((0.1, 0.01, 0.02, 0.3, 0.01),), "fixed")
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json") == rule
