"""Programs that remember: traces, eligibilities, and the scalars of the output.

`export_rule` runs each program and compares it with the engine; a program that differs is refused.
"""

import subprocess
import sys

import numpy as np
import pytest
from support import named, refusal

from metaplast.export import export_rule
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.terms.algebra import B, W, dot, eligible, outer, post, pre, scalar, sign, trace
from metaplast.terms.faded import faded
from metaplast.terms.term import Term

HEBB, SIZE = outer(post.activity, pre.activity), scalar("error_size")
SQUARES = trace(pre.activity**2, 3)


def term(name, formula):
    return Term(name, formula, "made up")


TERMS = (
    *named("error_hebbian", "decay"),
    term("late", (SIZE - trace(SIZE, 5)) * eligible(HEBB - 0.5 * (W * HEBB), 4)),
    term("delta", -(post.error * eligible(outer(post.one, SQUARES), 2.5))),
    term("gated", dot(post.error, post.error) * eligible(outer(sign(post.error), pre.activity), 4)),
    term("slow", outer(trace(post.error, 7), trace(pre.activity, 1))),
    term("both", post.activity * (trace(post.activity, 3) * eligible(HEBB, 3))),
)
SURE = term("sure", 3 * (scalar("confidence") * (trace(scalar("confidence"), 2) * HEBB)))
BACK = outer(pre.activity, post.error)
BACKWARD = (
    term("back", -(pre.activity * eligible(BACK - 0.1 * B, 3))),
    term("slow_back", outer(trace(pre.activity, 4), post.error)),
)


FADED = tuple(faded(each, tau) for each, tau in zip(TERMS[:3], (3, 2.5, 3), strict=True))


def rule_of(terms, feedback="fixed", rows=1):
    return Rule(terms, ((0.02,) * len(terms),) * rows, feedback)


def has_jax():
    import importlib.util

    return importlib.util.find_spec("jax") is not None


LIBRARIES = ["numpy", pytest.param("jax", marks=pytest.mark.skipif(not has_jax(), reason="jax"))]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("terms", "feedback", "rows", "objective"),
    [
        ((*TERMS, SURE), "fixed", 1, "cross-entropy"),
        (TERMS, "symmetric", 2, "mse"),
        ((*TERMS[:1], *BACKWARD), "plastic", 1, "cross-entropy"),
        ((*TERMS, *FADED), "fixed", 1, "cross-entropy"),
    ],
)
def test_programs_remember_as_the_engine_does(library, terms, feedback, rows, objective, request):
    if feedback != "fixed":
        request.getfixturevalue("in_process")
    network = FullyConnected((5, 4, 3), feedback_name=feedback, objective_name=objective)
    found = export_rule(rule_of(terms, feedback, rows), network, library)
    assert found.check.difference < 1e-12
    assert "def begin(" in found.text
    assert "elig(F, τ)" in found.text
    assert ("n is the number of examples" in found.text) == (FADED[0] in terms)


def test_a_rule_without_memory_has_none():
    text = export_rule(rule_of(TERMS[:2]), FullyConnected((5, 4, 3)), "numpy").text
    assert "memory" not in text
    scaled = term("scaled", SIZE * HEBB)
    text = export_rule(rule_of((scaled,)), FullyConnected((5, 4, 3)), "numpy").text
    assert "def begin(" not in text
    assert "error_size" in text


def test_a_program_that_forgets_differs_from_the_engine(monkeypatch):
    """The comparison detects it: with the memory of the previous step, the result differs."""
    from metaplast.export.memory import Memory

    network, rule = FullyConnected((5, 4, 3)), rule_of(TERMS)
    lines = Memory.lines.fget

    def wrong(self):
        return tuple(line.replace("0.75 * memory", "0.7501 * memory") for line in lines(self))

    monkeypatch.setattr(Memory, "lines", property(wrong))
    assert "differ from the engine's" in refusal(export_rule, rule, network, "numpy")


def test_a_program_counts_its_examples():
    text = export_rule(rule_of(FADED[:1]), FullyConnected((5, 4, 3)), "numpy").text
    assert "Synapses remember" not in text  # There is no trace to explain.
    code = {"__name__": "exported"}
    exec(compile(text, "exported", "exec"), code)
    rng = np.random.default_rng(0)
    weights, feedback = code["draw"](rng, [5, 4, 3])
    memory, seen = code["begin"](weights, feedback), []
    for _ in range(3):
        weights, memory = code["step"](weights, feedback, memory, rng.random(5), 1)
        seen.append(float(memory["W"][0]["fading_3"]))
    assert seen == pytest.approx([1, 3 / 4, 3 / 5])


@pytest.mark.slow
def test_a_program_with_memory_is_formatted_and_learns(tmp_path):
    path = tmp_path / "exported.py"
    path.write_text(export_rule(rule_of((*TERMS, SURE)), FullyConnected((9, 6, 5)), "numpy").text)
    for command in (["format", "--check"], ["check", "--select=E,F,W,I,B,UP"]):
        options = ["--isolated", "--line-length=100", str(path)]
        if command[0] == "check":
            options.append("--ignore=E501,B905")
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options], check=False, capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    code = {"__name__": "exported"}
    exec(compile(path.read_text(), str(path), "exec"), code)
    rng = np.random.default_rng(0)
    weights, feedback = code["draw"](rng, [9, 6, 5])
    memory = code["begin"](weights, feedback)
    assert not any(np.any(v) for layer in memory["W"] for v in layer.values())
    x = rng.random(9)
    _, first = code["step"](weights, feedback, memory, x, 1)
    assert not any(np.any(v) for layer in memory["W"] for v in layer.values())  # Not in place.
    assert np.any(first["W"][1]["E_1"])


def test_what_programs_cannot_compute_is_refused():
    network = FullyConnected((5, 3), objective_name="mse")
    rewarded = rule_of((term("t", scalar("reward") * HEBB),))
    assert "reads reward" in refusal(export_rule, rewarded, FullyConnected((5, 3)), "numpy")
    assert "confidence" in refusal(export_rule, rule_of((SURE,)), network, "numpy")
    assert "numpy, jax" in refusal(export_rule, rule_of(TERMS), FullyConnected((5, 3)), "torch")
