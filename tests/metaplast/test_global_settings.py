"""Torch's global settings change no digit of a result, and are restored afterwards."""

import ast
import contextlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from support import FORWARD, named, random_problem, seeded

import episodes
import metaplast
import rule_library
from metaplast import DiscoveryConfig, FullyConnected, Learner, Rule, discover, evaluate
from metaplast.base.torch_settings import own_settings
from metaplast.engines import get_engine
from metaplast.online.train import OnlineSettings, train_online
from metaplast.tasks.library import open_source, open_stream
from metaplast.tasks.request import StreamRequest


@contextlib.contextmanager
def changed(get, put, value):
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)


def flush(value):
    torch.set_flush_denormal(value)


SETTINGS = {
    "float64": lambda: changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64),
    "another device": lambda: torch.device("meta"),
    "no_grad": torch.no_grad,
    "set_grad_enabled(False)": lambda: torch.set_grad_enabled(False),
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": lambda: changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "threads": lambda: changed(torch.get_num_threads, torch.set_num_threads, 2),
    "flushed denormals": lambda: changed(lambda: False, flush, True),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "medium products": lambda: changed(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"
    ),
}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
# Torch warns that anomaly detection is on.
quiet = pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")


def numbers(value):
    """Return every number of a nested result."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return [numbers(part) for part in value]


@cache
def usually(make, *arguments):
    """Return what `make` gives under torch's default settings."""
    return make(*arguments)


def found():
    """Return the digits of a small discovery, from data to the held-out test."""
    result = discover(
        DiscoveryConfig(
            terms="error_hebbian,oja",
            dataset="digits",
            engine="batched",
            hidden=(5,),
            ways=3,
            shots=2,
            queries=2,
            episodes=6,
            meta_batch=2,
            refit=4,
            refit_batch=2,
            look=4,
            validation=4,
            test_episodes=4,
        )
    )
    heldout = {name: numbers((e.score, e.loss)) for name, e in result.heldout.items()}
    history = [(r.loss, r.theta, r.angles, r.gradient_norm) for r in result.history]
    return result.rule.theta, history, heldout


def unrolled(engine, dtype):
    terms = named("error_hebbian", "oja", "decay")
    with torch.device("cpu"):
        problem = random_problem(terms, widths=(6, 5, 3), steps=4, dtype=dtype)
    outcome = get_engine(engine).run(problem)
    return numbers((outcome.loss, outcome.theta_gradient, outcome.final.weights))


@pytest.mark.slow
@quiet
@settings
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("engine", ["reference", "batched", "fused"])
def test_an_engine_has_the_same_digits(engine, dtype, setting):
    usual = usually(unrolled, engine, dtype)
    # Drawn under the setting too: in inference mode other tensors come out.
    with setting():
        under = unrolled(engine, dtype)
    assert under == usual


def single_images():
    """Return the digits of online training, a step in Python, an evaluation and made-up data."""
    clusters = open_source("clusters:4,3", DiscoveryConfig(ways=2).request)
    batch = clusters.train.sample(2, seeded())
    rule = Rule(named("error_hebbian", "oja"), (-0.05, 0.01), "fixed")
    learner = rule.learner(FullyConnected((64, 5, 10)))
    stream = open_stream("digits", StreamRequest())
    run = train_online(
        learner,
        rule.tensor(),
        stream.final,
        OnlineSettings((0, 5), seeds=2, queries=10, engine="batched"),
    )
    state = learner.draw(1, seeded())
    weights, backward = ([m[0] for m in group] for group in (state.weights, state.backward))
    stepped = rule.step(weights, batch.support_x.new_ones(64) / 3, 1, backward)
    judged = evaluate(
        Learner.on_stack(FullyConnected((4, 3)), "fixed", named("decay")), rule.tensor()[:1] ** 2,
        clusters.test, get_engine("batched"), episodes=3, seed=0,
    )  # fmt: skip
    return numbers(
        (batch.support_x, run.loss, stepped.weights, judged.loss, *run.measures.values())
    )


@quiet
@settings
@pytest.mark.parametrize("make", [pytest.param(found, marks=pytest.mark.slow), single_images])
def test_all_else_has_the_same_digits(make, setting):
    usual = usually(make)
    with setting():
        under = make()
    assert under == usual


@quiet
@settings
def test_settings_are_ours_inside_and_the_users_afterwards(setting):
    def now():
        return (
            torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"),
            torch.is_anomaly_enabled(), torch.backends.cuda.matmul.fp32_precision == "tf32",
            float(torch.tensor([5e-324], dtype=torch.float64, device="cpu") * 1),
        )  # fmt: skip

    with setting():
        before = now()
        with contextlib.suppress(KeyError), own_settings(grad=True):
            assert now()[1:] == (torch.device("cpu"), True, False, False, False, False, 5e-324)
            raise KeyError
        assert now() == before
        with own_settings():
            assert torch.is_grad_enabled() == before[2]


def test_a_step_records_a_gradient_only_where_the_user_wants_one():
    rule = Rule(FORWARD[:1], ((-0.1,),), "symmetric")
    weights = [torch.ones(2, 3, requires_grad=True)]
    x = torch.ones(3)
    assert rule.step(weights, x, 0).weights[0].requires_grad
    with torch.no_grad():
        assert not rule.step(weights, x, 0).weights[0].requires_grad


@pytest.mark.parametrize("engine", ["reference", "batched", "fused"])
def test_tensors_that_require_grad_are_taken_as_numbers(engine):
    problem = random_problem(FORWARD[:2], widths=(4, 3), steps=3)
    usual = get_engine(engine).run(problem)
    batch = problem.episodes
    batch = replace(batch, support_x=batch.support_x.clone().requires_grad_())
    state = problem.state.map(lambda matrix: matrix.clone().requires_grad_())
    theta = problem.theta.clone().requires_grad_()
    outcome = get_engine(engine).run(replace(problem, episodes=batch, state=state, theta=theta))
    assert torch.equal(outcome.theta_gradient, usual.theta_gradient)
    tensors = (outcome.loss, outcome.score, outcome.theta_gradient, *outcome.final.weights)
    assert not any(tensor.requires_grad for tensor in tensors)


# --- the code itself ---

# Functions whose result depends on torch's default dtype or device unless it is given.
WITH_DTYPE = {
    "arange", "empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randint", "randn",
    "randperm", "tensor", "zeros",
}  # fmt: skip
WITH_DEVICE = {*WITH_DTYPE, "as_tensor"}


def factory_calls():
    for package in (metaplast, episodes, rule_library):
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            name = f"{root.name}/{path.relative_to(root).as_posix()}"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                function = getattr(node, "func", None)
                if (
                    isinstance(function, ast.Attribute)
                    and isinstance(function.value, ast.Name)
                    and function.value.id == "torch"
                    and function.attr in WITH_DEVICE
                ):
                    yield f"{name}:{node.lineno} torch.{function.attr}", node, function.attr


@pytest.mark.slow
def test_every_tensor_that_is_made_has_its_dtype_and_device_written_down():
    missing, calls = [], list(factory_calls())
    assert len(calls) > 20
    for place, call, kind in calls:
        given = {keyword.arg for keyword in call.keywords}
        wanted = {"device"} | ({"dtype"} if kind in WITH_DTYPE else set())
        if wanted - given:
            missing.append(f"{place}: {sorted(wanted - given)}")
    assert not missing
