"""`--system recurrent` as its user sees it."""

import json

import pytest
from support import assert_is_one_sentence

from metaplast import discover
from metaplast.base.errors import UserError
from metaplast.commands import discover as command
from metaplast.commands import evaluate, guard
from metaplast.commands.discover import read_options
from metaplast.commands.recover import RecoverOptions
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.rules.rule import Rule
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.terms.library import get_term

TINY = {
    "episodes": 4, "meta_batch": 2, "refit": 2, "refit_batch": 2, "look": 4, "validation": 2,
    "test_episodes": 2, "hidden": (5,), "shots": 1, "queries": 1, "ways": 2,
    "dataset": "delayed:digits,show=1,time=3",
}  # fmt: skip
OPTIONS = [
    f"--{name.replace('_', '-')}={','.join(map(str, v)) if isinstance(v, tuple) else v}"
    for name, v in TINY.items()
]


class Stop:
    """Stops a run at its third record."""

    def __init__(self):
        self.left = 3

    def begin(self, discovery):
        pass

    def record(self, loop, record):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def tested(self, name, episodes):
        pass

    def finish(self, result):
        pass


@pytest.mark.slow
def test_a_discovery_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "run"
    arguments = ["--system=recurrent", "--terms=all", *OPTIONS, "--dtype=float64", f"--out={out}"]
    assert guard(command.main, [*arguments, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "drive_oja" in said
    assert "potential_oja" in said
    table = said[said.index("Terms") : said.index("Accuracy")].splitlines()
    assert len(table) == 4 + 12 + 1  # Title, heads and one line for each term of the pool.
    assert max(map(len, table)) <= 80
    summary = json.loads((out / "summary.json").read_text())
    assert {"discovered", "feedback_alignment", "backprop"} <= set(json.dumps(summary).split('"'))
    rule = Rule.load(out / "rule.json")
    own = rule.provenance
    assert (own["system"], own["widths"], own["time"]) == ("recurrent", [64, 5, 10], 3)
    assert rule.learner(Recurrent((64, 5, 10), Timing(1, 1, 3))).feedback_name == "fixed"


@pytest.mark.slow
def test_a_run_continues_where_it_was_stopped(tmp_path):
    settings = {
        **TINY,
        "system": "recurrent",
        "terms": "error_hebbian,drive_oja",
        "theta": "per-layer",
    }
    whole = discover(**settings)
    with pytest.raises(KeyboardInterrupt):
        discover(**settings, folder=tmp_path / "run", observers=[Stop()], checkpoint_seconds=0)
    result = Discovery.resume(tmp_path / "run").run()
    assert result.rule == whole.rule
    assert result.rule.per_layer
    assert result.heldout["backprop"].loss.tolist() == whole.heldout["backprop"].loss.tolist()


@pytest.mark.parametrize("feedback", ["symmetric", "truncated:1", "plastic", "sign-symmetric"])
def test_every_feedback_serves(feedback):
    terms = "error_hebbian,drive_oja" + (",backward_hebbian" if feedback == "plastic" else "")
    result = discover(**TINY | {"refit": 0}, system="recurrent", terms=terms, feedback=feedback)
    assert result.rule.feedback == feedback


def test_the_system_changes_the_defaults(capsys):
    options = read_options(["--system", "recurrent"])
    assert (options.hidden, options.activation) == ((100,), "tanh")
    assert options.dataset_name == "delayed:digits"
    options = read_options(["--system=recurrent", "--activation=relu", "--hidden=7"])
    assert (options.hidden, options.activation) == ((7,), "relu")
    assert read_options([]).hidden == DiscoveryConfig().hidden == (170, 130, 100, 70)
    assert RecoverOptions().hidden == (16, 12)
    with pytest.raises(SystemExit):
        command.main(["--system", "recurrent", "--help"])
    assert "(default: 100)" in capsys.readouterr().out
    assert guard(command.main, ["--list-terms"]) == 0
    said = capsys.readouterr().out
    assert "drive_oja" in said
    assert "potential_oja" in said


RECURRENT = ["--system=recurrent"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*RECURRENT, "--dataset=delayed:digits,show=9,time=4"], "shows the image for 9"),
        ([*RECURRENT, "--dataset=delayed:digits,show=1,time=1"], "at least 2 time steps"),
        ([*RECURRENT, "--dataset=delayed:digits,time=9999999"], "give it fewer"),
        ([*RECURRENT, "--dataset=digits"], "delayed:digits or rows:digits"),
        (
            [*RECURRENT, "--dataset=planted:bio@digits"],
            "write --dataset planted:bio@delayed:digits or planted:bio@rows:digits",
        ),
        (["--dataset=delayed:digits"], "--system recurrent"),
        ([*RECURRENT, "--feedback=direct"], "has no feedback direct"),
        ([*RECURRENT, "--feedback=truncated", "--terms=oja"], "truncated:10"),
        (["--feedback=truncated:3", "--terms=oja"], "fully-connected has no feedback truncated"),
        ([*RECURRENT, "--hidden=5,5"], "one population"),
        (["--system=recurrent:5"], "takes no argument"),
        (["--terms=drive_oja"], "does not offer"),
        ([*RECURRENT, "--engine=fused", "--terms=all+backward"], "--engine batched"),
        ([*RECURRENT, "--terms=backward_hebbian,oja", "--feedback=fixed"], "--feedback plastic"),
        ([*RECURRENT, "--objective=mse"], "--objective"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_sentence(arguments, words, tmp_path, capsys):
    assert guard(command.main, [*arguments, f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert_is_one_sentence(UserError(said.removeprefix("error: ")))
    assert not (tmp_path / "out").exists()


def of_each_site(tmp_path, system):
    terms = (get_term("error_hebbian"),)
    rule = Rule(terms, ((0.1,), (0.2,), (0.3,)), "fixed", {"system": system}, per_layer=True)
    rule.save(tmp_path / "rule.json")
    return tmp_path / "rule.json"


def test_coefficients_of_each_matrix_stay_with_their_system(tmp_path, capsys):
    path = of_each_site(tmp_path, "recurrent")
    for hidden in ("4,4", "4"):
        arguments = [
            str(path),
            "--system=fully-connected",
            "--dataset=digits",
            f"--hidden={hidden}",
        ]
        assert guard(evaluate.main, [*arguments, f"--out={tmp_path / 'out'}"]) == 2
        assert "of the system recurrent" in " ".join(capsys.readouterr().err.split())
    path = of_each_site(tmp_path, "fully-connected")
    planted = [*RECURRENT, "--terms=oja", f"--dataset=planted:{path}@delayed:digits,time=6"]
    assert guard(command.main, [*planted, f"--out={tmp_path / 'out'}"]) == 2
    assert "of the system fully-connected" in " ".join(capsys.readouterr().err.split())
