"""Where learning is chaotic, the search of a pool shrinks all coefficients."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support import Clouds

from metaplast.base.notices import collected
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.refits import Refits
from metaplast.discovery.rough import notice_rough_search
from metaplast.discovery.run import Discovery
from metaplast.engines import Outcome
from metaplast.meta import learning_loop
from metaplast.meta.chaos import SHRINK, is_chaotic
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import get_term

TERMS = ("error_hebbian", "error_error", "oja")
SETTINGS = OuterSettings(
    episodes=800, meta_batch=4, meta_lr=0.02, l1=0.0, schedule="constant", scaling="none"
)
SMALL = DiscoveryConfig(
    dataset="clusters", ways=3, shots=4, queries=2, hidden=(6,), episodes=160, refit=16,
    validation=4, test_episodes=4, meta_lr=0.5, engine="fused",
)  # fmt: skip


def test_the_measure_is_the_median_over_tasks_of_what_a_step_could_change():
    gradients = torch.tensor([[1.0, -2.0], [100.0, -100.0], [-3.0, 1.0]])
    # ‖g‖₁ is 3, 200 and 4.
    assert is_chaotic(gradients, 0, 0.5, 1.99)
    assert not is_chaotic(gradients, 0, 0.5, 2.0)
    # The gradient of a task that diverged counts as infinite: the median is 4, then 200.
    assert is_chaotic(gradients, 1, 0.5, 1.99)
    assert not is_chaotic(gradients, 1, 0.5, 2.0)
    assert is_chaotic(gradients, 2, 0.5, 99.0)
    # With per-layer coefficients, all of them count.
    assert is_chaotic(gradients[:, None].expand(-1, 2, -1), 0, 0.5, 3.99)


@pytest.mark.parametrize("loss", [0.0, -1.0, math.nan, math.inf])
def test_without_a_positive_loss_there_is_no_measure(loss):
    assert not is_chaotic(torch.full((2, 3), 1e9), 0, 1.0, loss)


class Rough:
    """Stands in for an engine: ½‖θ − 3‖² + 1, but beyond ‖θ‖₁ = 1 each gradient is noise."""

    name = "rough"

    def __init__(self):
        self.noise = torch.Generator().manual_seed(0)
        self.sizes = []

    def run(self, problem, *, gradient=True):
        size = problem.theta.abs().sum()
        self.sizes.append(size.item())
        count = problem.episodes.episodes
        off = (problem.theta - 3.0).expand(count, *problem.theta.shape).clone()
        loss = 1 + 0.5 * off.square().flatten(1).sum(1)
        if size > 1:
            off = 1e5 * torch.randn(off.shape, generator=self.noise, dtype=off.dtype)
        return Outcome(loss, torch.ones_like(loss), off, problem.state)


def loop_of(engine, settings=SETTINGS, start=(0.1, 0.0, 0.0), **options):
    system = FullyConnected((6, 5, 3))
    learner = Learner.on_stack(system, "fixed", [get_term(name) for name in TERMS])
    theta = Coefficients(TERMS, torch.tensor(start, dtype=torch.float64))
    return OuterLoop("search", learner, Clouds(), engine, settings, theta, **options)


def test_a_search_stays_at_the_edge_of_chaos_and_would_wander_off_without():
    kept, lost = Rough(), Rough()
    loop = loop_of(kept, shrinks=True)
    loop.run()
    loop_of(lost).run()
    late = slice(100, None)
    # Adam's steps go up to 0.06 in ‖θ‖₁ beyond the edge.
    assert max(kept.sizes[late]) < 1.1
    assert min(kept.sizes[late]) > 0.8
    assert max(lost.sizes[late]) > 1.3
    shrunk = [record.shrunk for record in loop.progress.history]
    assert shrunk == [size > 1 for size in kept.sizes]
    assert any(shrunk)


def test_a_shrunk_step_only_scales_the_coefficients():
    engine = Rough()
    loop = loop_of(engine, shrinks=True)
    while not (loop.progress.history and loop.progress.history[-1].shrunk):
        before, trust = loop.theta.clone(), loop.progress.trust.state()
        optimizer = repr(loop._optimizer.state_dict())
        loop.run_step()
    assert torch.equal(loop.theta, SHRINK * before)
    # A chaotic step is not a safe one to go back to, and its noise does not enter Adam's moments.
    assert torch.equal(loop.progress.trust.safe, trust["safe"])
    assert repr(loop._optimizer.state_dict()) == optimizer


def test_the_first_step_has_nothing_to_compare_with():
    loop = loop_of(Rough(), replace(SETTINGS, meta_lr=1e3), shrinks=True)
    assert not loop.run_step().shrunk


class Diverging(Rough):
    """In every step but the first ones, some tasks diverge."""

    def __init__(self, diverged, since=0):
        super().__init__()
        self.diverged, self.since = diverged, since

    def run(self, problem, *, gradient=True):
        outcome = super().run(problem, gradient=gradient)
        if len(self.sizes) > self.since:
            outcome.theta_gradient[: self.diverged] = math.nan
        return outcome


@pytest.mark.parametrize(("diverged", "undone"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_short_step_is_undone_only_if_most_tasks_diverge(diverged, undone):
    loop = loop_of(Diverging(diverged, since=1), start=(1.1, 0.0, 0.0), shrinks=True)
    loop.run_step()
    before, radius = loop._theta.u.detach().clone(), loop.progress.trust.radius
    assert radius < 1
    # Beyond the edge of chaos, the coefficients shrink if the step is not undone.
    assert loop.run_step().shrunk == (not undone)
    assert loop.progress.trust.radius == (radius / 2 if undone else radius)
    # The safe coefficients are those of the first step, before Adam moved them.
    first = torch.tensor((1.1, 0.0, 0.0), dtype=torch.float64)
    expected = (before + first) / 2 if undone else SHRINK * before
    torch.testing.assert_close(loop._theta.u.detach(), expected)


def test_divergent_tasks_count_as_chaotic_ones():
    class OneCalm(Diverging):
        """Of the two tasks that stay finite, one has a small gradient."""

        def run(self, problem, *, gradient=True):
            outcome = super().run(problem, gradient=gradient)
            outcome.theta_gradient[2] = 1e-3
            return outcome

    loop = loop_of(OneCalm(2, since=1), start=(1.1, 0.0, 0.0), shrinks=True)
    loop.run_step()
    # The lower median of small, large, infinite and infinite is the large one.
    assert loop.run_step().shrunk


@pytest.mark.parametrize(("shrinks", "cold"), [(True, True), (True, False), (False, True)])
def test_a_step_of_full_length_is_undone_by_one_task(shrinks, cold):
    # A cold loop takes its first steps of full length after seven good ones.
    good = 8 if cold else 1
    loop = loop_of(Diverging(1, since=good), shrinks=shrinks, cold=cold)
    for _ in range(good):
        before = loop._theta.u.detach().clone()
        loop.run_step()
    assert loop.progress.trust.radius == 1
    moved = loop._theta.u.detach().clone()
    loop.run_step()
    assert loop.progress.trust.radius == 0.5
    torch.testing.assert_close(loop._theta.u.detach(), (moved + before) / 2)


@pytest.mark.parametrize(("shrinks", "cold"), [(True, True), (True, False), (False, True)])
def test_divergent_tasks_in_every_step_do_not_stop_a_search_but_any_other_loop(shrinks, cold):
    loop = loop_of(Diverging(1, since=1), shrinks=shrinks, cold=cold)
    loop.run()
    reached = loop.theta.abs().sum()
    # The search comes to the edge of chaos; a refit or a baseline comes back to where it began.
    if shrinks and cold:
        assert 0.8 < reached < 1.1
    else:
        assert reached.item() == pytest.approx(0.1, rel=0.01)


def test_the_bar_is_for_the_step_that_would_be_taken():
    # The median of ‖g‖₁ is about 2e5: a step of 0.02 would change the loss by 4e3.
    for radius, shrunk in ((1.0, True), (1 / 16, False)):
        loop = loop_of(Rough(), start=(1.1, 0.0, 0.0), shrinks=True, began=1e3)
        loop.progress.trust.radius = radius
        assert loop.run_step().shrunk == shrunk


def test_the_bar_stays_where_the_search_began():
    class Solved(Rough):
        """The loss falls to nearly zero, but gradients stay large."""

        def run(self, problem, *, gradient=True):
            outcome = super().run(problem, gradient=gradient)
            return replace(outcome, loss=outcome.loss * (1e-6 if len(self.sizes) > 1 else 1.0))

    loop = loop_of(Solved(), replace(SETTINGS, episodes=12), shrinks=True)
    loop.run()
    assert not any(record.shrunk for record in loop.progress.history)


def steps_that_shrank(config):
    result = Discovery(config).run()
    stages = {}
    for record in result.history:
        stages.setdefault(record.stage, []).append(record.shrunk)
    return stages, [line for line in result.notices if "chaotic" in line]


def test_a_search_and_its_refits_shrink_but_no_baseline(monkeypatch):
    # How often learning is really chaotic depends on how a machine rounds.
    monkeypatch.setattr(learning_loop, "is_chaotic", lambda *_: True)
    stages, (line,) = steps_that_shrank(SMALL)
    baselines = {name: stages.pop(name) for name in ("feedback_alignment", "backprop")}
    assert len(stages) > 1
    assert all(all(shrunk) for shrunk in stages.values())
    assert not any(any(shrunk) for shrunk in baselines.values())
    assert line.startswith("40 ")
    assert "steps of the search only shrank the coefficients, because learning was chaotic" in line
    assert line.endswith("may find more.")


@pytest.mark.parametrize("backtrack", [True, False])
def test_refits_shrink_as_the_search_did_by_the_same_bar(backtrack):
    discovery = Discovery(replace(SMALL, backtrack=backtrack))
    search = discovery.stages.run("search", discovery._search)
    Refits(discovery._loops, search).start([0, 1, 2])
    refit = discovery.stages.loops["refit"]
    assert refit.shrinks == search.shrinks == backtrack
    assert refit._began == search.progress.history[0].loss


def test_a_loop_may_be_told_what_the_search_began_with():
    # ‖g‖₁ times the step size is about 0.18, and the loss about 14.
    for began, shrunk in ((0.1, True), (0.3, False)):
        assert loop_of(Rough(), shrinks=True, began=began, cold=False).run_step().shrunk == shrunk


@pytest.mark.parametrize(
    ("change", "shrinks"),
    [
        ({}, True),
        ({"terms": "oja,error_hebbian"}, True),
        ({"backtrack": False}, False),
        ({"terms": "bio"}, False),
        ({"entry": 16}, True),
        ({"entry": 16, "terms": "F0=0.02,oja,decay"}, False),
        ({"estimator": "es"}, False),
    ],
)
def test_which_searches_shrink(change, shrinks):
    assert Discovery(replace(SMALL, **change))._search().shrinks == shrinks


@pytest.mark.parametrize(
    ("steps", "shrunk", "told"), [(100, 21, 1), (100, 20, 0), (30, 7, 1), (29, 29, 0)]
)
def test_a_search_that_shrank_in_more_than_a_fifth_of_its_steps_says_so(steps, shrunk, told):
    history = [SimpleNamespace(step=k, shrunk=k < shrunk) for k in range(steps)]
    for growth in (None, object()):
        loop = SimpleNamespace(growth=growth, progress=SimpleNamespace(history=history))
        with collected() as notices:
            notice_rough_search(loop)
        assert len(notices.lines) == told
        # A rule that grows already cannot be told to grow.
        assert ("--entry" in " ".join(notices.lines)) == (told and growth is None)
