"""Time constants learned beside θ: the gradient to log τ, in every system and by every engine."""

import math
from dataclasses import replace

import pytest
import torch
from support import assert_close, normal, seeded
from systems.settings import SETTINGS

from metaplast import Learner
from metaplast.engines import Problem, get_engine
from metaplast.systems.timed import log_taus, timed, with_log_taus
from metaplast.terms.algebra import eligible, outer, post, pre, scalar, trace
from metaplast.terms.clocks import clocks_of, retimed
from metaplast.terms.term import Term

ENGINES = ("reference", "batched")


def term(name, formula):
    return Term(name, formula, "made up")


def remembering(system):
    """Return terms with traces on either side, and in and around an eligibility."""
    group = system.groups[0]
    sources = {
        side: sorted((s for s in group.offers if s.population == side), key=str)[0]
        for side in ("pre", "post")
    }
    slow = outer(post.one, trace(sources["pre"], 3))
    late = eligible(outer(post.one, trace(sources["pre"], 3)), 2.5)
    return (
        term("slow_pre", slow),
        term("slow_post", outer(trace(sources["post"] ** 2, 4), sources["pre"])),
        term("late", sources["post"] * late),
    )


def problem_of(setting, terms):
    learner = Learner(timed(setting.system, terms), terms)
    theta = setting.size * normal(len(learner.terms), seed=5)
    return Problem(learner, theta, learner.draw(2, seeded(), torch.float64), setting.batch())


def numeric(problem, step=1e-5):
    """Return the gradient to log τ by central differences, [episode, clock]."""
    clocks, found = problem.learner.clocks, []
    logs = torch.cat(log_taus(problem.state, clocks), 1)
    for k in range(len(clocks)):
        nudge = torch.zeros_like(logs)
        nudge[:, k] = step
        up, down = (
            get_engine("batched").run(
                replace(problem, state=with_log_taus(problem.state, clocks, logs + way * nudge)),
                gradient=False,
            ).loss
            for way in (1, -1)
        )
        found.append((up - down) / (2 * step))
    return torch.stack(found, 1)


DIFFERENTIABLE = [name for name, each in SETTINGS.items() if each.system.differentiable]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_gradient_to_log_tau_is_that_of_finite_differences(name):
    setting = SETTINGS[name]
    problem = problem_of(setting, (*setting.terms, *remembering(setting.system)))
    wanted, found = (get_engine(engine).run(problem) for engine in ENGINES)
    assert wanted.tau_gradient.shape == (2, len(problem.learner.clocks))
    assert_close(found.tau_gradient, wanted.tau_gradient, 1e-8)
    assert_close(found.theta_gradient, wanted.theta_gradient, 1e-8)
    assert_close(found.tau_gradient, numeric(problem), 1e-5)
    assert (wanted.tau_gradient.abs().amax(0) > 0).sum() >= 3
