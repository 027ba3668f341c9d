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


def small(system, rule, monkeypatch):
    monkeypatch.setattr(_benchmark_row, "WIDTHS", (4, 5, 3, 6))
    monkeypatch.setattr(_benchmark_row, "DELAYED", Timing(1, 2, 4))
    case = Case("batched", rule, 4, 2, 1, 1, system=system, inputs=4, neurons=5)
    given = make_problem(case)
    return replace(given, theta=torch.linspace(-0.02, 0.03, len(given.theta)))


@pytest.mark.parametrize("rule", [PUBLISHED, ALL])
@pytest.mark.parametrize("system", ["fully-connected", "recurrent"])
def test_the_plain_loop_computes_the_gradient_of_the_engines(system, rule, monkeypatch):
    given = small(system, rule, monkeypatch)
    assert_same(eager_loop(given)(), get_engine("batched").run(given).theta_gradient[0])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("system", ["fully-connected", "recurrent"])
def test_jax_computes_the_gradient_of_the_engines(system, vectorised, monkeypatch):
    given = small(system, ALL, monkeypatch)
    run, planned = jax_scan(given, vectorised=vectorised)
    expected = get_engine("batched").run(given).theta_gradient
    assert_same(torch.tensor(run()), expected if vectorised else expected[0])
    assert planned > 0


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
