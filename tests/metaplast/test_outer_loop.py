"""The outer loop on losses whose best θ is known, and on episodes that diverge."""

import math
from dataclasses import replace

import pytest
import torch
from support import Clouds, Poisoned, assert_close, assert_is_one_sentence, matrices_of, named

from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.base.errors import UserError
from metaplast.engines import Outcome, get_engine
from metaplast.meta.backtracking import Backtracking
from metaplast.meta.learned_theta import LearnedTheta
from metaplast.meta.outer_loop import EXPLAINED, OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.meta.standstill import StandstillError
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.coefficients import Coefficients

NETWORK = FullyConnected((6, 5, 3))
TERMS = ("error_hebbian", "error_error", "decay")
PLAIN = OuterSettings(
    episodes=400, meta_batch=1, meta_lr=0.1, optimizer="SGD", schedule="constant",
    scaling="none", clip=0.0, backtrack=False,
)  # fmt: skip

# 100 steps come as close to the best θ: each divides the distance by 1.4.
QUICK = replace(PLAIN, episodes=100, meta_lr=0.3)


class Quadratic:
    """Stands in for an engine: the loss is ½‖θ − target‖², so its best θ is known.

    Args:
        target: [term].
        pushes: added to the gradient of each episode, [episode, term].
        spoiled: episodes that come back as NaN.
    """

    name = "quadratic"

    def __init__(self, target, pushes=None, spoiled=()):
        self.target = torch.tensor(target, dtype=torch.float64)
        self.pushes, self.spoiled, self.seen = pushes, list(spoiled), []

    def run(self, problem, *, gradient=True):
        self.seen.append(problem)
        count = problem.episodes.episodes
        off = (problem.theta - self.target).expand(count, *problem.theta.shape).clone()
        gradients = off if self.pushes is None else off + self.pushes
        loss = 0.5 * off.square().flatten(1).sum(1)
        gradients[self.spoiled] = math.nan
        return Outcome(loss, torch.ones_like(loss), gradients, problem.state)


def loop_of(engine, settings=PLAIN, *, start=(0.5, 0.5, 0.5), terms=TERMS, sampler=None, **options):
    learner = Learner.on_stack(NETWORK, "fixed", named(*terms))
    theta = Coefficients(terms, torch.tensor(start, dtype=torch.float64))
    return OuterLoop("search", learner, sampler or Clouds(), engine, settings, theta, **options)


def real_loop(settings, **options):
    return loop_of(get_engine("fused"), settings, start=(1e-2, 0.0, 0.0), **options)


REAL = OuterSettings(episodes=16, meta_batch=2, meta_lr=1e-2, l1=0.01)


# --- penalties ---


@pytest.mark.slow
def test_the_proximal_step_ends_at_the_soft_threshold_with_exact_zeros():
    loop = loop_of(Quadratic([1.0, 0.3, -0.2]), replace(QUICK, l1=0.5, signs=False))
    loop.run()
    # argmin of ½‖θ − target‖² + λ‖θ‖₁ is the soft threshold of the target.
    assert_close(loop.theta, torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64))
    assert loop.theta[1:].tolist() == [0.0, 0.0]
    assert loop.progress.history[-1].active == 1


@pytest.mark.slow
def test_the_subgradient_comes_near_but_never_to_zero():
    settings = replace(QUICK, meta_lr=0.15, l1=0.5, penalty="subgradient")
    loop = loop_of(Quadratic([1.0, 0.3, -0.2]), settings)
    loop.run()
    assert loop.theta[0].item() == pytest.approx(0.5, abs=1e-6)
    assert 0 < loop.theta[1].abs().item() < 0.1
    assert loop.progress.history[-1].active >= 2


@pytest.mark.slow
def test_without_penalty_the_best_theta_is_found():
    loop = loop_of(Quadratic([1.0, -0.3, 0.2]), QUICK)
    loop.run()
    assert_close(loop.theta, torch.tensor([1.0, -0.3, 0.2], dtype=torch.float64))


@pytest.mark.parametrize("penalty", ["proximal", "subgradient"])
def test_a_term_at_zero_feels_no_subgradient(penalty):
    loop = loop_of(
        Quadratic([0.0, 0.0, 0.0]), replace(PLAIN, l1=1.0, penalty=penalty), start=(0.0, 0.0, 0.0)
    )
    loop.run_step()
    assert loop.theta.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("signs", [True, False])
def test_decay_is_kept_from_growing_unless_told_otherwise(signs):
    loop = loop_of(Quadratic([1.0, -1.0, -1.0]), replace(QUICK, signs=signs))
    loop.run()
    assert_close(loop.theta[:2], torch.tensor([1.0, -1.0], dtype=torch.float64))
    assert loop.theta[2].item() == pytest.approx(0.0 if signs else -1.0)
    decays = [record.theta["decay"][0] for record in loop.progress.history]
    assert (min(decays) >= 0) == signs


# --- step sizes and clipping ---


def test_clipping_bounds_what_one_episode_can_do():
    pushes = torch.tensor([[1e9, 0, 0], [0.0, 0.3, 0.4], [0, 0, -1e3]], dtype=torch.float64)
    settings = replace(PLAIN, meta_batch=3, meta_lr=1.0, clip=1.0, signs=False)
    loop = loop_of(Quadratic([0.0] * 3, pushes), settings, start=(0.0, 0.0, 0.0))
    loop.run_step()
    clipped = torch.tensor([[1, 0, 0], [0.0, 0.3, 0.4], [0, 0, -1]], dtype=torch.float64)
    assert_close(loop.theta, -clipped.mean(0))


def test_without_clipping_the_gradient_is_the_mean():
    pushes = torch.tensor([[30.0, 0, 0], [0, -6.0, 9.0]], dtype=torch.float64)
    settings = replace(PLAIN, meta_batch=2, meta_lr=1.0, signs=False)
    loop = loop_of(Quadratic([0.0] * 3, pushes), settings, start=(0.0, 0.0, 0.0))
    record = loop.run_step()
    assert_close(loop.theta, -pushes.mean(0))
    assert record.gradient_norm == pytest.approx(float(pushes.mean(0).norm()))


def test_the_step_size_follows_half_a_cosine():
    steady = torch.ones(1, 3, dtype=torch.float64)

    class Steady(Quadratic):
        def run(self, problem, *, gradient=True):
            return replace(super().run(problem), theta_gradient=steady)

    settings = replace(PLAIN, episodes=4, schedule="cosine", signs=False)
    loop = loop_of(Steady([0.0] * 3), settings)
    moves, before = [], loop.theta
    while not loop.is_done:
        loop.run_step()
        moves.append(float(before[0] - loop.theta[0]))
        before = loop.theta
    expected = [0.1 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert moves == pytest.approx(expected)


# --- scale ---


def test_scaling_measures_updates_and_goes_down_only():
    loop = real_loop(REAL)
    from metaplast.meta.scale import term_sizes

    problem = loop.problem(-1 % 2**31, 4, loop.theta)
    sizes = term_sizes(loop.learner, loop.theta, problem.state, problem.episodes)
    whole = sizes.square().mean(0).sqrt()
    expected = (whole[0] / whole).clamp(max=1)
    scale = loop.scale.tensor
    assert_close(scale, expected)
    assert scale[0] == 1
    assert scale.max() == 1
    assert scale[2] < 0.9, "here decay has the larger updates"
    assert (whole[0] / whole)[1] > 1, "and errors the smaller ones"


def test_theta_starts_where_it_should_whatever_the_scale():
    for scaling in ("down", "none"):
        loop = real_loop(replace(REAL, scaling=scaling))
        assert_close(loop.theta, torch.tensor([1e-2, 0.0, 0.0], dtype=torch.float64), 1e-15)
    assert loop.scale.tensor.tolist() == [1.0, 1.0, 1.0]


def test_gradients_are_taken_to_scaled_theta():
    scale = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    loop = loop_of(
        Quadratic([0.0] * 3), replace(PLAIN, meta_lr=1.0), start=(1.0, 1.0, 1.0), scale=scale
    )
    record = loop.run_step()
    # u = θ/scale moves by scale·∂L/∂θ, so θ moves by scale²·∂L/∂θ.
    assert_close(loop.theta, 1 - scale**2)
    assert record.l1_norm == pytest.approx(float((1 / scale).sum()))


def test_measured_sizes_are_root_mean_squares_of_updates():
    from metaplast.meta.scale import term_sizes
    from metaplast.systems.state import View
    from metaplast.terms.term import full_update

    loop = real_loop(REAL)
    learner, theta = loop.learner, torch.tensor([0.1, -0.2, 0.01], dtype=torch.float64)
    problem = loop.problem(0, 3, theta)
    squares, state = torch.zeros(2, 3).double(), problem.state
    for t in range(4):
        example = problem.episodes.example(t)
        shown = learner.system.present(View.of(state), example, learner.reads)
        for layer, ends in enumerate(shown.synapses.values()):
            for k, term in enumerate(learner.terms):
                for episode in range(3):
                    squares[layer, k] += (full_update(term, ends)[episode] ** 2).sum() / 12
        state = learner.step(state, problem.episode_theta, example)
    sizes = term_sizes(learner, theta, problem.state, problem.episodes, steps=4)
    assert_close(sizes, squares.sqrt())


# --- episodes that diverge ---


def test_diverging_episodes_are_counted_excluded_and_explained():
    settings = replace(REAL, episodes=30, meta_batch=3, optimizer="SGD", l1=0.0)
    loop = real_loop(settings, sampler=Poisoned([1]))
    clean = real_loop(settings)
    clean_problem = clean.problem(0, 3, clean.theta)
    outcome = get_engine("batched").run(clean_problem)
    record = loop.run_step()
    assert record.non_finite == 1
    kept = torch.tensor([0, 2])
    assert record.loss == pytest.approx(float(outcome.loss[kept].mean()))
    assert record.score == pytest.approx(float(outcome.score[kept].mean()))
    gradients = outcome.theta_gradient[kept] * loop.scale.tensor
    norms = gradients.norm(dim=1, keepdim=True).clamp(min=1.0)
    assert record.gradient_norm == pytest.approx(float((gradients / norms).mean(0).norm()))
    loop.run()
    assert loop.is_done
    assert [r.non_finite for r in loop.progress.history] == [1] * 10
    assert len(loop.progress.divergences) == EXPLAINED
    first = loop.progress.divergences[0]
    assert first.startswith("search, outer step 0: non-finite learning at step ")
    assert first.endswith("most of it from error_hebbian")


class Cliff(Quadratic):
    """A quadratic whose episodes diverge where the first coefficient is above 1."""

    def run(self, problem, *, gradient=True):
        outcome = super().run(problem, gradient=gradient)
        if problem.theta[0] > 1:
            outcome.theta_gradient[:] = math.nan
        return outcome


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_step_to_where_tasks_diverge_is_taken_back(optimizer):
    settings = replace(PLAIN, optimizer=optimizer, episodes=200, backtrack=True)
    careful = loop_of(Cliff([2.0, 0.0, 0.0]), settings)
    careful.run()
    # The best θ on this side of the cliff is at its edge.
    assert 0.8 < careful.theta[0] < 1.1
    # The others, from 0.5, go on to their best, 0, in shorter steps.
    assert careful.theta[1:].abs().max() < 0.4
    assert sum(record.non_finite for record in careful.progress.history) < 200 / 3
    with pytest.raises(StandstillError):
        loop_of(Cliff([2.0, 0.0, 0.0]), replace(settings, backtrack=False)).run()


def test_where_nothing_is_known_to_be_safe_the_finite_tasks_are_learned_from():
    settings = replace(PLAIN, meta_batch=2, backtrack=True)
    loop = loop_of(Quadratic([0.0, 0.0, 0.0], spoiled=[1]), settings)
    loop.run_step()
    assert (loop.theta < 0.5).all()


def test_the_way_back_leads_home():
    trust = Backtracking()
    assert trust.failed(torch.tensor([9.0])) is None
    trust.passed(torch.tensor([0.0]))
    trust.passed(torch.tensor([4.0]))
    radius, back, way = trust.radius, torch.tensor([8.0]), []
    for _ in range(8):
        back = trust.failed(back)
        way.append(back.item())
    assert way[:3] == [6.0, 4.0, 2.5]
    assert way == sorted(way, reverse=True)
    assert way[-1] < 0.2
    assert trust.radius < radius
    for _ in range(50):
        trust.passed(back)
    assert trust.radius == 1


def test_a_step_in_which_all_diverge_leaves_theta():
    loop = loop_of(Quadratic([1.0] * 3, spoiled=[0]))
    before = loop.theta
    record = loop.run_step()
    assert record.non_finite == 1
    assert math.isnan(record.loss)
    assert torch.equal(loop.theta, before)


@pytest.mark.slow
def test_standstill_is_refused_in_one_sentence():
    loop = real_loop(replace(REAL, episodes=400), sampler=Poisoned([0, 1], factor=math.inf))
    with pytest.raises(UserError, match="last 50 outer steps diverged") as caught:
        loop.run()
    assert_is_one_sentence(caught.value)
    assert loop.progress.step == 50
    assert len(loop.progress.divergences) == EXPLAINED


@pytest.mark.slow
def test_standstill_is_refused_again_by_a_run_that_goes_on():
    # The whole refit may have made no progress; it must not count as one that ended well.
    settings = replace(REAL, episodes=100)
    loop = real_loop(settings, sampler=Poisoned([0, 1], factor=math.inf))
    with pytest.raises(StandstillError):
        loop.run()
    resumed = real_loop(settings, sampler=Clouds(), scale=loop.scale.tensor)
    resumed.restore(loop.state())
    with pytest.raises(StandstillError, match="last 50 outer steps"):
        resumed.run()
    assert resumed.progress.step == 50


@pytest.mark.slow
@pytest.mark.parametrize("where", ["_went_back", "_learn", "passed"])
def test_a_step_that_is_interrupted_was_not_taken(where, monkeypatch):
    place = LearnedTheta if where == "passed" else OuterLoop
    settings = replace(REAL, optimizer="Adam", schedule="constant", backtrack=where == "_went_back")
    sampler = Poisoned([1])
    whole, part = real_loop(settings, sampler=sampler), real_loop(settings, sampler=sampler)
    whole.run()
    for _ in range(3):
        part.run_step()
    original, fitted = getattr(place, where), part.fitted

    def interrupted(self, *arguments):
        original(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        part.run_step()
    monkeypatch.undo()
    assert part.fitted == fitted
    assert part.progress.step == len(part.progress.history) == 3
    part.run()
    assert torch.equal(part.theta, whole.theta)
    assert torch.equal(part.fitted.tensor, whole.fitted.tensor)
    assert part.progress.history == whole.progress.history
    assert part.progress.divergences == whole.progress.divergences


# --- optimizers ---

OPTIMIZERS = [
    "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam",
    "RMSprop", "Rprop", "SGD",
]  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_any_optimizer_of_torch_takes_the_steps_it_would_take_itself(name):
    settings = replace(PLAIN, episodes=5, optimizer=name, signs=False)
    loop = loop_of(Quadratic([1.0, -0.3, 0.2]), settings)
    u = torch.nn.Parameter(torch.full((3,), 0.5, dtype=torch.float64))
    optimizer = getattr(torch.optim, name)([u], lr=0.1)
    for _ in range(5):
        loop.run_step()
        u.grad = u.detach() - torch.tensor([1.0, -0.3, 0.2], dtype=torch.float64)
        optimizer.step()
        assert_close(loop.theta, u.detach(), 1e-12)
    assert not torch.equal(loop.theta, torch.full((3,), 0.5, dtype=torch.float64))


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Muon", "Optimizer", "adam", "Adm", ""])
def test_what_cannot_optimize_theta_is_refused(name):
    with pytest.raises(UserError) as caught:
        OuterSettings(optimizer=name)
    assert_is_one_sentence(caught.value)


def test_a_misspelt_optimizer_is_recognised():
    with pytest.raises(UserError, match="did you mean 'RMSprop'"):
        OuterSettings(optimizer="RMSProp")


BAD = {
    "no episodes": {"episodes": 0},
    "no meta-batch": {"meta_batch": 0},
    "rate 0": {"meta_lr": 0.0},
    "negative rate": {"meta_lr": -1e-3},
    "NaN rate": {"meta_lr": math.nan},
    "infinite rate": {"meta_lr": math.inf},
    "negative penalty": {"l1": -0.1},
    "NaN penalty": {"l1": math.nan},
    "negative clip": {"clip": -1.0},
    "NaN clip": {"clip": math.nan},
    "unknown penalty": {"penalty": "l2"},
    "unknown scaling": {"scaling": "up"},
    "unknown schedule": {"schedule": "linear"},
}


@pytest.mark.parametrize("options", BAD.values(), ids=BAD.keys())
def test_bad_settings_are_refused(options):
    with pytest.raises(UserError) as caught:
        OuterSettings(**options)
    assert_is_one_sentence(caught.value)
    (field,) = options
    assert f"--{field.replace('_', '-')}" in str(caught.value)


# --- records, tasks and resuming ---


def test_a_record_shows_theta_before_the_step():
    loop = real_loop(REAL)
    before = loop.theta
    record = loop.run_step()
    assert [record.theta[name] for name in TERMS] == [[value] for value in before.tolist()]
    assert (record.stage, record.step, record.episodes) == ("search", 0, 2)
    assert len(record.angles) == 1
    assert 0 <= record.angles[0] <= 180


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["down", "none"])
def test_tied_layers_move_as_a_shared_theta_does(scaling):
    settings = replace(REAL, scaling=scaling)
    engine = get_engine("batched")
    shared = loop_of(engine, settings, start=(1e-2, 0.0, 0.0))
    tied = loop_of(engine, settings, start=[(1e-2, 0.0, 0.0)] * 2, tied=True)
    free = loop_of(engine, settings, start=[(1e-2, 0.0, 0.0)] * 2)
    for loop in (shared, tied, free):
        loop.run()
    assert_close(tied.theta, shared.theta.expand(2, -1))
    assert [len(record.theta["decay"]) for record in tied.progress.history[:1]] == [2]
    for a, b in zip(tied.progress.history, shared.progress.history, strict=True):
        assert (a.loss, a.gradient_norm) == pytest.approx((b.loss, b.gradient_norm))
    assert (free.theta[0] - free.theta[1]).abs().max() > 1e-3


def test_loops_of_one_name_meet_the_same_tasks_and_weights():
    engines = [Quadratic([0.0] * 3), Quadratic([5.0] * 3), Quadratic([0.0] * 3)]
    for engine, tasks in zip(engines, ["search", "search", "refit"], strict=True):
        loop_of(engine, replace(PLAIN, episodes=3), tasks=tasks).run()
    for one, same, other in zip(*(engine.seen for engine in engines), strict=True):
        assert torch.equal(one.episodes.support_x, same.episodes.support_x)
        assert all(
            torch.equal(a, b)
            for a, b in zip(matrices_of(one.state), matrices_of(same.state), strict=True)
        )
        assert not torch.equal(one.episodes.support_x, other.episodes.support_x)
        assert not torch.equal(matrices_of(one.state)[0], matrices_of(other.state)[0])
    first, second, _ = engines[0].seen
    assert not torch.equal(first.episodes.support_x, second.episodes.support_x)
    assert not torch.equal(matrices_of(first.state)[0], matrices_of(second.state)[0])


@pytest.mark.parametrize(
    "optimizer", ["Adam", *(pytest.param(o, marks=pytest.mark.slow) for o in ("SGD", "RMSprop"))]
)
@pytest.mark.parametrize("schedule", ["cosine", "constant", "constant of version 0.1"])
@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
def test_a_restored_loop_goes_on_bit_for_bit(tmp_path, optimizer, schedule, per_layer):
    start = torch.tensor([1e-2, 0.0, 0.0], dtype=torch.float64)
    start = Coefficients(TERMS, start.expand(2, 3).clone() if per_layer else start)
    # 24 episodes are 12 steps: the mean is over the last two.
    settings = replace(REAL, episodes=24, optimizer=optimizer, schedule=schedule.split()[0])
    # A step that is taken back clears the optimizer, which has nothing to restore then.
    settings = replace(settings, backtrack=schedule == "cosine")

    def make(scale=None):
        learner = Learner.on_stack(NETWORK, "fixed", named(*TERMS))
        engine = get_engine("fused")
        return OuterLoop("search", learner, Poisoned([1]), engine, settings, start, scale=scale)

    whole, part = make(), make()
    whole.run()
    for _ in range(11):
        part.run_step()
    save_checkpoint(tmp_path / "c.pt", part.state())
    state = load_checkpoint(tmp_path / "c.pt")
    assert ("latest" in state) == (schedule != "cosine")
    if schedule.endswith("0.1"):
        # The log of an earlier version is the only place that has it.
        del state["latest"]
    resumed = make(state["scale"])
    resumed.restore(state)
    resumed.run()
    assert torch.equal(resumed.theta, whole.theta)
    assert torch.equal(resumed.fitted.tensor, whole.fitted.tensor)
    assert resumed.progress.history == whole.progress.history
    assert resumed.progress.divergences == whole.progress.divergences
    assert not torch.equal(part.theta, whole.theta)


def test_a_constant_step_size_ends_with_the_mean_of_the_last_fifth():
    loop = loop_of(Quadratic([1.0, 0.3, -0.2]), replace(PLAIN, episodes=20, signs=False))
    loop.run()
    last = [[record.theta[name][0] for name in TERMS] for record in loop.progress.history[-4:]]
    assert_close(loop.fitted.tensor, torch.tensor(last, dtype=torch.float64).mean(0))
    assert not torch.equal(loop.fitted.tensor, loop.theta)


@pytest.mark.parametrize("steps", [0, 1, 3, 20])
def test_the_log_has_no_say_in_what_is_fitted(steps):
    loop = loop_of(Quadratic([1.0, 0.3, -0.2]), replace(PLAIN, episodes=20, signs=False))
    for _ in range(steps):
        loop.run_step()
    rows = [[record.theta[name][0] for name in TERMS] for record in loop.progress.history[-4:]]
    mean = torch.tensor(rows, dtype=torch.float64).mean(0) if steps else loop.theta
    loop.progress.history.clear()
    assert torch.equal(loop.fitted.tensor, mean)


def test_a_cosine_ends_with_the_last_theta():
    loop = loop_of(Quadratic([1.0, 0.3, -0.2]), replace(PLAIN, episodes=20, schedule="cosine"))
    loop.run()
    assert torch.equal(loop.fitted.tensor, loop.theta)


def test_the_mean_keeps_layers_apart():
    loop = real_loop(replace(REAL, schedule="constant"))
    per_layer = OuterLoop(
        "search", loop.learner, Clouds(), get_engine("batched"),
        replace(REAL, schedule="constant"),
        Coefficients(TERMS, torch.full((2, 3), 1e-2, dtype=torch.float64)),
    )  # fmt: skip
    per_layer.run()
    record = per_layer.progress.history[-1]
    assert per_layer.settings.steps // 5 == 1
    expected = [[record.theta[name][layer] for name in TERMS] for layer in range(2)]
    assert_close(per_layer.fitted.tensor, torch.tensor(expected, dtype=torch.float64))
