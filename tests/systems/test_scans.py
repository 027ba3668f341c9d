"""Loops over time as single operations: against plain loops and their autograd."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from support import assert_close, named, normal, seeded

from metaplast.engines import Problem, get_engine, parts
from metaplast.engines.batched import BatchedEngine
from metaplast.engines.stepper import Before, Start, Stepper
from metaplast.scans import functions, mixed
from metaplast.scans.functions import Nonlinearity
from metaplast.systems import feedback as feedbacks
from metaplast.systems.activation import parse_activation
from metaplast.systems.feedback import ChainFeedback, all_feedbacks
from metaplast.systems.feedbacks.fixed import Fixed
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.library import all_terms

KINDS = ("tanh", "softplus:3", "relu")
FEEDBACKS = [name for name, f in all_feedbacks().items() if "recurrent" in f.systems]
FORWARD = ("error_hebbian", "error_error", "oja", "decay", "gated_activity_error", "potential_oja")
BACKWARD = tuple(name for name, term in all_terms().items() if term.is_backward)
LOOPS = BatchedEngine(scans=False)


def problem(feedback="symmetric", timing=None, dtype=torch.float64, episodes=2, **options):
    """Return a small problem with terms of every kind: drives, projections, gates, decays."""
    name = f"{feedback}:2" if feedback == "truncated" else feedback
    timing = timing or Timing(1, 2, 5)
    system = Recurrent((3, 5, 2), timing, feedback_name=name, **options)
    terms = FORWARD + (BACKWARD if feedback == "plastic" else ())
    learner = Learner(system, named(*terms))
    theta = torch.linspace(-0.03, 0.04, len(terms), dtype=dtype)
    sets = []
    for seed, samples in ((1, 4), (2, 3)):
        x = normal(episodes, samples, timing.frames, 3, seed=seed).to(dtype)
        shape = (episodes, samples, *system.target_shape)
        sets += [x, torch.randint(2, shape, generator=seeded(seed))]
    return Problem(learner, theta, learner.draw(episodes, seeded(3), dtype), EpisodeBatch(*sets))


def assert_same(one, other, tolerance=1e-12):
    assert_close(one.loss, other.loss, tolerance)
    assert_close(one.theta_gradient, other.theta_gradient, tolerance)
    for name, matrix in one.final.matrices.items():
        assert_close(matrix, other.final.matrices[name], tolerance)


def products(given, **options):
    """Return how many products a step has on the tape."""
    stepper = Stepper(given.learner, **options)
    matrices = [given.state.matrices[name] for name in (*stepper.moving, *stepper.fixed)]
    start = Start(Before(matrices, []), given.episode_theta, given.episodes.example(0))
    return len(stepper.take(start).products)


@pytest.mark.parametrize("activation", KINDS)
@pytest.mark.parametrize("name", FEEDBACKS)
def test_scans_are_the_loops(name, activation):
    given = problem(name, activation=activation)
    assert_same(get_engine("batched").run(given), LOOPS.run(given))


@pytest.mark.parametrize("timing", [Timing(2, 2, 5), Timing(3, 1, 3, each=True), Timing(1, 1, 2)])
def test_scans_are_the_loops_with_more_frames_and_targets(timing):
    given = problem(timing=timing)
    assert_same(get_engine("batched").run(given), LOOPS.run(given))


def test_scans_agree_with_the_reference():
    given = problem("fixed")
    found, expected = (get_engine(n).run(given).theta_gradient for n in ("batched", "reference"))
    assert_close(found, expected, 1e-9)


def test_the_gradient_is_that_of_finite_differences():
    given, step = problem(), 1e-6
    found = get_engine("batched").run(given).theta_gradient
    for term in range(len(given.theta)):
        moved = [
            get_engine("batched").run(replace(given, theta=theta), gradient=False).loss
            for theta in (given.theta + step * unit(term), given.theta - step * unit(term))
        ]
        assert_close(found[:, term], (moved[0] - moved[1]) / (2 * step), 1e-6)


def unit(term):
    return torch.eye(len(FORWARD), dtype=torch.float64)[term]


def test_single_precision_agrees():
    given = problem(dtype=torch.float32)
    assert_same(get_engine("batched").run(given), LOOPS.run(given), 1e-4)


def test_a_recurrence_is_one_product():
    given = problem()
    steps = given.learner.system.timing.time
    assert products(given, scans=False) - products(given) == 2 * (steps - 2)
    # An error that goes back a limited number of steps, or a B of its own, stays a loop.
    given = problem("truncated")
    assert products(given, scans=False) - products(given) == steps - 2


class Doubled(Fixed):
    """A feedback outside of metaplast that does more than multiply by its matrix."""

    name = "doubled"
    summary = "twice the fixed feedback"

    def below(self, layer, error, given):
        return 2 * super().below(layer, error, given)


def test_a_feedback_of_ones_own_keeps_its_loop(monkeypatch):
    known = {**all_feedbacks(), "doubled": Doubled()}
    monkeypatch.setattr(feedbacks, "all_feedbacks", lambda: known)
    given = problem("doubled")
    assert_same(get_engine("batched").run(given), LOOPS.run(given))
    once = replace(given.learner.system, feedback_name="fixed")
    other = replace(given, learner=Learner(once, given.learner.terms))
    difference = get_engine("batched").run(other).loss - get_engine("batched").run(given).loss
    assert difference.abs().min() > 1e-6


def test_a_chain_feedback_must_say_how_errors_go_down():
    with pytest.raises(TypeError, match="Silent defines neither passage nor below"):

        class Silent(ChainFeedback):
            name = "silent"


def test_without_numba_there_are_loops(monkeypatch):
    given = problem()
    expected = get_engine("batched").run(given)
    monkeypatch.setattr(functions, "kernel", lambda: None)
    monkeypatch.setattr(mixed, "_loops", lambda: None)
    assert products(given) == products(given, scans=False)
    assert_same(get_engine("batched").run(given), expected)


@pytest.mark.parametrize("size", [1e200, 1e308])
def test_an_episode_that_diverges_leaves_the_others_alone(size):
    given = problem(activation="relu")
    matrices = {n: m.clone() for n, m in given.state.matrices.items()}
    matrices["recurrent"][1] *= size
    spoilt = replace(given, state=type(given.state)(matrices, {}))
    found, expected = get_engine("batched").run(spoilt), LOOPS.run(spoilt)
    assert found.finite.tolist() == expected.finite.tolist() == [True, False]
    whole = get_engine("batched").run(given)
    assert_close(found.theta_gradient[0], whole.theta_gradient[0], 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_on_threads_give_the_same_digits(dtype, monkeypatch):
    monkeypatch.setattr(parts, "_LEAST", 1)
    monkeypatch.setattr(parts, "_MOST", 3)
    given, before = problem(dtype=dtype, episodes=5), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = get_engine("batched").run(given)
        torch.set_num_threads(2)
        two = get_engine("batched").run(given)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert_same(one, two, 0)


# --- the operations themselves, with a sample axis ---


@cache
def sigma_of(kind):
    return parse_activation(kind, allows_linear=True)


def pulled(outputs, bars, inputs):
    return torch.autograd.grad(outputs, inputs, bars, allow_unused=True)


@pytest.mark.parametrize("kind", [*KINDS, "linear"])
def test_the_recurrence_and_its_adjoint(kind):
    sigma, show, time = sigma_of(kind), 2, 5
    frames = normal(2, 2, 3, 7, seed=1).requires_grad_()
    matrix = (normal(2, 7, 7, seed=2) / 3).requires_grad_()
    z, drives = [frames[:, 0]], []
    for t in range(1, time):
        drives.append(sigma.apply(z[-1]) @ matrix.mT)
        z.append(drives[-1] + frames[:, t // show] if t < 2 * show else drives[-1])
    y = [sigma.apply(a) for a in z]
    expected = [torch.stack(part, 1) for part in (z, y, drives)]
    bars = [normal(*part.shape, seed=5 + i) for i, part in enumerate(expected)]
    like = Nonlinearity(sigma.kind, sigma.beta)
    computed = functions.advance(like, show, time, frames.detach(), matrix.detach(), None)
    known = computed[2].clone().requires_grad_()
    found = functions.advance(like, show, time, frames, matrix.detach(), known)
    for part, first, again in zip(expected, computed, found, strict=True):
        assert_close(first, part.detach(), 1e-13)
        assert_close(again.detach(), part.detach(), 1e-13)
    to_known, to_frames = pulled(found, bars, [known, frames])
    to_matrix = torch.einsum("etsi,etsj->eij", to_known, computed[1][:, :-1])
    for one, other in zip(
        (to_frames, to_matrix), pulled(expected, bars, [frames, matrix]), strict=True
    ):
        assert_close(one, other, 1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "linear"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("sourced", [1, 5])
def test_errors_through_time_and_their_adjoint(kind, transposed, sourced):
    sigma = sigma_of(kind)
    y = sigma.apply(normal(2, 5, 3, 7, seed=1)).requires_grad_()
    sources = normal(2, sourced, 3, 7, seed=2).requires_grad_()
    matrix = (normal(2, 7, 7, seed=3) / 3).requires_grad_()
    slopes, errors = sigma.derivative(y), []
    for t in reversed(range(5)):
        total = torch.zeros_like(y[:, t])
        if t >= 5 - sourced:
            total = total + sources[:, t - (5 - sourced)]
        if errors:
            total = total + errors[0] @ (matrix if transposed else matrix.mT)
        errors.insert(0, total * slopes[:, t])
    expected = torch.stack(errors, 1)
    bar, like = normal(*expected.shape, seed=6), Nonlinearity(sigma.kind, sigma.beta)
    held = matrix.detach()
    first, carried = functions.carry_back(
        like, sources.detach(), y.detach(), held, transposed, None
    )
    known = carried.clone().requires_grad_()
    again, _ = functions.carry_back(like, sources, y, held, transposed, known)
    assert_close(first, expected.detach(), 1e-13)
    assert_close(again.detach(), expected.detach(), 1e-13)
    to_known, *found = pulled([again], [bar], [known, sources, y])
    sides = (first[:, 1:], to_known) if transposed else (to_known, first[:, 1:])
    found.append(torch.einsum("etsi,etsj->eij", *sides))
    for one, other in zip(found, pulled([expected], [bar], [sources, y, matrix]), strict=True):
        assert_close(one, torch.zeros_like(one) if other is None else other, 1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "linear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_activations_lose_no_digits(kind, dtype):
    sizes = torch.logspace(-12, 3, 200, dtype=dtype)
    z = torch.cat([-sizes.flip(0), torch.zeros(1, dtype=dtype), sizes])
    z = torch.cat([z, torch.tensor([torch.inf, -torch.inf, torch.nan], dtype=dtype)])
    sigma = sigma_of(kind)
    frames = z[None, None, None]
    matrix = torch.zeros(1, len(z), len(z), dtype=dtype)
    like = Nonlinearity(sigma.kind, sigma.beta)
    found = functions.advance(like, 1, 2, frames, matrix, None)[1][0, 0, 0]
    # Beyond this, softplus is smaller than 1e-35.
    some = (sigma.beta * z > -80) | ~z.isfinite() if kind.startswith("softplus") else z == z
    expected = sigma.apply(z)
    torch.testing.assert_close(
        found[some], expected[some], rtol=8 * torch.finfo(dtype).eps, atol=1e-35, equal_nan=True
    )
    assert found[-1].isnan()


def test_column_vectors_in_one_operation(monkeypatch):
    monkeypatch.setattr(mixed, "_LEAST", 1)
    strengths = normal(2, 3, 2, 4, seed=1).requires_grad_()
    vectors = [normal(2, 3, 6, seed=2 + b).requires_grad_() for b in range(4)]
    expected = strengths @ torch.stack(vectors, -2)
    found = mixed.mixed(strengths, vectors)
    assert type(found.grad_fn).__name__ == "_MixedBackward"
    assert_close(found.detach(), expected.detach(), 1e-14)
    bar = normal(*expected.shape, seed=9)
    leaves = [strengths, *vectors]
    for one, other in zip(
        pulled([found], [bar], leaves), pulled([expected], [bar], leaves), strict=True
    ):
        assert_close(one, other, 1e-13)
