"""The sweeps of strict predictive coding as one operation: against plain loops and autograd."""

from dataclasses import replace

import pytest
import torch
from support import FORWARD, assert_close, normal, random_problem, seeded
from systems.settings import SETTINGS

from metaplast.engines import Problem, get_engine
from metaplast.engines.batched import BatchedEngine
from metaplast.engines.stepper import Before, Start, Stepper
from metaplast.scans import operation
from metaplast.scans.relaxation import Sweeps, relax
from metaplast.systems import relaxed
from metaplast.systems.activation import parse_activation
from metaplast.systems.diagnostics import angle
from metaplast.systems.feedbacks.predictive_coding import _strict_loops
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.objectives.cross_entropy import CrossEntropy
from metaplast.systems.relaxation import Relaxation
from metaplast.systems.state import View
from metaplast.terms.algebra import outer, post, pre
from metaplast.terms.operator import Operator, ProductTape, RecordedOperator
from metaplast.terms.term import Term

ACTIVATIONS = ("softplus:10", "softplus:1.5", "tanh", "relu")
SWEEPS = (Relaxation(eta=0.1, n=1), Relaxation(eta=0.3, n=2), Relaxation(eta=0.4, n=7))
STRICT = "predictive-coding:strict"
WIDTHS = (5, 6, 9, 4, 3)
LOOPS = BatchedEngine(scans=False)


def given(activation, tape=None, *, widths=WIDTHS, scale=1.0, dtype=torch.float64, **options):
    """Return what the feedback is given, for three samples in each of two episodes.

    With a tape, the matrices record their products on it; without, they are differentiable.
    """
    network = FullyConnected(widths, activation, feedback_name=STRICT, **options)
    state = network.draw(2, seeded(1), torch.float64).map(lambda m: scale * m).to(dtype)
    leaves = {name: matrix.requires_grad_() for name, matrix in state.matrices.items()}
    operators = {
        name: Operator(leaf) if tape is None else RecordedOperator(leaf, i, tape)
        for i, (name, leaf) in enumerate(leaves.items())
    }
    x = normal(2, 3, widths[0], seed=2).to(dtype)
    labels = torch.randint(widths[-1], (2, 3), generator=seeded(3))
    if options.get("objective_name") == "mse":
        labels = normal(2, 3, widths[-1], seed=3).to(dtype)
    forward = network.forward(list(operators.values()), x)
    return network._pass(View(operators, {}), forward, network.error_of(labels), 1), leaves


def gradients(found, leaves):
    """Return the gradients of a mixture of everything found to the matrices."""
    flat = [tensor for group in found for tensor in group]
    mixed = sum((t * normal(*t.shape, seed=i).to(t)).sum() for i, t in enumerate(flat))
    return torch.autograd.grad(mixed, list(leaves.values()))


def joint(activation, settings, **options):
    """Return the results of one operation, and the gradients of matrices through its products."""
    first = ProductTape()
    with torch.no_grad():
        pass_, _ = given(activation, first, **options)
        relaxed.relaxed(pass_, pass_.nets, settings)
    known = [product.value.detach().requires_grad_() for product in first.products]
    second = ProductTape(known)
    pass_, leaves = given(activation, second, **options)
    found = relaxed.relaxed(pass_, pass_.nets, settings)
    flat = [tensor for group in found for tensor in group]
    mixed = sum((t * normal(*t.shape, seed=i).to(t)).sum() for i, t in enumerate(flat))
    bars = torch.autograd.grad(mixed, known, allow_unused=True, materialize_grads=True)
    totals = [torch.zeros_like(leaf) for leaf in leaves.values()]
    for product, bar in zip(second.products, bars, strict=True):
        pair = (product.given, bar) if product.is_projection else (bar, product.given)
        totals[product.matrix] += pair[0].mT @ pair[1]
    return found, totals


@pytest.mark.parametrize(
    ("settings", "scale"), [*((sweeps, 1.0) for sweeps in SWEEPS), (SWEEPS[1], 4.0)], ids=str
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("objective", ["cross-entropy", "mse"])
def test_one_operation_is_the_loops_and_so_are_its_gradients(
    activation, objective, settings, scale
):
    """Weights four times as large move softplus beyond the range of its series."""
    options = {"objective_name": objective, "scale": scale}
    pass_, leaves = given(activation, **options)
    expected = _strict_loops(pass_, list(pass_.nets), settings)
    found, totals = joint(activation, settings, **options)
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert_close(a.detach(), b.detach(), 1e-12)
    for a, b in zip(totals, gradients(expected, leaves), strict=True):
        assert_close(a, b, 1e-10)


def test_engines_agree_with_it():
    setting = SETTINGS["stack, strict"]
    learner, theta = Learner(setting.system, setting.terms), 0.05 * normal(len(setting.terms))
    state = learner.draw(2, seeded(3), torch.float64)
    problem = Problem(learner, theta, state, setting.batch())
    found, loops = get_engine("batched").run(problem), LOOPS.run(problem)
    expected = get_engine("reference").run(problem)
    for other, tolerance in ((loops, 1e-12), (expected, 1e-9)):
        assert_close(found.theta_gradient, other.theta_gradient, tolerance)
        for key, matrix in found.final.matrices.items():
            assert_close(matrix, other.final.matrices[key], tolerance)


def products(problem, **options):
    """Return how many products a step has on the tape."""
    stepper = Stepper(problem.learner, **options)
    matrices = [problem.state.matrices[name] for name in (*stepper.moving, *stepper.fixed)]
    start = Start(Before(matrices, []), problem.episode_theta, problem.episodes.example(0))
    return len(stepper.take(start).products)


def strict(**options):
    feedback = "predictive-coding:strict,eta=0.2,n=6"
    return random_problem(FORWARD[:3], feedback=feedback, **options)


def test_all_products_of_a_matrix_are_one_of_each_kind():
    problem = strict()
    assert products(problem) < products(problem, joint=False) == products(problem, scans=False)


class Own(CrossEntropy):
    """An objective of a user's, whose error could be anything."""


def test_what_has_no_compiled_loops_takes_plain_ones(monkeypatch):
    problem = strict()
    expected = get_engine("batched").run(problem).theta_gradient
    network = problem.learner.system
    plain = products(problem, joint=False)
    monkeypatch.setitem(vars(network), "objective", Own())
    assert products(problem) == plain
    monkeypatch.undo()
    monkeypatch.setattr("metaplast.scans.functions.kernel", lambda: None)
    assert products(problem) == plain
    assert_close(get_engine("batched").run(problem).theta_gradient, expected, 1e-12)
    assert operation.kernel() is not None


def test_single_precision_makes_no_angles():
    """Errors as small as those of the mean over a large batch are not lost beside activities."""
    sweeps = Sweeps(parse_activation("softplus:10").scanned, False, 0.1, 20, (6, 4, 3))
    weights, hidden = normal(2, 6 * 4 + 4 * 3, seed=1), normal(2, 3, 10, seed=2)
    push, target = 1e-7 * normal(2, 3, 3, seed=3), torch.zeros(2, 3, 3, dtype=torch.float64)
    y = parse_activation("softplus:10").apply(hidden)
    found = []
    for dtype in (torch.float32, torch.float64):
        z = torch.cat([hidden, push], -1).to(dtype).requires_grad_()
        result = relax(sweeps, weights.to(dtype), z, y.to(dtype), target.to(dtype), None)
        (bar,) = torch.autograd.grad((result.errors * weights[0, :13].to(dtype)).sum(), z)
        layers = [result.errors.detach().double(), bar.double()]
        found.append([part for t in layers for part in torch.split(t, [6, 4, 3], -1)])
    for single, double in zip(*found, strict=True):
        if double.abs().sum() > 0:
            assert float(angle(single, double).max()) < 1e-3


def test_errors_that_are_not_finite_stay_so():
    sweeps = Sweeps(parse_activation("relu").scanned, True, 2.0, 60, (4, 4, 3))
    weights = 1e6 * normal(1, 4 * 4 + 4 * 3, seed=1)
    z, y = normal(1, 1, 11, seed=2).abs(), normal(1, 1, 8, seed=3).abs()
    target = torch.zeros(1, 1, 3, dtype=torch.float64)
    for bad in (z, torch.full_like(z, torch.nan)):
        found = relax(sweeps, weights, bad, y, target, None)
        assert not torch.isfinite(found.errors).all()


def test_a_term_that_reads_what_relaxed_is_differentiated_through_it():
    term = Term("p", -outer(post.signal("prediction_error"), pre.signal("relaxed")), "made up")
    problem = strict()
    learner = Learner.on_stack(problem.learner.network, problem.learner.network.feedback_name,
                               (term,))  # fmt: skip
    theta = torch.tensor([0.3], dtype=torch.float64)
    problem = replace(problem, learner=learner, theta=theta)
    found, expected = (get_engine(name).run(problem) for name in ("batched", "reference"))
    assert_close(found.theta_gradient, expected.theta_gradient, 1e-10)
