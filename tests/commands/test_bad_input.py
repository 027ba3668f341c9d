"""Wrong command lines: one sentence, exit code 2, nothing left behind."""

import dataclasses
import importlib
import itertools
import subprocess
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from support import MAIN

from metaplast.batch_jobs.jobs import Jobs
from metaplast.commands import guard
from metaplast.commands._evaluate_options import EvaluateOptions
from metaplast.commands.benchmark import BenchmarkOptions
from metaplast.commands.compare import CompareOptions
from metaplast.commands.discover import DiscoverOptions
from metaplast.commands.export import ExportOptions
from metaplast.commands.recover import RecoverOptions
from metaplast.commands.report import ReportOptions
from metaplast.commands.reproduce import ReproduceOptions
from metaplast.commands.show import ShowOptions
from metaplast.commands.sweep import SweepOptions
from metaplast.discovery.config import DiscoveryConfig
from metaplast.reproduce.runner import Plan
from metaplast.rules.rule import Rule
from metaplast.terms.library import get_term

COMMANDS = {
    "discover": DiscoverOptions,
    "evaluate": EvaluateOptions,
    "export": ExportOptions,
    "sweep": SweepOptions,
    "recover": RecoverOptions,
    "reproduce": ReproduceOptions,
    "report": ReportOptions,
    "show": ShowOptions,
    "compare": CompareOptions,
    "benchmark": BenchmarkOptions,
}
# Arguments that a command needs besides the option under test.
OTHERS = {
    "export": ["rule.json", "--to=json"],
    "report": ["."],
    "show": ["bio"],
    "compare": ["rule.json", "rule.json"],
}

LONG = "x" * 300
HUGE = str(10**30)
# Texts that are no number. All options share one reader of each type, so each text is given to some
# options, and each option gets one of the texts.
UNREADABLE = {int: ["x", "", "1.5"], float: ["x", "", "1e-400"]}
# Values that are out of every range come last.
BAD = {
    int: ["-1", HUGE],
    float: ["nan", "-1", "1e308"],
    (int, ...): ["", ",", "5,,6", "x", "5;6", "1.5", "0", "-3", HUGE],
    (float, ...): ["", ",", "1,,2", "x", "1e-400", "nan", "-1", "1e308", "0.1,0.1"],
    Path: ["", LONG],
    bool: ["3"],
}
TEXTS = {
    "activation": [
        "", "nosuch", "softplus:", "softplus:x", "softplus:0", "softplus:-1", "softplus:nan",
        "softplus:inf", "softplus:1e300", "softplus:1e-300", "tanh:1", "relu:", "a\nb", LONG,
    ],
    "init": [
        "", "nosuch", "normal", "normal:", "normal:x", "normal:0", "normal:-1", "normal:nan",
        "normal:1e300", "normal:1e-300", "xavier:1", LONG,
    ],
    "device": ["", "cpu:5", "cpu:x", "cuda:99", "cuda:-1", "mps", "meta", "tpu", LONG],
    "engine": ["", "batchd", "FUSED ", LONG],
    "optimizer": ["", "Adm", "LBFGS", "Optimizer", "lr_scheduler", LONG],
    "feedback": ["", "fixd", "a\nb", LONG],
    "terms": ["", ",", " ", "F0,,F2", ",F0", "F0,F0", "error_hebbian,F0", "F0;F2", "ö", LONG],
    "dataset": [
        "mnits", ":", "digits:3", "clusters:0", "clusters:x", "clusters:3,,4", "clusters:1,2,3",
        "clusters:999999999999,5", "planted", "planted:", "planted:@", "planted:F0@",
        "planted:F0=", "planted:F0=nan", "planted:F0=0", "planted:=1", "planted:F0=1,F0=2",
        "planted:F0=1,,F2=1", "planted:bio@planted:bio", "planted:none.json", "a\nb", LONG,
        "csv:", "csv:file", "csv:nosuch,target=a", "npz:file", "folder:folder", "hdf5:nosuch",
        "openml:", "rows:csv:file,target=a",
    ],
    "baselines": [",", "backprop,,bio", "nosuch", LONG],
    "engines": ["", ",", "fused,,batched", "fusd", LONG],
    "ray": [""],
}  # fmt: skip
# Options for which these values are valid.
ANY = {("checkpoint_seconds", "1e308"), ("dataset", "")}
# `recover` also has the options of a discovery, which are tested with `discover`.
SHARED = {field.name for field in dataclasses.fields(DiscoveryConfig)}


def kind(hint):
    """Return the type of an option's values: a key of `BAD`, a Literal or str."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    if type(None) in get_args(hint) and len(parts) == 1:
        hint = parts[0]
    return get_args(hint) if get_origin(hint) is tuple else hint


def generated():
    """Return wrong values for every option of every command."""
    turns = {kind: itertools.cycle(texts) for kind, texts in UNREADABLE.items()}
    for command, options in COMMANDS.items():
        hints = get_type_hints(options)
        for field in dataclasses.fields(options):
            if command == "recover" and field.name in SHARED:
                continue
            if field.name in ("run", "source", "names", "rules", "rule", "to"):
                continue  # Written by hand below, like the rules of `recover`.
            flag, values = f"--{field.name.replace('_', '-')}", kind(hints[field.name])
            if get_origin(values) is Literal:
                wrong = ["", "nosuch"]
            else:
                wrong = TEXTS.get(field.name, []) if values is str else BAD.get(values, [])
                # Every command parses values in the same way.
                wrong = wrong if command == "discover" or values is Path else wrong[-3:]
                if values in turns:
                    wrong = [next(turns[values]), *wrong]
            for value in wrong:
                if (field.name, value) not in ANY:
                    yield command, [f"{flag}={value}"]


WRITTEN = [
    ("discover", ["--hidden"]),
    ("evaluate", ["--dtype"]),
    ("sweep", ["--ways=5", "--l1"]),
    ("benchmark", ["--steps", "--repeats=3"]),
    ("discover", ["--ways=" + "9" * 5000]),
    ("discover", ["--ways=nan"]),
    ("discover", ["--ways=1e3"]),
    ("discover", ["--nosuch=1"]),
    ("discover", ["--hiden", "20,10"]),
    ("discover", ["--hidden", "20", "10"]),
    ("discover", ["extra"]),
    ("discover", ["--ways", "5", "6"]),
    ("discover", ["-x"]),
    ("discover", ["--tyro-print-completion", "nosuch"]),
    ("discover", ["--l1=0.1,0.2"]),
    ("discover", ["--ways=11"]),
    ("discover", ["--shots=500"]),
    ("discover", ["--shots=1000000000"]),
    ("discover", ["--dataset=clusters", "--shots=1000000000"]),
    ("discover", ["--dataset=planted:bio@clusters:0"]),
    ("discover", ["--terms=bio", "--feedback=symmetric"]),
    ("discover", ["--resume=nosuch"]),
    ("discover", ["--resume=file"]),
    ("discover", ["--resume=folder"]),
    ("discover", ["--out=file"]),
    ("discover", ["--out=folder"]),
    ("discover", ["--out=/proc/nosuch"]),
    ("discover", ["--dataset=mnist", "--data-root=file"]),
    ("discover", ["--dataset=omniglot", "--data-root=nosuch"]),
    ("discover", ["--dataset=planted:rule.txt.json"]),
    ("discover", ["--dataset=planted:file.json"]),
    ("sweep", ["--seed=3"]),
    ("sweep", ["--seeds=100000000000"]),
    ("sweep", ["--seeds=0"]),
    ("sweep", ["--first-seed=9223372036854775807"]),
    ("sweep", ["--ways=1"]),
    ("sweep", ["--hidden=,"]),
    ("sweep", ["--meta-lr=1e308"]),
    ("sweep", ["--dataset=mnist", "--data-root=nosuch"]),
    ("sweep", ["--resume=folder"]),
    ("sweep", ["--out=file"]),
    ("recover", ["--rules=1000000000000"]),
    ("recover", ["--rules=0"]),
    ("recover", ["--rules=2", "--seed=9223372036854775807"]),
    ("recover", ["--most-terms=0"]),
    ("recover", ["--hidden=10,,5"]),
    ("recover", ["--terms=,"]),
    ("recover", ["--resume=file"]),
    ("recover", ["--out=file", "--shots=2", "--terms=bio"]),
    ("recover", ["--dataset=digits:3"]),
    ("recover", ["--dataset=clusters:3,,4"]),
    ("recover", ["--dataset=planted:bio"]),
    ("recover", ["--dataset=mnist", "--data-root=nosuch"]),
    ("reproduce", ["nosuch"]),
    ("reproduce", ["norms", ""]),
    ("reproduce", ["all", "--rule=nosuch.json"]),
    ("reproduce", ["all", "--rule=folder"]),
    ("reproduce", ["all", "--out=file"]),
    ("evaluate", ["nosuch"]),
    ("evaluate", ["--rules", "bio"]),
    ("evaluate", ["--rules=bio"]),
    ("evaluate", [""]),
    ("evaluate", ["folder"]),
    ("evaluate", ["file.json"]),
    ("evaluate", ["nosuch.json"]),
    ("evaluate", ["bio:nosuch"]),
    ("evaluate", [":"]),
    ("evaluate", ["--baselines=none"]),
    ("evaluate", ["--ways=1"]),
    ("evaluate", ["--ways=11"]),
    ("evaluate", ["--depth=0"]),
    ("evaluate", ["--depth=100000000000"]),
    ("evaluate", ["--hidden=none", "--depth=3"]),
    ("evaluate", ["--dataset=mnist", "--data-root=nosuch"]),
    ("evaluate", ["--dataset=planted:bio"]),
    ("evaluate", ["--out=file"]),
    ("export", []),
    ("export", ["rule.json"]),
    ("export", ["rule.json", "--to"]),
    ("export", ["rule.json", "--to", ""]),
    ("export", ["rule.json", "--to", ","]),
    ("export", ["rule.json", "--to", "json,,torch"]),
    ("export", ["rule.json", "--to", "tensorflow"]),
    ("export", ["", "--to=json"]),
    ("export", ["nosuch", "--to=json"]),
    ("export", ["folder", "--to=json"]),
    ("export", ["file.json", "--to=json"]),
    ("export", ["rule.json", "--to=json", "--widths=5"]),
    ("export", ["rule.json", "--to=json", "--widths=5,0"]),
    ("export", ["rule.json", "--to=json", "--output=nosuch/file"]),
    ("export", ["rule.json", "--to=json", "--output=file/file"]),
    ("export", ["rule.json", "--to=json", "--output=/proc/nosuch"]),
    ("export", ["rule.json", "--to", "json", "latex", "--output=file"]),
    ("export", ["rule.json", "--to", "json", "latex", "--output=/proc/nosuch"]),
    ("show", []),
    ("show", ["nosuch"]),
    ("show", ["folder"]),
    ("show", ["file.json"]),
    ("show", ["bio", "oja"]),
    ("compare", []),
    ("compare", ["rule.json"]),
    ("compare", ["rule.json", "rule.json"]),
    ("compare", ["rule.json", "rule.json", "--on=folder"]),
    ("compare", ["rule.json", "nosuch"]),
    ("discover", ["--config=file"]),
    ("discover", ["--config=nosuch/file"]),
    ("discover", ["--save-config=file/file"]),
    ("report", []),
    ("report", [""]),
    ("report", ["a", "b"]),
    ("report", ["nosuch"]),
    ("report", ["file"]),
    ("report", ["folder"]),
    ("benchmark", ["--repeats=0", "--dataset=nosuch", "--json=folder"]),
    ("benchmark", ["--json=folder"]),
    ("benchmark", ["--json=nosuch/file"]),
    ("benchmark", ["--json=/proc/nosuch"]),
    ("benchmark", ["--dataset=nosuch"]),
    ("benchmark", ["--dataset=clusters"]),
    ("benchmark", ["--dataset=planted:bio"]),
    ("benchmark", ["--dataset=mnist", "--data-root=nosuch"]),
    ("benchmark", ["--dataset=digits", "--steps=2"]),
    ("benchmark", ["--dataset=digits", "--engines=batched"]),
    ("benchmark", ["--steps=none"]),
    ("benchmark", ["--threads=100000"]),
    ("benchmark", ["--inputs=5"]),
    ("benchmark", ["--system=recordings", "--engines=batched"]),
    ("benchmark", ["--system=recordings", "--steps=50,100"]),
    ("benchmark", ["--system=recordings", "--dataset=mnist"]),
    ("benchmark", ["--system=recordings", "--trials=2"]),
    ("benchmark", ["--system=recordings", "--epochs=0"]),
]
CASES = [*generated(), *WRITTEN]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a file, a file that is not JSON, a folder and a rule."""
    folder = tmp_path_factory.mktemp("cwd")
    (folder / "file").write_text("mine")
    (folder / "file.json").write_text("mine")
    (folder / "folder").mkdir()
    (folder / "folder" / "notes.txt").write_text("mine")
    Rule((get_term("F0"),), ((0.1,),), "fixed").save(folder / "rule.json")
    return folder


def contents(folder):
    return {
        path.relative_to(folder): path.stat().st_mtime_ns if path.is_file() else None
        for path in folder.rglob("*")
    }


def no_work(*_, **__):
    raise AssertionError("a refused command started its work")


def test_there_are_many_cases():
    assert len(CASES) >= 300
    values = {words[0].partition("=")[2] for _, words in generated()}
    assert {text for texts in UNREADABLE.values() for text in texts} <= values
    assert len({(command, *words) for command, words in CASES}) == len(CASES)


# The short suite leaves out commands that read their options as these do, and all generated values
# of an option but the first.
QUICK = ("discover", "evaluate", "export", "report", "show", "compare")


def _cases():
    seen = set()
    for command, words in CASES:
        option = command, words[0].partition("=")[0] if words else ""
        quick = (command, words) in WRITTEN or option not in seen
        seen.add(option)
        marks = () if quick and command in QUICK else (pytest.mark.slow,)
        yield pytest.param(command, words, marks=marks, id=f"{command} {' '.join(words)}"[:60])


@pytest.mark.parametrize(("command", "words"), [*_cases()])
def test_a_mistake_is_one_sentence(command, words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("METAPLAST_DATA", raising=False)
    monkeypatch.setattr("metaplast.discovery.run.Discovery.run", no_work)
    monkeypatch.setattr(Jobs, "run", no_work)
    monkeypatch.setattr(Plan, "run", no_work)
    monkeypatch.setattr("metaplast.commands.evaluate.evaluate_entrant", no_work)
    monkeypatch.setattr("metaplast.commands.benchmark.measure_apart", no_work)
    before = contents(folder)
    # Cases written by hand are complete.
    others = [] if (command, words) in WRITTEN else OTHERS.get(command, [])
    code = guard(importlib.import_module(f"metaplast.commands.{command}").main, [*others, *words])
    printed = capsys.readouterr()
    assert code == 2, printed
    assert contents(folder) == before
    text = printed.err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert text.rstrip("\n").endswith((".", "?"))
    assert len(text) < 700
    assert not printed.out


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["discover", "--meta-lr=1e308", "--out=made"],
        ["nosuch"],
    ],
    ids=lambda words: words[0],
)
def test_a_process_that_is_refused_ends_with_2(words, folder):
    before = contents(folder)
    done = subprocess.run(
        [*MAIN, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert contents(folder) == before


MEANT = {
    "20,10": (20, 10),
    "20, 10": (20, 10),
    "20 10": (20, 10),
    "20,10,": (20, 10),
    "20": (20,),
    "none": (),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", MEANT)
def test_a_list_may_be_written_in_several_ways(text):
    from metaplast.commands.discover import read_options

    assert read_options([f"--hidden={text}"]).hidden == MEANT[text]
    again = ",".join(map(str, MEANT[text])) or "none"
    assert read_options(["--hidden", again]).hidden == MEANT[text]


@pytest.mark.parametrize("text", ["F0,F2", "F0, F2", "F0 F2", "F0,F2,"])
def test_terms_may_be_written_in_several_ways(text):
    assert [term.name for term in DiscoveryConfig(terms=text).choice.terms] == [
        get_term("F0").name, get_term("F2").name,
    ]  # fmt: skip
