"""Rules found with the objective mse: programs, documents and optimizers take vectors and z − t."""

import copy
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import FEEDBACKS, assert_close, assert_is_one_sentence, named, normal, seeded
from test_code_exports import BIO, CODE, TERMS, Wrong, rule

from metaplast import FullyConnected, UserError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_folder import RunFiles
from metaplast.export import all_exporters, export_rule
from metaplast.systems import objective
from metaplast.systems.objectives.mean_squared_error import MeanSquaredError
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.source import EpisodeSplit

HEBBIAN = named("error_hebbian")


def found(terms, feedback="fixed", layers=None):
    """Return a rule that was found with mse."""
    return rule(terms, feedback, layers, objective="mse")


def network(*widths, activation="softplus:10", init="xavier"):
    return FullyConnected(widths or (6, 5, 4, 3), activation, init)


CASES = {
    "no terms": (found(()), network()),
    "one term, one layer": (found(BIO[:1]), network(4, 3)),
    "one output": (found(BIO), network(4, 5, 1)),
    "all terms per layer": (found(TERMS, "plastic", layers=3), network()),
    "normal weights": (found(BIO), network(init="normal:0.5")),
    **{f"feedback {name}": (found(BIO, name), network()) for name in FEEDBACKS},
    **{
        f"activation {name}": (found(BIO), network(activation=name))
        for name in ("softplus:1.5", "tanh", "relu")
    },
}


@cache
def program(name, case="feedback fixed"):
    """Return an exported program as a module; it keeps nothing, so one serves all tests."""
    pytest.importorskip(CODE[name].package)
    namespace = {"__name__": "exported"}
    exec(CODE[name].write(*CASES[case]), namespace)
    return SimpleNamespace(**namespace)


# --- programs ---


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("exporter", CODE)
def test_code_does_what_the_engine_does(exporter, case, in_process):
    package = pytest.importorskip(CODE[exporter].package)
    with getattr(package, "disable_jit", nullcontext)():
        export = export_rule(*CASES[case], CODE[exporter])
    assert export.check.difference <= 1e-12


@pytest.mark.slow
def test_compiled_code_does_what_the_engine_does(in_process):
    pytest.importorskip("jax")
    assert export_rule(*CASES["all terms per layer"], CODE["jax"]).check.difference <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("exporter", CODE)
def test_code_is_formatted_and_speaks_of_targets(exporter, tmp_path):
    for index, case in enumerate(CASES):
        text = CODE[exporter].write(*CASES[case])
        (tmp_path / f"rule_{index}.py").write_text(text, encoding="utf-8")
        for word in ("label", "class ", "softmax", "logits", "image", "accuracy", "probabilit"):
            assert word not in text.replace("class PlasticityRule", ""), word
        assert "e_L = z_L − t," in text
    options = ["--isolated", "--line-length", "100", str(tmp_path)]
    for command in (
        ["check", "--select", "E,F,W,B,I,UP", "--ignore", "B905"],
        ["format", "--check"],
    ):
        ruff = [sys.executable, "-m", "ruff", *command, *options]
        done = subprocess.run(ruff, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


NO_TARGETS = {
    "a class": 1, "a number": 0.5, "a bool": True, "none": None, "text": "1", "short": [0.1, 0.2],
    "long": [0.1] * 4, "a column": [[0.1], [0.2], [0.3]], "two rows": [[0.1] * 3] * 2,
    "not a number": [0.1, float("nan"), 0.2], "infinite": [0.1, float("inf"), 0.2],
    "bools": [True, False, True], "complex": [1j, 0, 0], "ragged": [[0.1, 0.2], [0.3]],
    "a function of nothing": dict,
}  # fmt: skip
ROW = [0.5, -1.5, 2.0]
TARGETS = {
    "of NumPy": np.array(ROW), "of torch": torch.tensor(ROW), "single precision": np.float32(ROW),
}  # fmt: skip


def stepped(exporter, target):
    """Return an exported program's weights after one step."""
    code, x = program(exporter), np.linspace(0.0, 1.0, 6)
    if exporter == "torch":
        model = code.make_model(seeded(1))
        optimizer = code.PlasticityRule(model, seeded())
        model(torch.from_numpy(x).float())
        optimizer.step(target)
        return [weight.detach().numpy() for weight in model.parameters()]
    widths = list(code.LAYERS.values())
    key = np.random.default_rng(0) if exporter == "numpy" else code.jax.random.key(0)
    return code.step(*code.draw(key, widths), x, target)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", CODE)
@pytest.mark.parametrize("target", NO_TARGETS.values(), ids=NO_TARGETS)
def test_a_step_refuses_what_is_no_target(exporter, target):
    words = "a target must be a vector of 3 finite numbers|call the model"
    with pytest.raises(ValueError, match=words) as caught:
        stepped(exporter, target)
    text = str(caught.value)
    assert "\n" not in text
    assert 20 < len(text) < 300


@pytest.mark.slow
@pytest.mark.parametrize("exporter", CODE)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_step_takes_targets_of_any_kind(exporter, target):
    for got, expected in zip(stepped(exporter, target), stepped(exporter, ROW), strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.slow
def test_jax_learn_takes_a_row_for_each_input_and_makes_nan_of_a_wrong_one_under_vmap():
    code = program("jax", "feedback symmetric")
    jax = code.jax
    weights = code.draw(jax.random.key(0), [6, 5, 4, 3])
    x, rows = jax.numpy.ones((2, 6)), jax.numpy.asarray([ROW, ROW[::-1]])
    one_by_one = code.step(code.step(weights, x[0], rows[0]), x[1], rows[1])
    for got, expected in zip(code.learn(weights, x, rows), one_by_one, strict=True):
        assert np.allclose(got, expected, atol=1e-6)
    for wrong in (rows[:1], rows[0], [0, 1], rows.at[1, 1].set(jax.numpy.inf)):
        with pytest.raises(ValueError, match="a target must be a vector of 3 finite"):
            code.learn(weights, x, wrong)
    bad = rows.at[1, 1].set(jax.numpy.nan)
    mapped = jax.vmap(code.step, (None, None, 0))(weights, x[0], bad)[0]
    assert np.isfinite(mapped[0]).all()
    assert np.isnan(mapped[1]).all()


def test_torch_code_takes_several_targets_a_closure_and_the_state_of_its_own_objective():
    code = program("torch")
    model = code.make_model(seeded(1)).double()
    inputs, rows = torch.rand(3, 6, dtype=torch.float64), normal(3, 3)
    singles = []
    for x, row in zip(inputs, rows, strict=True):
        one = copy.deepcopy(model)
        optimizer = code.PlasticityRule(one, seeded())
        one(x)
        optimizer.step(row)
        singles.append([weight.detach() for weight in one.parameters()])
    optimizer = code.PlasticityRule(model, seeded())
    returned = optimizer.step(lambda: (model(inputs), rows.tolist())[1])
    assert returned == rows.tolist()
    for k, weight in enumerate(model.parameters()):
        assert_close(weight.detach(), sum(weights[k] for weights in singles) / 3, 1e-12)
    model(inputs)
    with pytest.raises(ValueError, match=r"one for each of the model's last examples \(3\)"):
        optimizer.step(rows[:2])
    classes = {"__name__": "exported"}
    exec(CODE["torch"].write(rule(BIO), network()), classes)
    other = classes["PlasticityRule"](classes["make_model"]())
    with pytest.raises(ValueError, match="is from another rule"):
        other.load_state_dict(optimizer.state_dict())


def test_torch_code_learns_from_a_copy_of_a_linear_output():
    code = program("torch")
    ends = []
    for touch in (False, True):
        model = code.make_model(seeded(1))
        optimizer = code.PlasticityRule(model, seeded())
        output = model(torch.ones(6))
        if touch:
            output.data.zero_()
        optimizer.step(ROW)
        ends.append([weight.detach() for weight in model.parameters()])
    assert all(map(torch.equal, *ends))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("np.isfinite(given).all()", "True", "accepts no finite number as a label"),
        ("given.shape == (outputs,)", "given.size", "accepts no class as a label"),
        ("y.append(weights[-1] @ y[-1])", "y.append(activation(weights[-1] @ y[-1]))", "differ"),
    ],
)
def test_code_that_differs_does_not_get_out(old, new, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        export_rule(*CASES["feedback fixed"], Wrong(old, new))
    assert_is_one_sentence(caught.value)


# --- whose objective ---


@pytest.mark.slow
def test_the_network_s_objective_holds_where_the_rule_names_none():
    net = replace(network(), objective_name="mse")
    assert CODE["numpy"].write(rule(BIO), net) == CODE["numpy"].write(
        rule(BIO), replace(net, objective_name="regression")
    )
    assert "e_L = z_L − t," in export_rule(rule(BIO), net, "numpy").text
    assert "onehot" in export_rule(rule(BIO), network(), "numpy").text


class Mine(MeanSquaredError):
    """A user's own objective, which says nothing about programs."""

    name = "mine"
    aliases = ()
    target_kind = None
    activity_text = "cubic"
    loss_text = ""
    error_latex = "z_{L}^{3}"
    error_code = None


class Huber(MeanSquaredError):
    """The squared error with a bounded gradient, which says all that a program needs."""

    name = "huber"
    aliases = ()
    loss_text = "the Huber loss"
    error_text = "clip(z_L − t, ±1)"
    error_code = "{xp}.clip({y} - {t}, -1.0, 1.0)"

    def error(self, output, target):
        return (output - target).clamp(-1.0, 1.0)


@pytest.fixture
def own_objectives(monkeypatch):
    known = {**objective.all_objectives(), "mine": Mine(), "huber": Huber()}
    monkeypatch.setattr(objective, "all_objectives", lambda: known)


@pytest.mark.parametrize("exporter", CODE)
def test_an_objective_without_program_text_is_refused_and_says_what_it_lacks(
    exporter, own_objectives
):
    with pytest.raises(UserError) as caught:
        export_rule(rule(BIO, objective="mine"), network(), CODE[exporter])
    assert_is_one_sentence(caught.value)
    for word in ("objective mine", "target_kind", "activity_text", "error_code", "latex"):
        assert word in str(caught.value)


def test_documents_are_written_for_every_objective(own_objectives):
    for name in ("latex", "markdown"):
        text = export_rule(rule(BIO, objective="mine"), network(), name).text
        assert "cubic in the" in " ".join(text.split())
        assert "comes from the objective mine at the output" in text
        assert "z_{L}^{3}" in text
        text = export_rule(*CASES["feedback fixed"], name).text
        assert "linear in the last;" in " ".join(text.split())
        assert "z_{L} - t" in text
        assert "softmax" not in text
        assert "cross-entropy" not in text


@pytest.mark.slow
@pytest.mark.parametrize("exporter", CODE)
def test_an_objective_with_program_text_is_exported(exporter, own_objectives, in_process):
    package = pytest.importorskip(CODE[exporter].package)
    with getattr(package, "disable_jit", nullcontext)():
        export = export_rule(rule(BIO, objective="huber"), network(), CODE[exporter])
    assert export.check.difference <= 1e-12
    assert "eₗ comes from the Huber loss at the output" in export.text


@pytest.mark.parametrize(("named", "tested"), [("mse", "accuracy"), ("cross-entropy", "neg_mse")])
@pytest.mark.parametrize("name", ["numpy", "latex"])
def test_an_objective_that_contradicts_the_rule_s_own_score_is_refused(name, named, tested):
    edited = rule(BIO, objective=named, **{f"heldout_{tested}": 0.5})
    with pytest.raises(UserError, match=f"exported with the objective {named}, whose") as caught:
        export_rule(edited, network(), name)
    assert_is_one_sentence(caught.value)
    own = {"mse": "neg_mse", "cross-entropy": "accuracy"}[named]
    assert export_rule(rule(BIO, objective=named, **{f"heldout_{own}": 0.5}), network(), name).text


def test_an_objective_that_is_not_installed_is_refused():
    for name in all_exporters():
        if name == "json":
            continue
        with pytest.raises(UserError, match="mse") as caught:
            export_rule(rule(BIO, objective="msee"), network(), name)
        assert_is_one_sentence(caught.value)


# --- from a run ---


class Maps:
    """Targets are a linear map of the inputs, a fresh one in each episode."""

    def sample(self, episodes, generator):
        draw = lambda *shape: torch.randn(episodes, *shape, generator=generator)  # noqa: E731
        linear, support, query = draw(6, 2), draw(20, 6), draw(8, 6)
        return EpisodeBatch(support, support @ linear, query, query @ linear)


@pytest.mark.slow
def test_the_rule_of_a_run_is_exported_in_every_format(tmp_path):
    from metaplast.commands import export as command

    config = DiscoveryConfig(
        terms="error_hebbian,decay", objective="mse", hidden=(4,), episodes=4, refit=0,
        test_episodes=4, engine="batched", shots=4, queries=4, threshold=0.0,
    )  # fmt: skip
    split = EpisodeSplit(Maps(), Maps(), "images", 6, 2, "linear maps", targets="numbers")
    folder = tmp_path / "run"
    Discovery(config, folder=folder, split=split, observers=[RunFiles(folder)]).run()
    formats = [n for n in all_exporters() if n not in CODE]
    formats += [name for name in CODE if name != "jax"]
    command.main([str(folder), "--to", ",".join(formats), "--output", str(tmp_path / "out")])
    assert len(list((tmp_path / "out").iterdir())) == len(formats)
    for path in (tmp_path / "out").iterdir():
        assert "mse" in path.read_text(encoding="utf-8")
