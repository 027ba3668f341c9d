"""The peers of the benchmark compute the same gradient as the engines."""

from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from metaplast.commands import _benchmark_row
from metaplast.commands._benchmark_row import Case, make_problem
from metaplast.commands._jax_peers import jax_scan
from metaplast.commands._peers import eager_loop
from metaplast.commands.benchmark import ALL, PUBLISHED
from metaplast.engines import get_engine
from metaplast.systems.timing import Timing

needs_jax = pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")


def small(system, rule, monkeypatch):
    monkeypatch.setattr(_benchmark_row, "WIDTHS", (4, 5, 3, 6))
    monkeypatch.setattr(_benchmark_row, "DELAYED", Timing(1, 2, 4))
    case = Case("batched", rule, 4, 2, 1, 1, system=system, inputs=4, neurons=5)
    given = make_problem(case)
    return replace(given, theta=torch.linspace(-0.02, 0.03, len(given.theta)))


@pytest.mark.parametrize("rule", [PUBLISHED, ALL])
@pytest.mark.parametrize("system", ["fully-connected", "recurrent"])
@pytest.mark.parametrize(
    "peer",
    [
        lambda given: eager_loop(given)(),
        pytest.param(lambda given: jax_scan(given, vectorised=False)[0](), marks=needs_jax),
        pytest.param(lambda given: jax_scan(given, vectorised=True)[0](), marks=needs_jax),
    ],
    ids=["eager-loop", "jax", "jax-vmap"],
)
def test_a_peer_computes_the_gradient_of_the_engines(peer, system, rule, monkeypatch):
    given = small(system, rule, monkeypatch)
    expected = get_engine("batched").run(given).theta_gradient
    found = torch.as_tensor(peer(given))
    if found.dim() == 1:
        expected = expected[0]
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
