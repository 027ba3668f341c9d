"""Learning that starts from given coefficients, or from those of a rule file."""

import re
from pathlib import Path

import pytest
import torch
from support import Clouds, assert_is_one_sentence, named

from metaplast.base.errors import UserError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.engines import get_engine
from metaplast.meta.loop_tasks import CALIBRATION
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.scale import start_units, term_sizes
from metaplast.meta.settings import OuterSettings
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.algebra import outer, post, pre
from metaplast.terms.clocks import clocks_of, retimed
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import choose_terms, get_term
from metaplast.terms.term import Term

# Shortest decimals of these have many digits.
THETA = (0.1 / 3, -0.07 / 3)
TINY = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 8, "meta_batch": 2, "refit": 0,
    "validation": 4, "test_episodes": 4, "l1": 0.0,
}  # fmt: skip


def rule_file(folder, terms=("error_hebbian", "e_wty"), theta=(THETA,), feedback="fixed", **more):
    path = folder / "rule.json"
    Rule(tuple(map(get_term, terms)), theta, feedback, **more).save(path)
    return path


def test_names_may_have_an_initial_coefficient():
    choice = choose_terms("F0=0.02, e_wty,oja=-1e-3")
    assert [term.name for term in choice.terms] == ["error_hebbian", "e_wty", "oja"]
    assert choice.starts == {"error_hebbian": 0.02, "oja": -1e-3}
    assert [choice.begin(term).initial for term in choice.terms] == [0.02, 0.0, -1e-3]
    assert choice.is_pool
    assert choose_terms("F0=0.5").starts == {"error_hebbian": 0.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("F0=x", "takes a number after F0=, as in F0=0.02, got 'x'"),
        ("F0=", "got ''"),
        ("F0=1e999,F2", "got '1e999'"),
        ("F0=0.1,error_hebbian=0.2", "each term may occur once"),
        ("decay=-0.1", "cannot start at -0.1"),
        ("products=3", "goes with one term, got 'products=3'"),
        ("bio=3", "goes with one term, got 'bio=3'"),
        ("F0=0.1*fading:250", r"goes with the name of one pool"),
        ("mine/rule.json*fading:250", r"goes with the name of one pool"),
        ("nothing=3", "unknown term 'nothing'"),
        ("F0 = 0.02", "write F0=0.02 without spaces"),
        ("=0.3", "got '=0.3'"),
    ],
)
def test_a_wrong_coefficient_is_refused(text, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        choose_terms(text)
    assert_is_one_sentence(caught.value)


def test_a_rule_file_gives_terms_coefficients_and_feedback(tmp_path):
    path = rule_file(tmp_path, feedback="direct")
    config = DiscoveryConfig(terms=str(path), **TINY)
    assert (config.feedback_name, config.choice.is_pool) == ("direct", True)
    assert config.choice.starts == {"error_hebbian": THETA[0], "e_wty": THETA[1]}
    assert [term.name for term in config.choice.terms] == ["error_hebbian", "e_wty"]
    assert DiscoveryConfig(terms=path, **TINY) == config
    assert DiscoveryConfig(terms=path, feedback="fixed", **TINY).feedback_name == "fixed"
    # The run does not depend on the file any more.
    assert DiscoveryConfig(terms=path.rename(tmp_path / "RULE.JSON"), **TINY) == config
    (tmp_path / "RULE.JSON").unlink()
    assert DiscoveryConfig.from_json(config.to_json()) == config


def test_learning_starts_at_the_coefficients_of_the_file(tmp_path):
    config = DiscoveryConfig(terms=rule_file(tmp_path), dtype="float64", **TINY)
    seen = []

    class Watcher:
        def record(self, loop, record):
            if record.stage == "search":
                seen.append({name: value[0] for name, value in record.theta.items()})

        def tested(self, name, episodes):
            pass

    rule = Discovery(config, observers=[Watcher()]).find()
    assert seen[0] == pytest.approx({"error_hebbian": THETA[0], "e_wty": THETA[1]}, rel=1e-12)
    assert seen[0] != seen[-1]
    rule.save(tmp_path / "found.json")
    found = Rule.load(tmp_path / "found.json")
    assert found.terms == (get_term("error_hebbian"), get_term("e_wty"))


def test_a_rule_keeps_the_units_in_which_it_was_found(tmp_path):
    """In units set by its largest update, single steps would ruin the small coefficients."""
    terms = ("error_hebbian", "e_wty", "y_y")
    rule = rule_file(tmp_path, terms, ((0.04, 0.03, 0.002),))
    found = [
        Discovery(DiscoveryConfig(terms=text, **TINY))._search().scale.columns()
        for text in (",".join(terms), str(rule))
    ]
    # The sizes of updates depend on the coefficients, but which of them is the unit does not.
    assert [scale["error_hebbian"] for scale in found] == [[1.0], [1.0]]
    assert all(scale["y_y"][0] < 1 for scale in found)
    without = rule_file(tmp_path, ("e_wty", "y_y"), ((0.03, 0.002),))
    config = DiscoveryConfig(terms=without, dtype="float64", **TINY)
    units = Discovery(config)._search().scale.columns()
    assert units == {"e_wty": [0.03], "y_y": [0.002]}


@pytest.mark.parametrize("started", [False, True])
def test_given_coefficients_are_no_guess(tmp_path, started):
    text = "error_hebbian=0.02,oja" if started else "error_hebbian,oja"
    search = Discovery(DiscoveryConfig(terms=text, **TINY))._search()
    assert (search.cold, search.shrinks) == (not started, not started)


def test_a_growing_rule_begins_with_the_terms_that_were_given():
    config = DiscoveryConfig(terms="F0=0.02,oja,F2=-0.01", entry=4, **TINY)
    search = Discovery(config)._search()
    assert search.growth.positions == [0, 2]
    assert search.theta.tolist() == pytest.approx([0.02, 0.0, -0.01])


def test_a_given_coefficient_must_have_the_sign_that_was_asked_for():
    with pytest.raises(UserError, match=r"error_hebbian begins at -0\.02") as caught:
        Discovery(DiscoveryConfig(terms="F0=-0.02,oja", positive="F0", **TINY))
    assert_is_one_sentence(caught.value)


def test_an_unfit_rule_file_is_refused(tmp_path):
    mine = Term("mine", outer(post.activity, pre.error), "made up")
    slow = retimed([get_term("covariance")], {clocks_of([get_term("covariance")])[0]: 17.3})[0]
    rules = {
        "for each layer": Rule(named("error_hebbian"), ((0.1,), (0.2,)), "fixed"),
        "has none": Rule((), ((),), "fixed"),
        "'mine' that is not installed": Rule((mine,), ((0.1,),), "fixed"),
        "'covariance' with a learned time": Rule((slow,), ((0.1,),), "fixed"),
    }
    for words, rule in rules.items():
        rule.save(tmp_path / "rule.json")
        with pytest.raises(UserError, match=words) as caught:
            DiscoveryConfig(terms=tmp_path / "rule.json", **TINY)
        assert_is_one_sentence(caught.value)
    for text in ("{}", "[1", '{"format": "something"}'):
        (tmp_path / "rule.json").write_text(text)
        with pytest.raises(UserError, match=re.escape(str(tmp_path))) as caught:
            DiscoveryConfig(terms=tmp_path / "rule.json", **TINY)
        assert_is_one_sentence(caught.value)
    with pytest.raises(UserError, match=r"cannot read a rule from nothing\.json"):
        DiscoveryConfig(terms=Path("nothing.json"), **TINY)


def loop_of(scaling, start, **settings):
    terms = named("error_hebbian", "oja", "decay")
    learner = Learner.on_stack(FullyConnected((6, 5, 3)), "fixed", terms)
    theta = Coefficients([term.name for term in terms], torch.tensor(start, dtype=torch.float64))
    outer_settings = OuterSettings(
        meta_batch=4, meta_lr=0.1, optimizer="SGD", schedule="constant", scaling=scaling, **settings
    )
    options = (Clouds(), get_engine("batched"), outer_settings, theta)
    return OuterLoop("search", learner, *options)


def test_coefficients_may_be_learned_in_units_of_where_they_start():
    start = [0.02, -0.003, 0.0]
    own, down = loop_of("start", start)._theta.scale, loop_of("down", start)._theta.scale
    assert own[:2].tolist() == [0.02, 0.003]
    # The update of the third term is then as large as those of the others at their start.
    sizes = loop_of("none", start)
    problem = sizes.problem(CALIBRATION, 4, sizes.theta)
    each = term_sizes(sizes.learner, sizes.theta, problem.state, problem.episodes)
    each = each.square().mean(0).sqrt()
    begun = (each * torch.tensor(start).abs())[:2].square().mean().sqrt()
    assert down[2] < 1
    assert float(own[2] * each[2]) == pytest.approx(float(begun), rel=1e-6)


@pytest.mark.parametrize("size", [float("nan"), float("inf"), 0.0])
def test_units_are_positive_whatever_the_sizes(size):
    theta = torch.tensor([[0.02, 0.0], [0.0, 0.0]], dtype=torch.float64)
    sizes = torch.tensor([[size, 2.0], [1.0, 0.0]], dtype=torch.float64)
    found = start_units(sizes, theta)
    assert float(found[0, 0]) == 0.02
    assert bool((found > 0).all())
    assert bool((found <= 1).all())


def test_baselines_keep_their_own_units(tmp_path):
    settings = TINY | {"episodes": 160, "shots": 20}
    found = {}
    for scaling in ("down", "start"):
        config = DiscoveryConfig(terms=rule_file(tmp_path), scaling=scaling, **settings)
        found[scaling] = Discovery(config).run()
    one, other = (r.heldout["backprop"].score.tolist() for r in found.values())
    assert one == other
    assert found["down"].rule != found["start"].rule


def test_perturbations_are_then_shares_of_each_coefficient():
    start = [0.02, -0.003, 0.0]
    thetas = []
    loop = loop_of("start", start, estimator="es", spread=0.1, pairs=500)
    run = loop._drawn.engine.run

    class Watched:
        takes_each = False

        def run(self, problem, *, gradient=True):
            thetas.append(problem.theta)
            return run(problem, gradient=gradient)

    loop._drawn.engine = Watched()
    loop.run_step()
    spread = torch.stack(thetas[:-1]).std(0)
    assert (spread[:2] / torch.tensor(start[:2]).abs()).tolist() == pytest.approx(
        [0.1] * 2, rel=0.1
    )
