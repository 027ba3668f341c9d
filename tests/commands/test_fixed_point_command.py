"""`--system fixed-point` from the command line: a whole discovery, and mistakes in one sentence."""

import json

import pytest
from support import assert_is_one_sentence

from metaplast.base.errors import UserError
from metaplast.commands import discover, evaluate, export, guard
from metaplast.discovery.config import DiscoveryConfig
from metaplast.rules.rule import Rule
from metaplast.terms.library import get_term

SMALL = [
    "--system=fixed-point:steps=20,batch=2,solver=gmres", "--dataset=digits", "--hidden=6",
    "--ways=3", "--shots=2", "--queries=2", "--episodes=8", "--meta-batch=4", "--refit=4",
    "--refit-batch=4", "--look=8", "--validation=4", "--test-episodes=4", "--quiet",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a discovery in which some inputs do not settle within 20 steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    terms = "--terms=error_hebbian,reparameterised"
    assert guard(discover.main, [*SMALL, terms, f"--out={folder}"]) == 0
    return folder


@pytest.mark.slow
def test_a_discovery_is_compared_with_the_euclidean_gradient(run, capsys):
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary["heldout"]) == {"discovered", "euclidean_gradient"}
    assert summary["engine"] == "batched"
    rule = Rule.load(run / "rule.json")
    assert rule.feedback == "implicit"
    assert rule.provenance["system"] == "fixed-point"
    assert rule.provenance["solver"] == "gmres"
    (notice,) = summary["notices"]
    assert "inputs did not settle and were skipped; the first: sample" in notice
    assert notice in (run / "report.html").read_text()
    assert guard(discover.main, [f"--resume={run}"]) == 0
    assert json.loads((run / "summary.json").read_text())["rule"] == summary["rule"]


@pytest.mark.slow
def test_its_rule_is_not_trained_in_a_stack_and_has_no_jax_program(run, capsys):
    tried = (
        (export, ["--to=jax"], "as numpy, torch, latex, markdown or json"),
        (evaluate, ["--dataset=digits"], "write --system fixed-point"),
        (evaluate, ["--dataset=digits", "--system=fully-connected"], "implicit"),
    )
    for command, arguments, words in tried:
        assert guard(command.main, [str(run), *arguments]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        assert words in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "xyz"}, "choose one of: linear, relu, softplus, tanh"),
        ({"activation": "linaer"}, "did you mean 'linear'?"),
        ({"terms": "all+backward"}, "the system fixed-point has implicit; choose --terms all"),
        ({"terms": "backward_decay"}, "does not have; leave the terms out, or use a pool without"),
    ],
)
def test_advice_names_what_this_system_has(changes, words):
    with pytest.raises(UserError) as refused:
        DiscoveryConfig.for_system("fixed-point", **changes)
    assert_is_one_sentence(refused.value)
    assert words in str(refused.value)
    assert "plastic or" not in str(refused.value)


def test_all_terms_include_those_that_only_this_system_offers():
    config = DiscoveryConfig(system="fixed-point", hidden=(5,))
    names = {term.name for term in config.choice.terms}
    assert {"error_hebbian", "oja", "reparameterised", "reparameterised_ungated"} < names
    assert config.feedback_name == "implicit"
    assert "reparameterised" not in {term.name for term in DiscoveryConfig().choice.terms}
    assert DiscoveryConfig().feedback_name == "fixed"


def test_the_command_has_the_systems_own_defaults(capsys):
    options = discover.read_options(["--system=fixed-point"])
    assert (options.hidden, options.activation) == ((100,), "tanh")
    assert discover.read_options(["--system=fixed-point", "--hidden=7"]).hidden == (7,)
    assert discover.read_options([]).hidden == (170, 130, 100, 70)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--engine=fused"], "--engine batched"),
        (["--engine=compiled"], "--engine batched"),
        (["--feedback=symmetric"], "no feedback symmetric; choose from implicit"),
        (["--terms=bio"], "--terms bio goes with feedback"),
        (["--hidden=5,5"], "one population"),
        (["--system=fixed-point:tolerance=0"], "tolerance must be above 0"),
        (["--system=fixed-point:solver=lu"], "unknown solver"),
        (["--system=fixed-point:gain=2"], "gain must be"),
        (["--terms=local_plastic", "--feedback=implicit"], "feedback plastic"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(more, said, tmp_path, capsys):
    arguments = [*SMALL, "--terms=error_hebbian", *more, f"--out={tmp_path / 'run'}"]
    assert guard(discover.main, arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_coefficients_for_the_sites_of_another_system_are_refused(tmp_path, capsys):
    file = tmp_path / "stack.json"
    Rule((get_term("F0"),), ((0.01,), (0.02,), (0.03,)), "fixed").save(file)
    arguments = [*SMALL, "--terms=error_hebbian", f"--dataset=planted:{file}@digits"]
    assert guard(discover.main, [*arguments, f"--out={tmp_path / 'run'}"]) == 2
    told = capsys.readouterr().err
    assert "theta must be [term] or [site, term], that is (1,) or (1, 1), got (3, 1)" in told


def test_a_mini_batch_that_does_not_divide_the_support_is_refused(tmp_path, capsys):
    arguments = [*SMALL, "--terms=error_hebbian", "--system=fixed-point:batch=4"]
    assert guard(discover.main, [*arguments, f"--out={tmp_path / 'run'}"]) == 2
    assert "6 support examples cannot be divided" in capsys.readouterr().err
