"""A term that reads a scalar, named after `--terms`, in a system that offers it or does not."""

import json
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest
from support import SMALL_RUN

from metaplast.base import registry
from metaplast.commands import discover, export, guard
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.kind import SystemKind
from metaplast.systems.system import Group, Presented
from metaplast.terms.algebra import outer, post, pre, scalar
from metaplast.terms.term import Synapses, Term

REWARDED = Term("rewarded", scalar("reward") * outer(post.activity, pre.activity), "made up")


@dataclass(frozen=True)
class Rewarded(FullyConnected):
    """The stack, which also broadcasts to all synapses how wrong the output was."""

    name = "rewarded-stack"
    summary = "a stack with a reward"

    @property
    def groups(self):
        reward = frozenset({"reward"})
        return tuple(Group(g.name, g.matrix, g.site, g.offers, reward) for g in super().groups)

    def present(self, view, example, reads):
        shown = super().present(view, example, reads)
        *_, last = shown.synapses.values()
        scalars = {"reward": -last.post_error.square().sum(-1)}
        synapses = {
            name: Synapses(one.operator, one.signals, one.weight, scalars)
            for name, one in shown.synapses.items()
        }
        return Presented(synapses, shown.own, shown.carry)


class Kind(SystemKind):
    name = Rewarded.name
    summary = Rewarded.summary

    def build(self, request):
        widths = (request.inputs, *request.hidden, request.outputs)
        return Rewarded(
            widths, request.activation, request.init, request.feedback, request.objective
        )


KIND = Kind()


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """Register the term and the system, as a package's entry points do."""
    ours, entry_points = {"terms": "REWARDED", "systems": "KIND"}, registry.entry_points

    def with_ours(group):
        name = ours.get(group.rpartition(".")[2])
        more = [EntryPoint("ours", f"{__name__}:{name}", group)] if name else []
        return [*entry_points(group=group), *more]

    monkeypatch.setattr(registry, "entry_points", with_ours)
    registry._found.clear()
    yield
    registry._found.clear()


OPTIONS = [*SMALL_RUN[:-1], "--terms=rewarded,F0", "--quiet"]


@pytest.mark.slow
def test_a_term_with_a_scalar_is_found_and_exported(tmp_path, capsys):
    run = tmp_path / "run"
    assert guard(discover.main, [*OPTIONS, f"--system={Rewarded.name}", f"--out={run}"]) == 0
    printed = capsys.readouterr().out
    assert "reward yₗ yₗ₋₁ᵀ" in printed
    rule = json.loads((run / "rule.json").read_text())
    assert rule["provenance"]["system"] == Rewarded.name
    assert {"rewarded", "error_hebbian"} == set(rule["theta"])
    assert guard(export.main, [str(run), "--to=latex"]) == 0
    assert "reward" in capsys.readouterr().out


def test_without_the_scalar_the_term_is_refused(tmp_path, capsys):
    assert guard(discover.main, [*OPTIONS, f"--out={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert 'rewarded reads scalar("reward"), which the system fully-connected does not' in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()
