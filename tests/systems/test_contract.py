"""Every system keeps the laws of the contract, and every torch engine is exact on it."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from finite_differences import finite_differences
from support import assert_close, assert_is_one_sentence, matrices_of, normal, seeded
from systems.settings import KINDS, SETTINGS

from metaplast.base.errors import UserError
from metaplast.engines import Problem, batched, get_engine, way_back
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Presented
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import W, outer, post, pre, scalar
from metaplast.terms.term import Synapses, Term, full_update

each = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
each_kind = pytest.mark.parametrize(
    "setting",
    [
        pytest.param(setting, id=name, marks=() if name in KINDS else pytest.mark.slow)
        for name, setting in SETTINGS.items()
    ],
)


def test_no_kind_of_system_is_left_to_the_long_suite():
    assert {SETTINGS[name].system.name for name in KINDS} == {
        setting.system.name for setting in SETTINGS.values()
    }


def problem_of(setting, *, per_site=False, episodes=2, steps=5, size=None):
    learner = Learner(setting.system, setting.terms)
    shape = (learner.sites, len(setting.terms)) if per_site else (len(setting.terms),)
    theta = (setting.size if size is None else size) * normal(*shape, seed=3)
    state = learner.draw(episodes, seeded(5), torch.float64)
    return Problem(learner, theta, state, setting.batch(episodes, steps))


@each
def test_a_system_is_a_frozen_value(setting):
    system = setting.system
    assert hash(system) == hash(replace(system))
    assert system == replace(system)
    with pytest.raises(FrozenInstanceError):
        setattr(system, fields(system)[0].name, None)


@each
def test_every_group_has_a_matrix_and_a_site(setting):
    system = setting.system
    for group in system.groups:
        assert group.name in system.shapes
        assert 0 <= group.site < len(system.sites)
    state = system.draw(2, seeded(), torch.float64)
    shapes = {name: tuple(m.shape[1:]) for name, m in state.matrices.items()}
    assert shapes == dict(system.shapes)
    assert {name: v.shape[1] for name, v in state.carry.items()} == dict(system.carried)


@each
def test_what_is_offered_and_read_is_presented(setting):
    problem = problem_of(setting)
    learner = problem.learner
    shown = learner.system.present(
        View.of(problem.state), problem.episodes.example(0), learner.reads
    )
    for group in learner.system.groups:
        signals = shown.synapses[group.name].signals
        assert set(signals) >= group.offers & learner.reads
        sizes = dict(zip((group.matrix.rows, group.matrix.columns),
                         learner.system.shapes[group.name], strict=True))  # fmt: skip
        for signal, value in signals.items():
            assert value.shape[0] == 2
            assert value.shape[2] == sizes[signal.population]
        scalars = shown.synapses[group.name].scalars
        assert set(scalars) >= group.scalars
        occurrences = next(iter(signals.values())).shape[1]
        for value in scalars.values():
            assert tuple(value.shape) == (2, occurrences)


@each
def test_presenting_changes_nothing(setting):
    problem = problem_of(setting)
    before = [m.clone() for m in matrices_of(problem.state)]
    problem.learner.system.present(
        View.of(problem.state), problem.episodes.example(0), problem.learner.reads
    )
    for a, b in zip(before, matrices_of(problem.state), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
@each
def test_episodes_are_independent(setting):
    problem = problem_of(setting, episodes=3)
    together = get_engine("batched").run(problem)
    alone = get_engine("batched").run(problem.select(slice(1, 2)))
    assert_close(together.loss[1:2], alone.loss, 1e-12)
    assert_close(together.theta_gradient[1:2], alone.theta_gradient, 1e-10)


@each_kind
@pytest.mark.parametrize(
    "per_site",
    [pytest.param(False, id="shared"), pytest.param(True, id="per-site", marks=pytest.mark.slow)],
)
def test_batched_is_the_reference(setting, per_site):
    problem = problem_of(setting, per_site=per_site)
    expected = get_engine("reference").run(problem)
    actual = get_engine("batched").run(problem)
    assert_close(actual.loss, expected.loss)
    assert_close(actual.score, expected.score)
    assert_close(actual.theta_gradient, expected.theta_gradient)
    assert expected.theta_gradient.abs().max() > 1e-6
    for a, b in zip(matrices_of(actual.final), matrices_of(expected.final), strict=True):
        assert_close(a, b)
    for name, vector in expected.final.carry.items():
        assert_close(actual.final.carry[name], vector)


@pytest.mark.slow
@each
def test_the_gradient_is_that_of_finite_differences(setting):
    problem = problem_of(setting)
    gradient = get_engine("batched").run(problem).theta_gradient
    for found, expected in zip(gradient.T, finite_differences(problem, 1e-6).T, strict=True):
        assert_close(found, expected, 1e-6)


@each_kind
def test_the_gradient_is_that_of_plain_autograd_through_full_matrices(setting):
    """Without the engines: full matrices, one term at a time, differentiated by autograd."""
    problem = problem_of(setting, steps=4)
    learner, system = problem.learner, problem.learner.system
    theta = problem.episode_theta.requires_grad_()
    state = problem.state
    for t in range(4):
        shown = system.present(View.of(state), problem.episodes.example(t), learner.reads)
        matrices = dict(state.matrices)
        for group in system.groups:
            for k, term in enumerate(learner.terms):
                if group.serves(term):
                    update = full_update(term, shown.synapses[group.name])
                    strength = theta[:, group.site, k, None, None]
                    matrices[group.name] = matrices[group.name] + strength * update
        for name, change in shown.own.items():
            matrices[name] = matrices[name] + change.rows.mT @ change.columns
        for name, limits in system.limits.items():
            low, high = (
                torch.tensor(bound, dtype=torch.float64) for bound in (limits.low, limits.high)
            )
            matrices[name] = torch.clamp(matrices[name], low, high)
        state = State(matrices, shown.carry)
    loss, _ = learner.query(state, problem.episodes.query)
    (expected,) = torch.autograd.grad(loss.sum(), theta)
    actual = get_engine("batched").run(problem)
    assert_close(actual.loss, loss.detach())
    assert_close(actual.theta_gradient, expected.sum(1))


@pytest.mark.slow
@each
def test_a_long_episode_is_undone_to_where_it_began(setting, monkeypatch):
    """More steps than a segment holds: starts are kept, and the steps between them are undone."""
    problem = problem_of(setting, steps=7, size=1e-3)  # Four, and three.
    expected = get_engine("reference").run(problem)
    rebuilt, check = [], way_back._is_rebuilt

    def checked(found, start):
        rebuilt.append(check(found, start))
        return rebuilt[-1]

    monkeypatch.setattr(way_back, "_is_rebuilt", checked)
    # In networks this small, it would be faster to keep all states.
    monkeypatch.setattr(batched, "are_large", lambda *_: False)
    actual = get_engine("batched").run(problem)
    assert_close(actual.theta_gradient, expected.theta_gradient, 1e-8)
    learner = problem.learner
    has_dense = any(learner.plasticity(group).full for group in learner.changing)
    undone = not has_dense and not any(learner.system.limits.values())
    # At first, recursive least squares shrink a reservoir's P too fast to undo it exactly.
    is_exact = learner.system.name != "reservoir"
    assert rebuilt == ([True, is_exact] if undone else [])


def repeated(system, times):
    """Return a system that presents every example K times over, each with weight 1/K."""
    kind = type(system)

    def present(self, view, example, reads):
        shown = kind.present(self, view, example, reads)
        more = {
            name: Synapses(
                s.operator,
                {key: v.repeat(1, times, 1) for key, v in s.signals.items()},
                s.weight / times,
                {key: v.repeat(1, times) for key, v in s.scalars.items()},
            )
            for name, s in shown.synapses.items()
        }
        return Presented(more, shown.own, shown.carry)

    made = type(kind.__name__, (kind,), {"present": present})
    return made(**{field.name: getattr(system, field.name) for field in fields(system)})


# An eligibility takes time steps in order, but occurrences of weight 1/K at once.
ORDERED = ("recurrent, eligible", "leaky", "stack, symmetric, non-negative, eligible")
unordered = [name for name in SETTINGS if not name.startswith(ORDERED)]


@pytest.mark.parametrize("setting", [SETTINGS[name] for name in unordered], ids=unordered)
@pytest.mark.parametrize("times", [1, 3])
def test_equal_occurrences_of_weight_one_in_k_are_one(setting, times):
    problem = problem_of(setting)
    learner = Learner(repeated(setting.system, times), setting.terms)
    step = [
        one.step(problem.state, problem.episode_theta, problem.episodes.example(0))
        for one in (problem.learner, learner)
    ]
    for a, b in zip(*map(matrices_of, step), strict=True):
        assert_close(a, b, 1e-12)


@each
def test_a_term_that_reads_what_is_not_offered_is_refused(setting):
    reward = Term("rewarded", outer(post.signal("reward"), pre.activity), "made up")
    with pytest.raises(
        UserError, match=r"reads post\.reward.* it offers .*post\.activity"
    ) as caught:
        Learner(setting.system, (reward,))
    assert_is_one_sentence(caught.value)


@each
def test_a_term_that_reads_a_scalar_that_is_not_offered_is_refused(setting):
    rewarded = Term("rewarded", scalar("dopamine") * (scalar("reward") * W), "made up")
    with pytest.raises(UserError, match=r'reads .*scalar\("dopamine"\)') as caught:
        Learner(setting.system, (rewarded,))
    assert_is_one_sentence(caught.value)
    (group, *_) = setting.system.groups
    read, offered = str(caught.value).split("; it offers ")
    assert "post.activity" in offered
    assert ('scalar("reward")' in offered) == ("reward" in group.scalars)
    assert ('scalar("reward")' in read) == ("reward" not in group.scalars)


@each
def test_the_fused_engine_serves_stacks_and_recurrent_networks_that_learn_classes(setting):
    learner = Learner(setting.system, setting.terms)
    refusal = get_engine("fused").refusal(learner, torch.device("cpu"))
    serves = setting.system.name in ("fully-connected", "recurrent")
    serves = serves and getattr(setting.system, "objective_name", "") == "cross-entropy"
    serves = serves and "predictive-coding" not in learner.feedback_name
    # It has no memory for eligibilities, and no constraint on weights.
    serves = serves and not isinstance(learner.system, Wrapped)
    assert (refusal is None) == serves
    if refusal is not None:
        assert "--engine batched" in refusal


def test_an_ungated_decay_acts_once_an_example():
    """For any number of occurrences."""
    setting = SETTINGS["test recurrent"]
    decay = next(t for t in setting.terms if t.name == "decay")
    learner = Learner(setting.system, (decay,))
    state = learner.draw(1, seeded(), torch.float64)
    theta = torch.full((1, 3, 1), 0.25, dtype=torch.float64)
    after = learner.step(
        state, theta, Examples(torch.rand(1, 4, 3).double(), torch.zeros(1).long())
    )
    assert_close(after.matrices["recurrent"], 0.75 * state.matrices["recurrent"], 1e-14)
    assert decay.matrix == W
