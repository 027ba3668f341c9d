"""Time constants learned with θ: the gradient with respect to log τ, the outer loop, whole runs."""

import io
import json
import math
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from support import Clouds, assert_close, essence, normal, refusal, seeded
from systems.settings import SETTINGS

from episodes.planted import PlantedSampler
from metaplast import DiscoveryConfig, Learner, Rule, discover
from metaplast.base.plain_data import DataError
from metaplast.base.tensors import copied
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_folder import RunFiles
from metaplast.discovery.stages import CHECKPOINT
from metaplast.engines import Outcome, Problem, get_engine
from metaplast.export import export_rule
from metaplast.meta.evolution import EvolutionStrategy
from metaplast.meta.growing_loop import GrowingLoop
from metaplast.meta.growth_settings import GrowthSettings
from metaplast.meta.loop_state import read_stages
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.report.facts import facts
from metaplast.report.run import read_run
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.timed import log_taus, timed, with_log_taus
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.algebra import W, dot, eligible, outer, post, pre, scalar, sign, trace
from metaplast.terms.clocks import Clock, clocks_of, differ_in_tau_alone, retimed
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import DenseFormula, Term
from metaplast.watch.result_tables import taus_table

BATCHED = get_engine("batched")
SIZE = scalar("error_size")


def term(name, formula, **options):
    return Term(name, formula, "made up", **options)


def slow(tau, initial=0.1):
    return term("slow", -outer(post.error, trace(pre.activity, tau)), initial=initial)


# --- the gradient ---


def remembering(system):
    """Return terms with traces on either side, and in and around an eligibility."""
    group = system.groups[0]
    sides = ("pre", "post")
    before, after = (
        sorted((s for s in group.offers if s.population == side), key=str)[0] for side in sides
    )
    late = eligible(outer(post.one, trace(before, 3)), 2.5)
    return (
        term("slow_pre", outer(post.one, trace(before, 3))),
        term("slow_post", outer(trace(after**2, 4), before)),
        term("late", after * late),
    )


def problem_of(system, terms, setting, theta=None):
    learner = Learner(timed(system, terms), terms)
    theta = setting.size * normal(len(terms), seed=5) if theta is None else theta
    return Problem(learner, theta, learner.draw(2, seeded(), torch.float64), setting.batch())


def plain_problem(system, terms, like):
    """Return the problem without learned time constants."""
    learner = Learner(system, terms)
    state = learner.draw(2, seeded(), torch.float64)
    return replace(like, learner=learner, state=state)


def logs_of(problem):
    return torch.cat(log_taus(problem.state, problem.learner.clocks), 1)


def at(problem, logs):
    return replace(problem, state=with_log_taus(problem.state, problem.learner.clocks, logs))


def numeric(problem, step=1e-5):
    """Return the gradient with respect to log τ by central differences, [episode, clock]."""
    found = []
    for nudge in step * torch.eye(len(problem.learner.clocks)).double():
        up, down = (
            BATCHED.run(at(problem, logs_of(problem) + way * nudge), gradient=False).loss
            for way in (1, -1)
        )
        found.append((up - down) / (2 * step))
    return torch.stack(found, 1)


@pytest.mark.parametrize(
    "name",
    [
        "stack, fixed", "stack, eligible", "perturbed, eligible",
        pytest.param("recurrent, plastic, mse", marks=pytest.mark.slow),
        pytest.param("leaky, rates, each step", marks=pytest.mark.slow),
        pytest.param("fixed point, mini-batches", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_gradient_to_log_tau_is_that_of_finite_differences(name):
    setting = SETTINGS[name]
    memory = remembering(setting.system)
    problem = problem_of(setting.system, memory, setting)
    wanted, found = (get_engine(engine).run(problem) for engine in ("reference", "batched"))
    assert [clock.tau for clock in problem.learner.clocks] == [3, 4, 2.5]
    assert wanted.tau_gradient.abs().min() > 0
    assert_close(found.tau_gradient, wanted.tau_gradient, 1e-8)
    assert_close(found.theta_gradient, wanted.theta_gradient, 1e-8)
    assert_close(found.tau_gradient, numeric(problem), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SETTINGS if SETTINGS[n].system.differentiable])
def test_engines_agree_on_it_in_every_system(name):
    setting = SETTINGS[name]
    terms = (*setting.terms, *remembering(setting.system))
    problem = problem_of(setting.system, terms, setting)
    wanted, found = (get_engine(engine).run(problem) for engine in ("reference", "batched"))
    assert (wanted.tau_gradient.abs().amax(0) > 0).sum() >= 3
    assert_close(found.tau_gradient, wanted.tau_gradient, 1e-8)
    assert_close(found.theta_gradient, wanted.theta_gradient, 1e-8)


def test_long_episodes_are_carried_back_in_segments():
    """Over several segments, with steps undone in place, and with all their states kept."""
    setting = SETTINGS["stack, fixed"]
    batch, memory = setting.batch(steps=23), remembering(setting.system)[:2]
    problem = replace(problem_of(setting.system, memory, setting), episodes=batch)
    wanted, found = (get_engine(engine).run(problem) for engine in ("reference", "batched"))
    assert_close(found.tau_gradient, wanted.tau_gradient, 1e-8)


def test_a_learned_tau_changes_nothing_until_it_moves():
    setting = SETTINGS["recurrent, plastic, mse"]
    terms = remembering(setting.system)
    problem = problem_of(setting.system, terms, setting)
    plain = plain_problem(setting.system, terms, problem)
    one, other = BATCHED.run(problem), BATCHED.run(plain)
    assert plain.learner.clocks == ()
    assert other.tau_gradient is None
    assert_close(one.loss, other.loss, 1e-13)
    # When it has moved, the result is that of the rule with the other τ.
    taus = dict(zip(problem.learner.clocks, (5.0, 2.0, 7.0), strict=True))
    moved = BATCHED.run(at(problem, torch.tensor([5.0, 2.0, 7.0]).double().log()))
    wanted = BATCHED.run(plain_problem(setting.system, retimed(terms, taus), problem))
    assert_close(moved.loss, wanted.loss, 1e-13)
    assert_close(moved.theta_gradient, wanted.theta_gradient, 1e-12)


@pytest.mark.parametrize("name", ["stack, fixed", "recurrent, plastic, mse"])
def test_at_tau_one_the_gradient_is_finite(name):
    """With τ = 1, 1 − 1/τ and its powers are 0, and nothing may be divided by them."""
    setting = SETTINGS[name]
    problem = problem_of(setting.system, remembering(setting.system), setting)
    problem = at(problem, torch.zeros(3).double())
    wanted, found = (get_engine(engine).run(problem) for engine in ("reference", "batched"))
    assert_close(found.tau_gradient, wanted.tau_gradient, 1e-10)
    assert found.tau_gradient.abs().min() > 0


def test_scalars_have_time_constants_too():
    setting = SETTINGS["stack, fixed"]
    terms = (term("mean", trace(SIZE, 3) * outer(post.activity, pre.activity)),)
    problem = problem_of(setting.system, terms, setting)
    assert [clock.name for clock in problem.learner.clocks] == ["error_size_trace_3"]
    found = BATCHED.run(problem).tau_gradient
    assert found.abs().min() > 0
    assert_close(found, numeric(problem), 1e-6)


def test_an_estimate_without_gradients_is_the_exact_gradient_within_its_error_bars():
    setting = SETTINGS["stack, fixed"]
    problem = problem_of(setting.system, remembering(setting.system), setting)
    exact = BATCHED.run(problem)
    strategy = EvolutionStrategy(pairs=400, spread=1e-4, tau_spread=2e-3)
    scale = torch.full_like(problem.theta, 0.05)
    found = strategy.run(BATCHED, problem, scale, seeded(3))
    # The perturbations of θ and of log τ add noise to each other's estimates.
    size = (exact.theta_gradient * scale * 1e-4).norm(dim=1) + (exact.tau_gradient * 2e-3).norm(
        dim=1
    )
    error = (found.tau_gradient - exact.tau_gradient).abs().amax(1) * 2e-3
    assert (error < 4 * size / math.sqrt(400)).all()
    assert (exact.tau_gradient.abs().amax(1) * 2e-3 > 4 * size / math.sqrt(400)).any()


# --- clocks ---


def test_terms_with_one_trace_share_its_time_constant():
    shared = trace(post.activity, 7)
    projected = outer(post.error, W.T @ shared)
    gated = dot(shared, shared) * outer(sign(shared), pre.activity)
    kept = eligible(outer(shared, trace(pre.activity, 3)), 7)
    terms = [term("a", projected), term("b", gated), term("c", trace(SIZE, 5) * kept)]
    names = [clock.name for clock in clocks_of(terms)]
    assert names[:3] == [
        "post.activity_trace_7", "error_size_trace_5", "pre.activity_trace_3"
    ]  # fmt: skip
    assert names[3].startswith("eligibility_7 of ")
    taus = dict(zip(clocks_of(terms), (7.25, 2.0, 1.0, 1234567.0), strict=True))
    found = retimed(terms, taus)
    assert [clock.tau for clock in clocks_of(found)] == [7.25, 2.0, 1.0, 1234570.0]
    other = trace(post.activity, 7.25)
    assert found[0].formula == outer(post.error, W.T @ other)
    assert found[1].formula == dot(other, other) * outer(sign(other), pre.activity)
    assert all(map(differ_in_tau_alone, terms, found))
    assert not differ_in_tau_alone(terms[0], terms[1])
    assert retimed(terms, {}) == tuple(terms)
    assert Clock(shared).spell() == "⟨yₗ, τ=7⟩"


def test_what_a_torch_function_reads_is_not_learned():
    shared = trace(post.activity, 7)
    dense = DenseFormula(W, lambda s: s.operator.tensor, {shared}, True, "W", "W")
    assert clocks_of([term("a", outer(shared, trace(pre.activity, 2))), term("d", dense)]) == (
        Clock(trace(pre.activity, 2)),
    )


# --- the outer loop ---

NETWORK = FullyConnected((6, 5, 3))


def loop_of(sampler, terms, kind=OuterLoop, engine=BATCHED, more=None, **settings):
    learner = Learner(timed(NETWORK, terms), terms)
    given = {"meta_batch": 8, "scaling": "none", "tau_lr": 0.3, "meta_lr": 0.02, **settings}
    start = Coefficients.initial(terms, torch.float64, None)
    return kind("search", learner, sampler, engine, OuterSettings(**given), start, **more or {})


def planted(tau, theta=0.2, steps=8):
    """Return tasks of a teacher that learned by a rule with a trace."""
    teacher = Learner(NETWORK, (slow(tau),))
    return PlantedSampler(
        Clouds(steps=steps, queries=8), teacher=teacher, theta=torch.tensor([theta]).double()
    )


@pytest.mark.slow
@pytest.mark.parametrize("start", [1.5, 8])
def test_a_planted_time_constant_is_read_back(start):
    loop = loop_of(planted(4), (slow(start, 0.2),), episodes=32 * 50, meta_batch=32)
    loop.run()
    ((clock, tau),) = loop.fitted_taus.items()
    assert clock.tau == start
    assert tau == pytest.approx(4, rel=0.15)
    assert loop.progress.history[0].taus == {clock.name: pytest.approx(start)}


def test_tau_stays_in_its_range():
    """The teacher has no memory: log τ goes to 0, not below."""
    loop = loop_of(planted(1), (slow(1.3, 0.2),), episodes=8 * 6, schedule="constant")
    lowest = []
    loop.run(lambda loop, _: lowest.append(float(loop.taus.values)))
    assert min(lowest) == 0


def test_a_constant_schedule_averages_log_tau():
    loop = loop_of(planted(4, steps=3), (slow(2),), episodes=8 * 10, schedule="constant")
    loop.run()
    latest = [record.taus["pre.activity_trace_2"] for record in loop.progress.history[-2:]]
    (found,) = loop.fitted_taus.values()
    assert found == pytest.approx(math.sqrt(latest[0] * latest[1]))


def test_a_divergence_takes_tau_back_too():
    class Diverging:
        """Diverges in the third step, and makes τ longer in the others."""

        name = "diverging"
        count = 0

        def run(self, problem, *, gradient=True):
            self.count += 1
            size = problem.episodes.episodes
            loss = torch.full((size,), math.nan if self.count == 3 else 1.0).double()
            pull = torch.full((size, 1), -1.0).double()
            return Outcome(loss, loss, pull, problem.state, pull)

    loop = loop_of(Clouds(), (slow(2),), engine=Diverging(), episodes=80)
    loop.run_step()
    kept = float(loop.taus.values)
    loop.run_step()
    ahead = float(loop.taus.values)
    loop.run_step()
    assert math.log(2) < kept < ahead
    assert float(loop.taus.values) == pytest.approx((kept + ahead) / 2)


def test_a_rejected_candidate_takes_tau_back_to_where_it_was():
    terms = (slow(2), term("other", outer(post.activity, trace(pre.activity, 5))))
    growth = GrowthSettings(train=2, look=1, bar=0.0, clip=1.0, least=0.5, errors=0.0, most=2)
    loop = loop_of(
        planted(4, steps=3), terms, GrowingLoop, episodes=80, more={"growth": growth, "tied": True}
    )
    values = []
    loop.run(lambda loop, _: values.append(loop.taus.values))
    trials = loop.growth.trials
    assert trials
    assert not any(trial.entered for trial in trials)
    # After its training and look, the rule is again that of the first look.
    assert not torch.equal(values[4], values[2])
    assert torch.equal(values[5], values[2])


def test_a_loop_goes_on_bit_for_bit_and_refuses_what_does_not_fit():
    def fresh(**options):
        return loop_of(planted(4, steps=3), (slow(2),), episodes=80, schedule="constant", **options)

    loop, again = fresh(), fresh()
    for _ in range(9):  # Into the steps that are averaged.
        loop.run_step()
    state = copied(read_stages({"stages": {"search": loop.state()}})["search"])
    again.restore(state)
    loop.run()
    again.run()
    assert again.fitted_taus == loop.fitted_taus
    assert torch.equal(again.theta, loop.theta)
    for name, value in {
        "log_tau": torch.zeros(2).double(),
        "settled": torch.full((1,), math.nan).double(),
        "latest": torch.zeros(9, 1).double(),
        "trust": {},
        "optimizer": {},
    }.items():
        with pytest.raises(DataError):
            fresh().restore({**state, "taus": {**state["taus"], name: value}})
    with pytest.raises(DataError, match="time constants"):
        fresh().restore({name: value for name, value in state.items() if name != "taus"})


# --- whole discoveries ---

SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")
TINY = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 8, "meta_batch": 2,
    "refit": 4, "refit_batch": 2, "look": 4, "validation": 4, "test_episodes": 4,
    "dataset": "digits", "l1": 0.0, "learn_tau": True, "terms": "error_hebbian",
}  # fmt: skip


class Copier:
    """Sees every record; copies the checkpoint after some of them."""

    def __init__(self, folder, after):
        self.folder, self.after, self.count, self.copies = folder, after, 0, {}

    def begin(self, discovery):
        pass

    def record(self, loop, record):
        self.count += 1
        if self.count in self.after:
            self.copies[self.count] = (self.folder / CHECKPOINT).read_bytes()

    def tested(self, name, episodes):
        pass

    def finish(self, result):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("theta", ["shared", "per-layer"])
def test_a_discovery_learns_tau_writes_it_and_goes_on_bit_for_bit(theta, tmp_path):
    # With this seed, selection keeps a term that has a time constant.
    config = DiscoveryConfig(theta=theta, seed=1, **TINY)
    folder = tmp_path / "run"
    copier = Copier(folder, (2, 6, 9))
    terms = [slow(3), term("late", post.error * eligible(outer(post.one, pre.activity), 2))]
    whole = discover(
        config, folder=folder, terms=terms, observers=[copier, RunFiles(folder)],
        checkpoint_seconds=0.0,
    )  # fmt: skip
    learned = {each.of.name: each for each in whole.taus}
    assert learned
    assert all(each.tau != each.start for each in learned.values())
    # The rule has them, in print and in its file.
    rule = Rule.load(folder / "rule.json", terms=terms)
    assert rule == whole.rule
    for each in learned.values():
        for name in each.terms:
            found = next(one for one in rule.terms if one.name == name)
            assert float(f"{each.tau:.6g}") in [clock.tau for clock in clocks_of([found])]
    summary = json.loads((folder / "summary.json").read_text())
    assert [each["tau"] for each in summary["taus"]] == [each.tau for each in whole.taus]
    assert "tau_pre.activity_trace_3" in (folder / "history.csv").read_text().splitlines()[0]
    assert "became τ=" in facts(read_run(folder, terms))["learned time constants"]
    table = Console(width=200, file=io.StringIO())
    table.print(taus_table(whole))
    assert all(f"{each.tau:.4g}" in table.file.getvalue() for each in learned.values())
    # Exported programs are executed, and compared with the engine.
    network = FullyConnected((6, 5, 3), feedback_name=rule.feedback)
    program = export_rule(rule, network, "numpy")
    assert program.check.difference < 1e-10
    for state in copier.copies.values():
        killed = tmp_path / "killed"
        killed.mkdir(exist_ok=True)
        (killed / "config.json").write_bytes((folder / "config.json").read_bytes())
        (killed / CHECKPOINT).write_bytes(state)
        again = Discovery.resume(killed, terms=terms).run()
        assert essence(again) == essence(whole)
        assert again.taus == whole.taus


def test_what_cannot_learn_time_constants_says_so():
    config = {**TINY, "terms": "error_hebbian,oja"}
    assert "no candidate term has one" in refusal(discover, DiscoveryConfig(**config))
    fused = DiscoveryConfig(**{**TINY, "engine": "fused"})
    assert "use --engine batched" in refusal(discover, fused, terms=[slow(3)], split=SPLIT)
    assert "--tau-lr must be a positive" in refusal(DiscoveryConfig, tau_lr=0.0)


def test_settings_that_learn_no_tau_are_written_as_before():
    assert not {"learn_tau", "tau_lr"} & set(DiscoveryConfig().to_json())
    config = DiscoveryConfig(**TINY, tau_lr=0.1)
    assert DiscoveryConfig.from_json(config.to_json()) == config
