"""The evolution strategy: against exact gradients, a plain loop, and in the outer loop."""

import math
from dataclasses import replace

import pytest
import torch
from support import Clouds, assert_close, assert_is_one_sentence, named, random_problem, seeded

from metaplast import DiscoveryConfig
from metaplast.base.errors import UserError
from metaplast.discovery.room import require_room
from metaplast.engines import Outcome, Problem, get_engine, unroll
from metaplast.engines.contract import Engine
from metaplast.meta.evolution import EvolutionStrategy
from metaplast.meta.gradient import scaled_gradients
from metaplast.meta.growing_loop import GrowingLoop
from metaplast.meta.growth_settings import GrowthSettings
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import View
from metaplast.terms.coefficients import Coefficients

TERMS = named("error_hebbian", "error_error", "oja", "decay")
BATCHED = get_engine("batched")


class OneByOne(Engine):
    """An engine that takes one θ for all episodes, and remembers its last problem."""

    name = summary = "one-by-one"

    def run(self, problem, *, gradient=True):
        assert problem.theta.dim() < 3
        self.last = problem
        return BATCHED.run(problem, gradient=gradient)


class Plane(Engine):
    """The loss of episode k is k + slope·θ; NaN where θ leaves the given range."""

    name = summary = "plane"
    takes_each = True

    def __init__(self, slope, most=math.inf):
        self.slope, self.most = torch.tensor(slope).double(), most

    def run(self, problem, *, gradient=True):
        theta = problem.episode_theta[:, 0]
        loss = torch.arange(len(theta)) % 2 + theta @ self.slope
        loss = torch.where((theta < self.most).all(1), loss, math.nan)
        return Outcome(loss, torch.ones_like(loss), None, problem.state)


@pytest.mark.parametrize("per_layer", [False, True])
def test_the_estimate_is_the_exact_gradient_within_its_error_bars(per_layer):
    problem = random_problem(TERMS, widths=(4, 4, 3), steps=4, per_layer=per_layer)
    exact = BATCHED.run(problem).theta_gradient
    # Units in which all terms count.
    scale = 1 / exact.abs().mean(0)
    strategy = EvolutionStrategy(200, 1e-3)
    estimates = torch.stack([
        strategy.run(BATCHED, problem, scale, seeded(s)).theta_gradient for s in range(12)
    ])  # fmt: skip
    mean, error = estimates.mean(0), estimates.std(0) / 12**0.5
    z = (mean - exact) / error
    assert z.abs().max() < 4.5
    # The bars are narrow: a wrong sign or a factor of two would be seen.
    size = (exact * scale).flatten(1).norm(dim=1)
    assert ((error * scale).flatten(1).norm(dim=1) < 0.1 * size).all()


def test_it_is_a_plain_loop():
    problem = random_problem(TERMS[:2], widths=(3, 2), steps=2)
    scale = torch.tensor([0.5, 0.2]).double()
    found = EvolutionStrategy(3, 0.1).run(BATCHED, problem, scale, seeded(4))
    draws = torch.randn(3, 2, generator=seeded(4), dtype=torch.float64)
    total = torch.zeros(2, 2).double()
    for draw in draws:
        up, down = (
            BATCHED.run(replace(problem, theta=problem.theta + s * 0.1 * draw * scale)).loss
            for s in (1, -1)
        )
        total += ((up - down) / 0.2)[:, None] * draw / 3
    assert_close(found.theta_gradient, total / scale, 1e-11)
    assert_close(scaled_gradients(found, found.finite, scale, tied=False), total, 1e-11)
    plain = BATCHED.run(problem, gradient=False)
    assert_close(found.loss, plain.loss, 1e-13)
    assert_close(found.score, plain.score, 1e-13)


def test_engines_with_one_theta_give_the_same():
    problem = random_problem(TERMS, widths=(3, 3, 2), steps=3, per_layer=True)
    scale, single = torch.ones(2, 4).double(), OneByOne()
    one, other = (
        EvolutionStrategy(3, 0.05).run(engine, problem, scale, seeded(1))
        for engine in (BATCHED, single)
    )
    assert_close(one.theta_gradient, other.theta_gradient, 1e-10)
    assert single.last is problem


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_each_episode_may_have_its_own_theta(engine):
    problem = random_problem(TERMS, widths=(3, 3, 2), steps=3, per_layer=True)
    each = torch.stack([problem.theta, 2 * problem.theta])
    found = get_engine(engine).run(replace(problem, theta=each))
    for k in (0, 1):
        alone = get_engine(engine).run(
            replace(problem.select(slice(k, k + 1)), theta=(1 + k) * problem.theta)
        )
        assert_close(found.loss[k : k + 1], alone.loss, 1e-12)
        assert_close(found.theta_gradient[k : k + 1], alone.theta_gradient, 1e-12)
    with pytest.raises(UserError, match="--engine batched"):
        unroll(problem.learner, each, problem.state, problem.episodes, engine="fused")


def test_a_pair_that_diverges_is_left_out_and_without_pairs_there_is_no_gradient():
    problem = replace(random_problem(TERMS[:2], widths=(3, 2)), theta=torch.zeros(2).double())
    scale = torch.ones(2).double()
    whole = EvolutionStrategy(40, 0.1).run(Plane([1.0, -2.0]), problem, scale, seeded())
    part = EvolutionStrategy(40, 0.1).run(Plane([1.0, -2.0], 0.15), problem, scale, seeded())
    for found in (whole, part):
        assert found.finite.all()
        assert (found.theta_gradient * torch.tensor([1.0, -1.0]) > 0).all()
    assert not torch.equal(whole.theta_gradient, part.theta_gradient)
    none = EvolutionStrategy(4, 0.1).run(Plane([1.0, 1.0], -9.0), problem, scale, seeded())
    assert not none.finite.any()


# --- in the outer loop ---


ES = OuterSettings(
    episodes=40, meta_batch=2, meta_lr=1e-2, l1=0.01, estimator="es", pairs=3, spread=5e-3
)


def loop_of(
    settings,
    *,
    engine=BATCHED,
    kind=OuterLoop,
    sampler=None,
    start=(1e-2, 0.0, 0.0, 0.0),
    **options,
):
    learner = Learner.on_stack(FullyConnected((6, 4, 3)), "fixed", TERMS)
    names = tuple(term.name for term in TERMS)
    theta = Coefficients(names, torch.tensor(start, dtype=torch.float64))
    return kind("search", learner, sampler or Clouds(), engine, settings, theta, **options)


def test_the_outer_loop_learns_and_resumes_to_the_bit():
    whole, first = (loop_of(replace(ES, episodes=8)) for _ in range(2))
    whole.run()
    first.run_step()
    first.run_step()
    second = loop_of(replace(ES, episodes=8))
    second.restore(first.state())
    second.run()
    assert torch.equal(whole.theta, second.theta)
    assert whole.theta.abs().min() >= 0
    assert not torch.equal(whole.theta, loop_of(ES).theta)


def test_a_growing_rule_and_its_looks_use_it_too():
    growth = GrowthSettings(train=2, look=1, bar=0.0, clip=1.0, least=0.0)
    loop = loop_of(ES, kind=GrowingLoop, growth=growth)
    for _ in range(4):
        record = loop.run_step()
        assert math.isfinite(record.gradient_norm)
    assert torch.isfinite(loop.theta).all()


def test_the_default_spread_is_the_step_size():
    one, other = (loop_of(replace(ES, spread=s)) for s in (None, ES.meta_lr))
    one.run_step()
    other.run_step()
    assert torch.equal(one.theta, other.theta)


@pytest.mark.parametrize(
    "wrong", [{"estimator": "cma"}, {"pairs": 0}, {"spread": 0.0}, {"spread": math.nan}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UserError) as caught:
        DiscoveryConfig(**wrong)
    assert_is_one_sentence(caught.value)


def test_all_perturbed_rules_must_fit_into_memory(monkeypatch):
    config = DiscoveryConfig(terms="bio", hidden=(5,), estimator="es", engine="batched", pairs=9)
    learner = Learner(config.build_system(64, 10), config.choice.terms)
    room = {"refits": False, "own_data": True, "at_once": 1}
    needs = []
    monkeypatch.setattr(
        "metaplast.discovery.room.require_memory", lambda each, *_, **__: needs.append(each)
    )
    require_room(config, learner, **room)
    require_room(replace(config, pairs=4), learner, **room)
    require_room(replace(config, estimator="gradient"), learner, **room)
    assert needs[0] * 9 == needs[1] * 19
    assert needs[2] < needs[1]


def test_a_system_without_gradient_is_told_the_estimator():
    class Drawing(FullyConnected):
        differentiable = False

    problem = random_problem(TERMS, widths=(3, 2), steps=2)
    learner = Learner(Drawing((3, 2)), TERMS)
    problem = Problem(learner, problem.theta, problem.state, problem.episodes)
    for engine in ("reference", "batched"):
        with pytest.raises(UserError, match="--estimator es") as caught:
            get_engine(engine).run(problem)
        assert_is_one_sentence(caught.value)
        assert get_engine(engine).run(problem, gradient=False).theta_gradient is None


class Planted(Clouds):
    """Tasks whose query labels are the outputs of a network that learned by a rule of TERMS."""

    rule = torch.tensor([0.06, -0.04, 0.03, 0.02], dtype=torch.float64)

    def sample(self, episodes, generator):
        batch = super().sample(episodes, generator).to(torch.float64)
        learner = Learner.on_stack(FullyConnected((6, 4, 3)), "fixed", TERMS)
        start = learner.draw(episodes, generator, torch.float64)
        final = unroll(learner, self.rule, start, batch, engine="batched", gradient=False).final
        labels = torch.softmax(learner.system.output(View.of(final), batch.query_x), -1)
        return replace(batch, query_y=labels, initial=start)


@pytest.mark.slow
def test_it_finds_the_coefficients_of_a_rule_of_four_terms():
    settings = OuterSettings(
        episodes=1200, meta_batch=4, meta_lr=4e-3, clip=0.0, estimator="es", pairs=16,
        signs=False,
    )  # fmt: skip
    loop = loop_of(settings, start=(1e-2, 0.0, 0.0, 0.0), sampler=Planted())
    loop.run()
    assert ((loop.fitted.tensor - Planted.rule).abs() <= 0.15 * Planted.rule.abs()).all(), (
        loop.theta
    )
