"""Episodes spread over workers: the engine's own numbers, and a cluster that fails."""

import sys
from types import SimpleNamespace

import pytest
import torch
from support import FORWARD, assert_is_one_sentence, essence, random_problem

from metaplast.base.errors import UserError
from metaplast.base.workers import Workers
from metaplast.batch_jobs.ray_cluster import RayWorkers, alone, ray_workers
from metaplast.commands import discover as discover_command
from metaplast.commands import guard
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.engines import Problem, choose_engine, get_engine
from metaplast.engines.spread import SpreadEngine

CONFIG = DiscoveryConfig(
    episodes=4, meta_batch=2, refit=4, refit_batch=2, look=4, validation=4, test_episodes=4,
    hidden=(5,), ways=3, shots=2, queries=2, engine="fused", terms="error_hebbian,oja",
)  # fmt: skip


class Backwards(Workers):
    """Workers that compute the last call first, and count the calls."""

    def __init__(self):
        self.calls = 0

    def map(self, function, calls):
        self.calls += len(calls)
        return [function(*call) for call in reversed(calls)][::-1]


def theta_of(kind, problem):
    """Return θ shared, per layer, or of each episode."""
    sites, terms = problem.learner.sites, len(problem.learner.terms)
    if kind == "shared":
        return problem.theta
    sizes = torch.linspace(0.5, 1.5, 3 * sites, dtype=problem.theta.dtype).reshape(3, sites, 1)
    each = problem.theta.expand(3, sites, terms) * sizes
    return each if kind == "each" else each[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fused", "shared"), ("fused", "per layer"), ("batched", "shared"), ("batched", "each"),
        ("reference", "shared"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("gradient", [True, False])
def test_spread_episodes_have_the_engines_outcome(name, kind, gradient):
    problem = random_problem(FORWARD, episodes=3)
    problem = Problem(problem.learner, theta_of(kind, problem), problem.state, problem.episodes)
    workers = Backwards()
    spread = SpreadEngine(get_engine(name), workers)
    assert (spread.name, spread.takes_each) == (name, get_engine(name).takes_each)
    found = spread.run(problem, gradient=gradient)
    expected = get_engine(name).run(problem, gradient=gradient)
    assert workers.calls == 3
    # The fused engine unrolls each episode by itself anyway.
    tolerance = {"rtol": 0, "atol": 0} if name == "fused" else {"rtol": 1e-11, "atol": 1e-13}
    torch.testing.assert_close(found.loss, expected.loss, **tolerance)
    torch.testing.assert_close(found.score, expected.score, **tolerance)
    assert [*found.final.matrices] == [*expected.final.matrices]
    for matrix, other in zip(
        found.final.matrices.values(), expected.final.matrices.values(), strict=True
    ):
        torch.testing.assert_close(matrix, other, **tolerance)
    if gradient:
        torch.testing.assert_close(found.theta_gradient, expected.theta_gradient, **tolerance)
    else:
        assert found.theta_gradient is None


def test_a_discovery_has_the_same_digits_with_workers(compiled_kernel):
    workers = Backwards()
    here = Discovery(CONFIG).run()
    spread = Discovery(CONFIG, workers=workers).run()
    assert str(essence(spread)) == str(essence(here))
    assert workers.calls > 20


def test_workers_have_no_accelerator():
    learner = random_problem(FORWARD).learner
    engine = SpreadEngine(choose_engine("batched", learner, torch.device("cpu")), Backwards())
    assert engine.refusal(learner, torch.device("cpu")) is None
    assert "leave --ray or --device out" in engine.refusal(learner, torch.device("cuda"))


class Cluster:
    """Ray, as far as workers use it."""

    class exceptions:
        RayError = type("RayError", (Exception,), {})

    def __init__(self, fails=None):
        self.fails, self.cancelled, self.closed = fails, [], 0

    def init(self, **_):
        pass

    def remote(self, **_):
        return lambda function: SimpleNamespace(remote=lambda *call: (function, call))

    def get(self, references):
        if self.fails is not None:
            raise self.fails
        return [function(*call) for function, call in references]

    def cancel(self, reference):
        self.cancelled.append(reference)

    def shutdown(self):
        self.closed += 1


def halved(value):
    if value % 2:
        raise UserError(f"{value} is odd; give an even number.")
    return value // 2


def test_a_cluster_computes_calls_in_order(monkeypatch):
    cluster = Cluster()
    monkeypatch.setitem(sys.modules, "ray", cluster)
    with ray_workers("auto") as workers:
        assert workers.map(halved, [(2,), (4,), (8,)]) == [1, 2, 4]
        with pytest.raises(UserError, match="3 is odd; give an even number") as caught:
            workers.map(halved, [(2,), (3,)])
        assert_is_one_sentence(caught.value)
    assert cluster.closed == 1
    with ray_workers(None) as nothing:
        assert nothing is None


def test_a_lost_call_is_told_and_an_interrupt_cancels_the_rest():
    lost = RayWorkers(Cluster(Cluster.exceptions.RayError()))
    with pytest.raises(UserError, match=r"lost a call .* --resume") as caught:
        lost.map(halved, [(2,)])
    assert_is_one_sentence(caught.value)
    cluster = Cluster(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        RayWorkers(cluster).map(halved, [(2,), (4,)])
    assert len(cluster.cancelled) == 2


def test_a_worker_computes_on_one_thread():
    before = torch.get_num_threads()
    assert alone(torch.get_num_threads) == (1, None)
    assert torch.get_num_threads() == before


def test_without_ray_the_command_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "run"
    arguments = ["--ray=auto", f"--out={out}", "--hidden=5", "--terms=oja", "--episodes=2"]
    assert guard(discover_command.main, arguments) == 2
    assert "install metaplast[ray]" in capsys.readouterr().err
    assert not out.exists()
