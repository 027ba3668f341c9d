"""Everything that may compute on a GPU gives there what it gives on the CPU."""

import json

import pytest
import torch
from support import Stop, essence
from systems.settings import SETTINGS
from systems.test_contract import problem_of

from metaplast.base.errors import UserError
from metaplast.commands import benchmark, evaluate, guard, reproduce
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.run import Discovery
from metaplast.engines import get_engine
from metaplast.reproduce.experiment import Setting, get_experiment
from metaplast.reproduce.runner import Plan, Results

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICE = "cuda"
CONFIG = DiscoveryConfig(
    terms="F0,F2,F9", hidden=(5,), ways=3, shots=2, queries=2, episodes=8, meta_batch=2, refit=2,
    refit_batch=2, look=4, validation=2, test_episodes=2, engine="batched", device=DEVICE,
)  # fmt: skip
ON_CUDA = ("fixed-points-mnist", "predictive-coding")
# Only the order of sums differs; a relaxation amplifies the difference.
AGREE = {"rtol": 1e-8, "atol": 1e-11}


def _same(found, expected):
    torch.testing.assert_close(found.cpu(), expected, **AGREE)


@pytest.mark.parametrize("engine", ["batched", "compiled", "reference"])
@pytest.mark.parametrize("name", SETTINGS)
def test_an_unroll_is_the_same(name, engine):
    setting = SETTINGS[name]
    problem = problem_of(setting, per_site=True)
    if get_engine(engine).refusal(problem.learner, torch.device(DEVICE)):
        pytest.skip("this engine refuses this system")
    if engine == "compiled" and name not in ("stack, fixed", "recurrent, delayed"):
        pytest.skip("two systems are enough, as each is compiled for a minute")
    expected = get_engine("batched").run(problem)
    found = get_engine(engine).run(problem.on(DEVICE))
    assert found.loss.device.type == DEVICE
    _same(found.loss, expected.loss)
    _same(found.theta_gradient, expected.theta_gradient)
    for key, matrix in expected.final.matrices.items():
        _same(found.final.matrices[key], matrix)


def test_an_interrupted_discovery_continues_to_the_bit(tmp_path):
    whole = discover(CONFIG, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        discover(CONFIG, folder=tmp_path / "parts", observers=[Stop(2)])
    continued = Discovery.resume(tmp_path / "parts").run()
    assert essence(continued) == essence(whole)
    assert whole.heldout["discovered"].score.isfinite().all()


@pytest.mark.parametrize("name", ON_CUDA)
def test_an_experiment_is_computed_there(name, tmp_path):
    experiment = get_experiment(name)
    tables = {}
    for device in ("cpu", DEVICE):
        plan = Plan(Results(tmp_path / device, Setting(quick=True, device=device)), [experiment], 1)
        plan.check()
        assert plan.run(processes=1) == {}
        tables[device] = plan.table(experiment)
        plan.conclude(experiment)
    for variant in experiment.variants:
        columns = tables["cpu"].columns(variant.name)
        column = "accuracy" if "accuracy" in columns else next(iter(columns))
        first, second = (t.series(variant.name, column) for t in tables.values())
        assert first.values == pytest.approx(second.values, rel=0.05, abs=0.05)
    summary = json.loads((tmp_path / DEVICE / f"{name}.json").read_text())
    assert torch.cuda.get_device_name() in summary["machine"]
    # Parts of both devices are never mixed.
    setting = Setting(quick=True)
    with pytest.raises(UserError, match="on another device"):
        Plan(Results(tmp_path / DEVICE, setting), [experiment], 2).check()


def test_the_commands_take_the_device(tmp_path, capsys):
    rows = tmp_path / "rows.json"
    arguments = [
        f"--device={DEVICE}", "--episodes=2", "--steps=5", "--repeats=1", "--engines=batched,fused",
        f"--json={rows}",
    ]  # fmt: skip
    assert guard(benchmark.main, arguments) == 0
    devices = {row["engine"]: row["device"] for row in json.loads(rows.read_text())}
    assert devices == {"batched": "cuda", "fused": "cpu"}
    assert "batched, CUDA" in capsys.readouterr().out
    arguments = ["backprop", "--baselines=none", "--samples=20", "--seeds=1", f"--device={DEVICE}"]
    assert guard(evaluate.main, arguments) == 0
    arguments = ["feedback-alignment", "--quick", f"--device={DEVICE}", f"--out={tmp_path / 'o'}"]
    assert guard(reproduce.main, arguments) == 2
    assert "on the CPU only" in capsys.readouterr().err
