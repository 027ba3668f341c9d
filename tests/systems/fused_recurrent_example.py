"""Small problems of recurrent networks on which the fused engine is compared with other engines."""

import torch
from support import assert_close, normal, seeded

from metaplast.engines import Problem
from metaplast.engines.fused import FusedEngine, Settings
from metaplast.systems.feedback import all_feedbacks
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.algebra import W, dot, outer, post, pre, total
from metaplast.terms.library import choose_terms
from metaplast.terms.term import Term

FEEDBACKS = [name for name, f in all_feedbacks().items() if "recurrent" in f.systems]
TIMINGS = [Timing(1, 2, 6), Timing(1, 1, 2), Timing(3, 1, 3), Timing(2, 2, 5, each=True)]
ACTIVATIONS = ("tanh", "softplus:3", "relu")
TEN = choose_terms(",".join(f"F{k}" for k in range(10))).terms


def term(name, formula):
    return Term(name, formula, "made up")


# Gates of both sides, several projections and gates in one monomial, gated decays, ones.
MANY = (
    *TEN,
    term("faded", dot(post.activity, post.error) * (-0.1 * W)),
    term("carried", outer(post.activity, W.T @ post.one) - 0.2 * outer(post.one, pre.one)),
    term(
        "twice",
        total(post.error)
        * (dot(W.T @ post.error, W.T @ post.activity) * outer(post.error, W.T @ post.error)),
    ),
    term("input_gate", dot(pre.activity, pre.error) * outer(post.activity, pre.activity)),
)


def problem(feedback="fixed", terms=MANY, timing=TIMINGS[0], steps=5, size=0.02, **options):
    """Return a small problem, each site with its own coefficients; some inputs are beyond ±1."""
    dtype = options.pop("dtype", torch.float64)
    each, widths = options.pop("per_site", True), options.pop("widths", (7, 19, 3))
    name = f"{feedback}:2" if feedback == "truncated" else feedback
    system = Recurrent(widths, timing, feedback_name=name, **options)
    learner = Learner(system, tuple(terms))
    theta = size * normal(3, len(learner.terms), seed=4).to(dtype)
    sets = []
    for seed, samples in ((1, steps), (2, 4)):
        sets.append(normal(2, samples, timing.frames, widths[0], seed=seed).to(dtype))
        shape = (2, samples, *system.target_shape)
        sets.append(torch.randint(widths[2], shape, generator=seeded(seed)))
    state = learner.draw(2, seeded(3), dtype)
    return Problem(learner, theta if each else theta[0], state, EpisodeBatch(*sets))


def assert_same(one, other, tolerance=1e-9):
    assert_close(one.loss, other.loss, tolerance)
    assert_close(one.score, other.score, min(tolerance, 1e-6))
    assert_close(one.theta_gradient, other.theta_gradient, tolerance)
    for name, matrix in one.final.matrices.items():
        assert_close(matrix, other.final.matrices[name], tolerance)


def fused(given, **options):
    return FusedEngine(Settings(threads=1)).run(given, **options)
