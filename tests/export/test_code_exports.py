"""Exported programs do what the engine does, stand alone, and run nothing from a file."""

import ast
import importlib.util
import itertools
import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from support import (
    FEEDBACKS,
    FORWARD,
    TERMS,
    assert_is_one_sentence,
    named,
    normal,
    run_forked,
)

from metaplast import FullyConnected, Rule, Term, UserError, dot, outer, post, pre, total
from metaplast.export import CodeExporter, all_exporters, export_rule
from metaplast.terms.algebra import B, W, magnitude, rectified, sign
from metaplast.terms.term import DenseFormula

CODE = {name: e for name, e in all_exporters().items() if isinstance(e, CodeExporter)}
BIO = named("error_hebbian", "error_error", "oja")
LOCAL = named("error_hebbian", "decay", "backward_hebbian", "backward_decay")

# Every kind of vector, gate and coefficient that the algebra has.
ODD = Term(
    "odd",
    2.5 * (total(post.error) * (dot(W.T @ post.one, pre.activity) * outer(post.one, pre.one)))
    - dot(W.T @ post.error, W.T @ post.activity) * outer(post.activity, W.T @ post.error)
    + 0.5 * W
    - total(post.one) * W,
    "made up",
)
ODD_FUNCTIONS = Term(
    "odd_functions",
    outer(post.activity**2, pre.activity * pre.error)
    + total(rectified(pre.error)) * outer(post.one, rectified(pre.error))
    - W * (W * outer(post.activity, pre.activity)),
    "made up",
)
ODD_SIGNS = Term(
    "odd_signs",
    -0.1 * (dot(post.activity**3, magnitude(post.error)) * outer(sign(post.error), pre.one)),
    "made up",
)
ODD_BACKWARD = Term(
    "odd_backward",
    -3.0 * (total(pre.error) * outer(pre.one, B.T @ pre.error))
    + dot(B.T @ pre.activity, post.error) * B,
    "made up",
)


def rule(terms, feedback="fixed", layers=None, seed=0, **provenance):
    shape = (layers, len(terms)) if layers else (len(terms),)
    return Rule.of(tuple(terms), 0.03 * normal(*shape, seed=seed), feedback, provenance)


def network(*widths, activation="softplus:10", init="xavier"):
    return FullyConnected(widths or (6, 5, 4, 3), activation, init)


CASES = {
    "no terms": (rule(()), network()),
    "no terms, symmetric": (rule((), "symmetric"), network()),
    "one term": (rule(BIO[:1]), network()),
    "one term, one layer": (rule(BIO[:1]), network(4, 3)),
    "decay alone": (rule(named("decay")), network()),
    "all forward terms": (rule(FORWARD), network()),
    "all terms": (rule(TERMS, "plastic"), network()),
    "all terms per layer": (rule(TERMS, "plastic", layers=3), network()),
    "backward terms alone": (rule(LOCAL[2:], "plastic"), network()),
    "plastic without backward terms": (rule(BIO, "plastic"), network()),
    "every part of the algebra": (
        rule((ODD, ODD_FUNCTIONS, ODD_SIGNS, ODD_BACKWARD), "plastic"),
        network(),
    ),
    "per layer": (rule(BIO, layers=3), network()),
    "one layer with e_0": (rule(BIO), network(5, 4)),
    "eight layers": (rule(BIO), network(6, 5, 4, 5, 4, 5, 4, 5, 3)),
    "one neuron": (rule(BIO), network(1, 1, 2)),
    "normal weights": (rule(BIO), network(init="normal:0.5")),
    **{f"feedback {name}": (rule(BIO, name), network()) for name in FEEDBACKS},
    "fixed prediction": (rule(BIO, "predictive-coding:fixed,eta=0.5,n=4"), network()),
    "fixed prediction without e_0": (rule(BIO[:1], "predictive-coding:fixed,n=1"), network()),
    "strict, one layer": (rule(BIO, "predictive-coding:strict,n=2"), network(5, 4)),
    "strict, tanh": (rule(BIO, "predictive-coding:strict,n=2"), network(activation="tanh")),
    "strict, relu": (rule(BIO, "predictive-coding:strict,n=2"), network(activation="relu")),
    **{f"feedback {name} without e_0": (rule(BIO[:1], name), network()) for name in FEEDBACKS},
    **{
        f"activation {name}": (rule(FORWARD), network(activation=name))
        for name in ("softplus:1.5", "softplus", "tanh", "relu")
    },
}
# Every branch of the templates.
FEW = ("no terms", "all terms per layer", "every part of the algebra", "one term, one layer",
       "normal weights", "activation tanh", "activation relu",
       *(f"feedback {name}" for name in FEEDBACKS))  # fmt: skip


def slow_in_jax(exporter, case):
    """Mark a case as slow in JAX, where each takes a second, except two."""
    quick = exporter != "jax" or case in ("all terms per layer", "feedback symmetric")
    return pytest.param(exporter, case, marks=() if quick else pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("exporter", "case"), [slow_in_jax(*both) for both in itertools.product(CODE, CASES)]
)
def test_code_does_what_the_engine_does(exporter, case, in_process):
    pytest.importorskip(CODE[exporter].package)
    # Compiled by JAX, each case takes seconds; compiled code is tested on a few below.
    package = importlib.import_module(CODE[exporter].package)
    with getattr(package, "disable_jit", nullcontext)():
        export = export_rule(*CASES[case], CODE[exporter])
    assert export.check.difference <= 1e-12
    assert export.check.steps * export.check.states >= 10


@pytest.mark.slow
@pytest.mark.parametrize("case", ["no terms", "all terms per layer", "feedback symmetric"])
def test_compiled_code_does_what_the_engine_does(case, in_process):
    pytest.importorskip("jax")
    assert export_rule(*CASES[case], CODE["jax"]).check.difference <= 1e-12


# Packages that programs import, loaded once for all; programs of other formats do not use them.
LOADED = {"numpy": "numpy", "jax": "jax", "torch": "torch,torch._dynamo"}
# Importing metaplast is an error in a program that runs alone.
ALONE = "import sys; sys.modules['metaplast'] = None\n"


@pytest.mark.slow
def test_programs_run_apart_and_alone_and_learn(tmp_path):
    """Each in a process of its own, as its user runs it, for classes and for vectors."""
    found = [name for name in CODE if importlib.util.find_spec(CODE[name].package)]
    theta = ((0.05, -0.05, 0.002),)
    given = {
        "classes": (replace(rule(BIO, dataset="somewhere"), theta=theta), network(64, 30, 10)),
        "vectors": (replace(rule(BIO, objective="mse"), theta=theta), network(64, 30, 3)),
    }
    cases = list(itertools.product(found, given))
    programs = []
    for exporter, kind in cases:
        # Here the export's own check runs as ever: in another process, for each framework.
        if kind == "classes":
            text = export_rule(*given[kind], CODE[exporter]).text
        else:
            text = CODE[exporter].write(*given[kind])
        programs.append([str(tmp_path), [f"{exporter}.py"], [], ALONE + text])
    ended = run_forked(programs, tmp_path, loaded=",".join(LOADED[name] for name in found))
    for case, (code, printed, errors) in zip(cases, ended, strict=True):
        assert (code, errors) == (0, ""), (case, errors)
        lines = printed.splitlines()
        before, after = (float(line.rpartition(" ")[2]) for line in lines)
        if case[1] == "classes":
            assert after > 0.8, case
            assert before < 0.6, case
        else:
            assert [line.startswith("squared error ") for line in lines] == [True, True], case
            assert after < before / 3, case


@pytest.mark.parametrize("exporter", CODE)
def test_code_imports_its_framework_alone(exporter):
    text = CODE[exporter].write(*CASES["all terms per layer"])
    roots = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            roots.add(node.module.partition(".")[0])
    assert roots - {"collections", "weakref"} == {CODE[exporter].package}


@pytest.mark.slow
@pytest.mark.parametrize("exporter", CODE)
def test_code_is_formatted_and_clean(exporter, tmp_path):
    for index, case in enumerate((*FEW, "eight layers", "all forward terms")):
        path = tmp_path / f"rule_{index}.py"
        path.write_text(CODE[exporter].write(*CASES[case]), encoding="utf-8")
    options = ["--isolated", "--line-length", "100", str(tmp_path)]
    ruff = [sys.executable, "-m", "ruff"]
    for command in (
        ["check", "--select", "E,F,W,B,I,UP", "--ignore", "B905"],
        ["format", "--check"],
    ):
        done = subprocess.run(
            [*ruff, *command, *options], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("exporter", CODE)
def test_code_keeps_only_what_the_rule_needs(exporter):
    text = CODE[exporter].write(rule(BIO[:1], "symmetric"), network())
    assert "feedback," not in text
    assert "e₀" not in text
    assert "change_of_B" not in text
    for term in FORWARD[1:]:
        assert term.name not in text


# --- wrong programs are not returned ---


class Wrong(CodeExporter):
    """Writes what another exporter writes, spoiled."""

    name = "wrong"
    suffix = ".py"
    summary = "for this test"
    package = "numpy"
    driver = CODE["numpy"].driver

    def __init__(self, old, new):
        self.old, self.new = old, new

    def write(self, rule, network):
        text = CODE["numpy"].write(rule, network)
        assert self.old in text
        return text.replace(self.old, self.new)


SPOILED = {
    "a sign": (
        'change -= theta["error_error"]',
        'change += theta["error_error"]',
        "differ from the engine's by",
    ),
    "a coefficient": ("0.046229883", "0.046229884", "differ from the engine's by"),
    "sigma": ("np.expm1(-BETA", "np.expm1(-0.99 * BETA", "differ from the engine's by"),
    "not a number": ("return change", "return change * np.nan", "differ from the engine's by inf"),
    "an exception": ("return new_weights", "return new_wheights", "the code fails .NameError"),
    "an import of metaplast": ("import numpy as np", "import numpy as np, metaplast", "the code f"),
    "a negative label": ("0 <= given.item() <", "given.item() <", "accepts class -1 as a label"),
    "labels cut to whole numbers": (
        "np.asarray(label)",
        "np.asarray(label, int)",
        "accepts a bool",
    ),
    "no check of shapes": (
        "check(weights, feedback, x.shape)",
        "pass",
        "no matrices ends in Index",
    ),
    "a syntax error": ("def gain(y):", "def gain(y:", "the code fails .SyntaxError"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "sentence"), SPOILED.values(), ids=SPOILED)
def test_code_that_differs_does_not_get_out(old, new, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        export_rule(rule(BIO, seed=0), network(), Wrong(old, new))
    assert "not written" in str(caught.value)
    assert_is_one_sentence(caught.value)


def test_code_for_a_package_that_is_missing_does_not_get_out(monkeypatch):
    exporter = Wrong("import", "import")
    monkeypatch.setattr(Wrong, "package", "no_such_package")
    with pytest.raises(UserError, match=r"could not be checked .*pip install no_such_") as caught:
        export_rule(rule(BIO), network(), exporter)
    assert_is_one_sentence(caught.value)


def dense(synapses):
    return synapses.operator.tensor


DENSE = Term("dense", DenseFormula(W, dense, frozenset(), True, "−W", "-W"), "made up")
REFUSED = {
    "a dense term": (rule((DENSE,)), network(), "dense is a torch function"),
    "another depth": (rule(BIO, layers=2), network(), "give --widths with 3 numbers"),
    "a rule that explodes": (
        Rule(BIO, ((1e200, 1e200, 1e200),), "fixed"), network(), "the rule diverges within 5 steps",
    ),
    "provenance that is no data": (
        Rule(BIO, ((0.1,) * 3,), "fixed", {"a": object()}), network(), "must be plain data",
    ),
}  # fmt: skip
# Only programs are run, so only they show that a rule diverges.
ONLY_RUN = ("a rule that explodes",)


@pytest.mark.parametrize(
    ("case", "exporter"),
    [
        (case, exporter)
        for case in REFUSED
        for exporter in (CODE if case in ONLY_RUN else all_exporters())
    ],
)
def test_what_cannot_be_exported_is_refused(case, exporter):
    given, net, sentence = REFUSED[case]
    if exporter in CODE:
        pytest.importorskip(CODE[exporter].package)
    with pytest.raises(UserError, match=sentence) as caught:
        export_rule(given, net, all_exporters()[exporter])
    assert_is_one_sentence(caught.value)


# --- text from a file never becomes code ---

PAYLOADS = (
    '"""\nraise SystemExit("owned")\n"""',
    "'''\nraise SystemExit('owned')\n'''",
    '"\nraise SystemExit("owned")\n#',
    "'}\nraise SystemExit('owned')\n#",
    "\\",
    "\\\n'\"",
    "\r\nraise SystemExit\r",
    "\x0craise SystemExit\u2028\x85raise SystemExit\x00",
    "{{ 7 * 7 }}{% raise %}{xp}",
    "𝐱 \u202e ﷽ é",
    "*/ --> $$ \\end{document} ]]>",
    "long " * 60 + '"""' + "\n" * 3,
)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", CODE)
def test_provenance_comes_out_as_it_went_in_and_runs_nothing(exporter, tmp_path, in_process):
    provenance = {text: [text, {text: text}] for text in PAYLOADS}
    provenance |= {f"text {k}": text for k, text in enumerate(PAYLOADS)}
    provenance |= {"numbers": [1, -2.5, True, False, None, 1e300], "empty": {}, "none": []}
    pytest.importorskip(CODE[exporter].package)
    Rule(BIO, ((0.01,) * 3,), "fixed", provenance).save(tmp_path / "rule.json")
    loaded = Rule.load(tmp_path / "rule.json")
    text = export_rule(loaded, network(), CODE[exporter]).text
    assert assigned(text, "PROVENANCE") == provenance


def assigned(text, name):
    """Return the literal that a program assigns to a name; anything but a literal is an error."""
    (value,) = (
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and node.targets[0].id == name
    )
    return ast.literal_eval(value)


@pytest.mark.parametrize("exporter", CODE)
def test_coefficients_are_exact_and_by_name(exporter):
    given = rule(TERMS, "plastic", seed=4)
    assert assigned(CODE[exporter].write(given, network()), "THETA") == given.coefficients
    given = rule(TERMS, "plastic", layers=3, seed=4)
    theta = assigned(CODE[exporter].write(given, network()), "THETA")
    assert list(theta) == ["hidden_1", "hidden_2", "output"]
    columns = {name: [row[name] for row in theta.values()] for name in given.coefficients}
    assert columns == given.coefficients


@pytest.mark.slow
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_citation_stays_in_its_comment(payload, in_process):
    term = Term("mine", -outer(post.error, pre.activity), citation=payload, summary=payload)
    plain = Term("mine", -outer(post.error, pre.activity), citation="made up")
    texts = [export_rule(rule((t,)), network(), CODE["numpy"]).text for t in (term, plain)]
    assert len({ast.dump(ast.parse(text)) for text in texts}) == 1


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_name_in_a_file_must_be_that_of_a_term(payload, tmp_path):
    path = tmp_path / "rule.json"
    rule(BIO).save(path)
    data = json.loads(path.read_text())
    data["theta"][payload] = 1.0
    data["terms"][payload] = data["terms"]["oja"]
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="must be a lower-case identifier"):
        Rule.load(path)


def test_the_check_is_isolated_from_the_users_folder(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('a file of the user was run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "numpy.py"))
    assert export_rule(rule(BIO), network(), CODE["numpy"]).check.difference < 1e-12


def test_torch_code_is_an_optimizer_with_a_state():
    torch.manual_seed(0)
    namespace = {"__name__": "exported"}
    exec(CODE["torch"].write(rule(BIO), network()), namespace)
    optimizer = namespace["PlasticityRule"](namespace["make_model"]())
    assert isinstance(optimizer, torch.optim.Optimizer)
    saved = optimizer.state_dict()["state"]
    assert [tuple(saved[k]["feedback"].shape) for k in range(3)] == [(6, 5), (5, 4), (4, 3)]
    with pytest.raises(ValueError, match="call the model"):
        optimizer.step(0)
    with pytest.raises(ValueError, match=r"bias=False"):
        namespace["PlasticityRule"](torch.nn.Sequential(torch.nn.Linear(3, 2)))
