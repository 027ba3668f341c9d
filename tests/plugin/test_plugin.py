"""A user's package adds a system, a feedback, an objective, a term and a pool.

It is installed beside an unchanged metaplast, which then discovers, reports and exports with it.
"""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
from support import entries

from metaplast.base.errors import UserError
from metaplast.systems.kind import get_system

pytestmark = pytest.mark.slow

PLUGIN = '''
"""A system with a signal of its own, a feedback, a loss, and a term that reads the signal."""

from dataclasses import dataclass

import torch

from metaplast import Term, outer, post, pre
from metaplast.systems import (
    ChainFeedback, FullyConnected, Group, Objective, Presented, State, SystemKind, get_feedback,
    get_objective,
)
from metaplast.terms import Pool, Synapses, W, get_term

SURPRISE = post.signal("surprise")


@dataclass(frozen=True)
class Surprised(FullyConnected):
    """The stack, which also offers how far each activity is from its layer's mean."""

    name = "surprised"
    summary = "a stack that offers surprise"

    @property
    def groups(self):
        return tuple(
            Group(g.name, g.matrix, g.site, g.offers | {SURPRISE}) for g in super().groups
        )

    def present(self, view, example, reads):
        shown = super().present(view, example, reads)
        more = {}
        for name, one in shown.synapses.items():
            y = one.post_activity
            signals = {**one.signals, SURPRISE: y - y.mean(-1, keepdim=True)}
            more[name] = Synapses(one.operator, signals, one.weight)
        return Presented(more, shown.own, shown.carry)


class SurprisedKind(SystemKind):
    name = Surprised.name
    summary = Surprised.summary

    def build(self, request):
        widths = (request.inputs, *request.hidden, request.outputs)
        return Surprised(
            widths, request.activation, request.init, request.feedback, request.objective
        )


class Halved(ChainFeedback):
    """Half of what fixed random matrices carry down."""

    name = "halved"
    summary = "fixed random feedback, half as strong"

    def below(self, layer, error, given):
        return 0.5 * given.backward[layer].matmul(error)


class Brier(Objective):
    """loss = sum of (y - p)^2 over classes, y = softmax(z), scored by accuracy."""

    name = "brier"
    summary = "classes: softmax and the Brier score"
    score_name = "accuracy"
    percent = True
    worst = 0.0
    least_effect = 0.002

    def _targets(self, output, target):
        if target.is_floating_point():
            return target
        return torch.nn.functional.one_hot(target, output.shape[-1]).to(output.dtype)

    def activity(self, output):
        return torch.softmax(output, -1)

    def loss(self, output, target):
        return (self.activity(output) - self._targets(output, target)).square().sum(-1)

    def error(self, output, target):
        y = self.activity(output)
        difference = 2 * (y - self._targets(output, target))
        return y * (difference - (y * difference).sum(-1, keepdim=True))

    def score(self, output, target):
        return get_objective("cross-entropy").score(output, target)

    def targets(self, given, shape, neurons, **options):
        return get_objective("cross-entropy").targets(given, shape, neurons, **options)


surprised = SurprisedKind()
halved = Halved()
brier = Brier()
surprise_hebbian = Term(
    "surprise_hebbian", outer(SURPRISE, pre.activity), "made up", "what surprises, wires",
)


class Surprises(Pool):
    name = "surprises"
    summary = "what surprises, with and without its cause"
    # Offered by the pool alone.
    alone = (Term("surprise_one", outer(SURPRISE, pre.one), "made up"),)

    def terms(self):
        return (get_term("F0"), surprise_hebbian, *self.alone, get_term("F3"))


surprises = Surprises()
'''
POINTS = """
[metaplast.systems]
mine = plugin_of_ours
[metaplast.feedbacks]
mine = plugin_of_ours
[metaplast.objectives]
mine = plugin_of_ours
[metaplast.terms]
mine = plugin_of_ours
"""
OPTIONS = [
    "--system", "surprised", "--feedback", "halved", "--objective", "brier",
    "--terms", "surprises", "--hidden", "6", "--shots", "3", "--queries", "3",
    "--episodes", "8", "--meta-batch", "4", "--refit", "8", "--refit-batch", "4",
    "--look", "4", "--validation", "4", "--test-episodes", "4", "--engine", "batched",
]  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a folder with the package, as an installer would write it."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "plugin_of_ours.py").write_text(PLUGIN, encoding="utf-8")
    metadata = folder / "plugin_of_ours-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: plugin-of-ours\nVersion: 1.0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(POINTS, encoding="utf-8")
    return folder


# What its user types, one after the other.
COMMANDS = {
    "list": ["discover", "--list-terms"],
    "discover": ["discover", *OPTIONS, "--out", "run"],
    "resume": ["discover", "--resume", "run"],
    "report": ["report", "run"],
    "export": ["export", "run", "--to", "json,latex,markdown", "--output", "exported"],
    "export code": ["export", "run", "--to", "numpy"],
    "fused": ["discover", *OPTIONS[:-1], "fused", "--out", "refused"],
}
# Runs all of them in one process, as loading torch for each takes seconds.
PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from metaplast.commands import main
from metaplast.report.observer import ReportFiles

ReportFiles.finish = lambda self, result: None  # One report is drawn, by its own command.
done = {}
for name, arguments in json.loads(sys.argv[1]).items():
    streams = io.StringIO(), io.StringIO()
    sys.argv = ["metaplast", *arguments]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        code = main()
    done[name] = (code, *(stream.getvalue() for stream in streams))
print(json.dumps(done))
"""


class Done(NamedTuple):
    """What a command returned and printed."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder in which the commands ran."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def done(installed, folder):
    """Return what each command did, in a process that finds the package."""
    paths = [str(installed), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(COMMANDS)], cwd=folder, env=environment,
        capture_output=True, check=False, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return {name: Done(*each) for name, each in json.loads(process.stdout).items()}


@pytest.mark.parametrize("name", ["list", "discover", "resume", "report", "export"])
def test_commands_work(done, name):
    assert done[name].code == 0, done[name].stderr


def test_it_is_listed(done):
    assert "surprise_hebbian" in done["list"].stdout
    assert "surprises" in done["list"].stdout


def test_it_discovers(done, folder):
    assert "surprise_hebbian" in done["discover"].stdout
    assert "surprise_one" in done["discover"].stdout
    rule = json.loads((folder / "run" / "rule.json").read_text(encoding="utf-8"))
    assert rule["feedback"] == "halved"
    assert rule["provenance"]["system"] == "surprised"
    assert rule["provenance"]["objective"] == "brier"


def test_it_is_reported(done, folder):
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert "surprise_hebbian" in page
    assert "surprise_one" in page
    assert "surprised" in page


def test_its_rule_is_exported(done, folder):
    exported = folder / "exported"
    assert entries(exported) == ["rule_json.json", "rule_latex.tex", "rule_markdown.md"]
    for path in exported.iterdir():
        assert "surprise" in path.read_text(encoding="utf-8"), path


def test_code_that_nobody_wrote_is_refused_in_a_sentence(done):
    assert done["export code"].code == 2
    assert done["export code"].stderr.startswith("error: ")
    assert len(done["export code"].stderr.strip().splitlines()) == 1


def test_the_fused_engine_refuses_it(done, folder):
    assert done["fused"].code == 2
    assert "--engine batched" in done["fused"].stderr
    assert not (folder / "refused").exists()


def test_a_system_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="did you mean 'fully-connected'"):
        get_system("fully-conected")
