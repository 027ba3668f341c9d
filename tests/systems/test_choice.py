"""Actions and delayed rewards: plain loops, the gradient of the reward, and what rules learn."""

import math
from dataclasses import replace

import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, normal, refusal, seeded

from metaplast import DiscoveryConfig, Learner, UserError, discover
from metaplast.commands import discover as command
from metaplast.commands import guard
from metaplast.systems.choice import CHOICE, DEVIATION, Choice, _drawn
from metaplast.systems.choice_kind import choice_kind
from metaplast.systems.kind import SystemRequest
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.terms.algebra import eligible, outer, post, pre, reward, surprise, trace
from metaplast.terms.term import Term

EXPLORED = outer(DEVIATION, pre.activity)


def bandits(steps, *, argument="", queries=1, episodes=8, seed=1):
    request = EpisodeRequest(shots=steps, queries=queries, dtype=torch.float64)
    return open_source(f"bandit:{argument}", request).test.sample(episodes, seeded(seed))


def draw(system, episodes, *, size=1.0):
    state = system.draw(episodes, seeded(), torch.float64)
    return replace(state, matrices={k: size * m for k, m in state.matrices.items()})


def learn(formulas, theta, batch, delay=0):
    """Return the better arm's probability in each episode, at each step, [step, episode]."""
    learner = Learner(Choice((1, 2), delay), tuple(Term(f"t{i}", f, "m")
                                                   for i, f in enumerate(formulas)))  # fmt: skip
    state = draw(learner, batch.episodes)
    theta = torch.tensor(theta, dtype=torch.float64).expand(batch.episodes, 1, -1)
    best, found = batch.query_y[:, 0].argmax(-1), []
    with torch.no_grad():
        for t in range(batch.steps):
            state = learner.step(state, theta, batch.example(t))
            p = torch.softmax(state.matrices["W"][..., 0], -1)
            found.append(p.gather(1, best[:, None])[:, 0])
    return torch.stack(found)


@pytest.mark.parametrize("delay", [0, 2])
def test_a_rule_is_a_plain_loop(delay):
    formulas = surprise * eligible(EXPLORED, 3), 0.5 * (reward * EXPLORED)
    terms = tuple(Term(f"t{i}", f, "m") for i, f in enumerate(formulas))
    system = Choice((2, 3), delay, "normal:0.5")
    learner = Learner(system, terms)
    state = learner.draw(1, seeded(), torch.float64)
    theta = torch.tensor([[[0.4, -0.3]]], dtype=torch.float64)
    w = state.matrices["W"][0].tolist()
    kept = [[0.0] * 2 for _ in range(3)]
    earned, mean = [], 0.0
    draws = torch.rand(7, generator=seeded(3)).double()
    for t in range(7):
        x, rewards = normal(2, seed=t), normal(3, seed=20 + t)
        example = Examples(x[None], rewards[None], draws[t].view(1, 1))
        state = learner.step(state, theta, example)
        z = [sum(a * b for a, b in zip(row, x.tolist(), strict=True)) for row in w]
        total = sum(map(math.exp, z))
        p = [math.exp(v) / total for v in z]
        chosen = 0
        while sum(p[: chosen + 1]) <= float(draws[t]):
            chosen += 1
        earned.append(float(rewards[chosen]))
        r = earned[t - delay] if t >= delay else 0.0
        mean = 0.95 * mean + r / 20
        for i in range(3):
            for j in range(2):
                f = ((i == chosen) - p[i]) * float(x[j])
                kept[i][j] = kept[i][j] * 2 / 3 + f
                w[i][j] += 0.4 * (r - mean) * kept[i][j] - 0.3 * 0.5 * r * f
        assert_close(state.matrices["W"][0], torch.tensor(w).double(), 1e-6)
    assert_close(state.matrices["W"][0], torch.tensor(w, dtype=torch.float64), 1e-12)


def test_the_library_has_these_rules():
    """The formulas that the tests here compare with plain loops and gradients, by name."""
    explored, names = eligible(EXPLORED, 4), (
        "reward_modulated_hebbian", "reinforce", "reinforce_delayed", "rewarded_eligibility",
        "mean_reward_eligibility", "error_hebbian_delayed",
    )  # fmt: skip
    formulas = (
        surprise * outer(post.activity, pre.activity), surprise * EXPLORED, surprise * explored,
        reward * explored, trace(reward, 20) * explored,
        -(post.error * eligible(outer(post.one, pre.activity), 4)),
    )  # fmt: skip
    assert tuple(term.formula for term in named(*names)) == formulas


def test_actions_are_drawn_with_their_probabilities():
    p = torch.tensor([[[0.2, 0.5, 0.3]]]).double().expand(4000, 1, 3)
    chosen = _drawn(p, torch.rand(4000, 1, generator=seeded()))
    assert torch.equal(chosen.sum(-1), torch.ones(4000, 1).double())
    assert (chosen.mean((0, 1)) - p[0, 0]).abs().max() < 0.02
    # The ends of the noise, and probabilities that round to less than one.
    ends = _drawn(p[:2], torch.tensor([[0.0], [1 - 1e-12]]))
    assert ends.argmax(-1).flatten().tolist() == [0, 2]
    assert _drawn(p[:1] * 0.9, torch.tensor([[0.99]])).argmax() == 2
    assert _drawn(p[:1], None).argmax() == 1


def test_the_mean_update_of_reinforce_is_the_gradient_of_the_expected_reward():
    count, system = 40000, Choice((2, 3), 0, "normal:0.5")
    learner = Learner(system, (Term("t", reward * EXPLORED, "m"),))
    one = learner.draw(1, seeded(), torch.float64)
    state = State({"W": one.matrices["W"].expand(count, 3, 2)}, {})
    x, rewards = normal(1, 2), normal(1, 3, seed=2)
    noise = torch.rand(count, 1, generator=seeded(5)).double()
    example = Examples(x.expand(count, 2), rewards.expand(count, 3), noise)
    after = learner.step(state, torch.ones(count, 1, 1).double(), example)
    mean = (after.matrices["W"] - state.matrices["W"]).mean(0)
    leaf = one.matrices["W"].requires_grad_()
    loss = system.objective.loss(x[None] @ leaf.mT, rewards[None])
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    assert (mean + gradient[0]).norm() < 0.03 * gradient.norm()


def test_rewards_arrive_late_and_only_that_of_the_chosen_action_counts():
    system = Choice((1, 2), 2, "normal:1")
    state = draw(system, 1)
    arrived, earned = [], []
    for t in range(5):
        rewards = torch.tensor([[10.0 + t, 20.0 + t]]).double()
        example = Examples(torch.ones(1, 1).double(), rewards, torch.tensor([[0.1 + 0.2 * t]]))
        shown = system.present(View.of(state), example, frozenset())
        chosen = shown.synapses["W"].signals[CHOICE][0, 0]
        earned.append(float(chosen @ rewards[0]))
        arrived.append(float(shown.synapses["W"].scalars["reward"]))
        state = State(state.matrices, shown.carry)
    assert arrived == [0.0, 0.0, *earned[:3]]


# The figures to reach are those of a plain program: .994, .95 with the eligibility, else chance.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("delay", "tau", "rate", "least", "most"),
    [(0, 1, 0.1, 0.98, 1.0), (3, 1, 0.03, 0.3, 0.7), (3, 4, 0.03, 0.88, 1.0)],
)
def test_a_late_reward_needs_an_eligibility(delay, tau, rate, least, most):
    batch = bandits(2500, episodes=60)
    found = learn([surprise * eligible(EXPLORED, tau)], [rate], batch, delay)
    assert least < float(found[-300:].mean()) < most


def test_a_bandit_is_learned_and_no_reward_means_chance():
    batch = bandits(250, episodes=40)
    found = learn([surprise * EXPLORED], [0.3], batch)
    assert float(found[-50:].mean()) > 0.9
    # Rewards that belong to other actions teach nothing.
    shuffled = replace(batch, support_y=batch.support_y[torch.randperm(40, generator=seeded(2))])
    mixed = learn([surprise * EXPLORED], [0.3], shuffled)
    assert 0.25 < float(mixed[-50:].mean()) < 0.75


# --- the source ---


def test_bandits_are_what_they_say():
    batch = bandits(400, argument="arms=3,states=2,good=0.9,bad=0.2", queries=4, episodes=30)
    assert batch.support_x.shape == (30, 400, 2)
    assert torch.equal(batch.support_x.sum(-1), torch.ones(30, 400).double())
    assert batch.query_x[0].argmax(-1).tolist() == [0, 1, 0, 1]
    assert set(batch.query_y.unique().tolist()) == {0.2, 0.9}
    assert ((batch.query_y == 0.9).sum(-1) == 1).all()
    assert set(batch.support_y.unique().tolist()) == {0.0, 1.0}
    assert ((batch.noise >= 0) & (batch.noise < 1)).all()
    # The rewards have the probabilities of their state.
    for k in (0, 1):
        there = batch.support_x[..., k : k + 1]
        share = (there * batch.support_y).sum(1) / there.sum(1)
        assert (share - batch.query_y[:, k]).abs().mean() < 0.05


@pytest.mark.parametrize(
    "argument",
    ["arms=1", "arms=2.5", "states=0", "good=2", "good=0.2", "bad=-1", "arms=many", "arms", "x=1",
     "good=nan", "arms=2,arms=2"],
)  # fmt: skip
def test_wrong_bandits_are_refused(argument):
    assert "bandit" in refusal(bandits, 5, argument=argument)


# --- the system by name ---


@pytest.mark.parametrize(
    "make",
    [
        lambda: Choice((1,)),
        lambda: Choice((1, 2), -1),
        lambda: Choice((1, 2), 10**9),
        lambda: Choice((1, 2), objective_name="mse"),
        lambda: Choice((1, 2)).with_feedback("fixed"),
        lambda: choice_kind.build(SystemRequest(1, 2, hidden=(5,), feedback="none")),
        lambda: choice_kind.build(SystemRequest(1, 2, argument="delay=x", feedback="none")),
        lambda: choice_kind.build(SystemRequest(1, 2, argument="later=3", feedback="none")),
        lambda: Learner(Choice((1, 2)), named("error_hebbian")),
        lambda: discover(system="choice", terms="reinforce"),
        lambda: DiscoveryConfig.for_system("choice", terms="reinforce", objective="mse"),
    ],
)
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(UserError) as caught:
        make()
    assert_is_one_sentence(caught.value)


def test_without_es_the_estimator_is_named(capsys):
    assert "--estimator es" in refusal(discover, system="choice", terms="reinforce")
    assert guard(command.main, ["--system=choice", "--terms=reinforce"]) == 2
    assert "--estimator es" in capsys.readouterr().err
    config = DiscoveryConfig.for_system("choice:delay=3", terms="reinforce", estimator="es")
    assert config.build_system(1, 2).delay == 3
    assert config.dataset_name == "bandit"


@pytest.mark.slow
def test_the_command_finds_a_rule_from_rewards_alone(tmp_path, capsys):
    small = ["--shots=10", "--queries=1", "--episodes=4", "--meta-batch=2", "--refit=0", "--look=4",
             "--validation=4", "--test-episodes=4", "--pairs=2"]  # fmt: skip
    chosen = ["--system=choice:delay=1", "--terms=rewarded_eligibility", "--estimator=es"]
    out = f"--out={tmp_path / 'run'}"
    assert guard(command.main, [*chosen, *small, out, "--quiet"]) == 0, capsys.readouterr()
    rule = (tmp_path / "run" / "rule.json").read_text()
    assert '"eligibility"' in rule
    assert '"reward"' in rule


def test_a_discovery_learns_coefficients_from_rewards_alone():
    config = DiscoveryConfig.for_system(
        "choice", terms="rewarded_eligibility,mean_reward_eligibility", estimator="es", shots=15,
        queries=1, episodes=8, refit=4, validation=4, test_episodes=8, pairs=2, meta_lr=0.05,
        refit_batch=2, l1=0.0,
    )  # fmt: skip
    result = discover(config)
    assert torch.isfinite(result.rule.tensor()).all()
    assert result.rule.feedback == "none"
