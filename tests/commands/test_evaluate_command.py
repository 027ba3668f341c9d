"""`metaplast evaluate` as its user sees it."""

import csv
import json
import re

import pytest
import torch

from metaplast.commands import evaluate as command
from metaplast.commands import guard
from metaplast.online.comparison import widths_for_depth
from metaplast.report import comparison
from metaplast.rules.rule import Rule
from metaplast.terms.library import choose_terms

SMALL = ["--hidden=6,5", "--samples=20", "--seeds=3", "--test-images=50"]


def run(*arguments):
    return guard(command.main, [*map(str, arguments)])


def save_rule(path, theta=(1e-2, -2e-2, 1e-3), terms="bio"):
    Rule.of(choose_terms(terms).terms, torch.tensor(theta), "fixed").save(path)
    return path


def read(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished comparison of a saved rule with the usual baselines."""
    out = tmp_path_factory.mktemp("evaluate")
    rule = save_rule(out / "mine.json")
    assert run(rule, *SMALL, "--quiet", "--out", out / "out") == 0
    return out / "out"


@pytest.fixture
def _no_figures(monkeypatch):
    """Draw nothing: figures take most of the time, and other tests are about them."""
    monkeypatch.setattr(comparison, "save_figure", lambda figure, stem: None)


without_figures = pytest.mark.usefixtures("_no_figures")
RULES = ["mine", "feedback_alignment", "direct_feedback_alignment", "backprop", "ehebb"]


@pytest.mark.slow
def test_every_rule_has_a_row_for_each_network_and_record(folder):
    rows = read(folder / "curves.csv")
    assert sorted({row["rule"] for row in rows}) == sorted(RULES)
    records = sorted({int(row["samples"]) for row in rows})
    assert records[0] == 0
    assert records[-1] == 20
    assert len(rows) == len(RULES) * 3 * len(records)
    first = {(row["rule"], row["network"]): row["loss"] for row in rows if row["samples"] == "0"}
    for network in "012":
        losses = {float(first[name, network]) for name in RULES}
        assert len(losses) == 1, "untrained networks are the same for every rule"
    for row in rows:
        assert 0 <= float(row["accuracy"]) <= 1
        assert all(row[f"weight_norm_{layer}"] for layer in (1, 2, 3))
    angles = [float(r["angle_1"]) for r in rows if r["rule"] == "backprop"]
    assert angles == pytest.approx([0] * len(angles), abs=0.1)


@pytest.mark.slow
def test_baselines_are_tuned_and_the_rule_is_not(folder):
    rates = read(folder / "rates.csv")
    assert {row["rule"] for row in rates} == set(RULES[1:])
    summary = json.loads((folder / "comparison.json").read_text())
    for name, entry in summary["rules"].items():
        tried = [row for row in rates if row["rule"] == name]
        assert entry["tried"] == len(tried)
        assert entry["fitted"] == ("nothing" if name == "mine" else "coefficients")
        if tried:
            best = max(tried, key=lambda row: float(row["accuracy"]))
            chosen = [
                row
                for row in tried
                if all(
                    float(row[f"theta_{k}"]) == pytest.approx(v) for k, v in entry["theta"].items()
                )
            ]
            assert float(chosen[0]["accuracy"]) == float(best["accuracy"])
    assert summary["rules"]["mine"]["theta"]["error_hebbian"] == pytest.approx(1e-2)
    assert summary["settings"]["widths"] == [64, 6, 5, 10]


@pytest.mark.slow
def test_figures_are_written_as_png_and_svg(folder):
    for name in ("accuracy", "angle", "activity_norm", "weight_norm", "update_norm"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (folder / f"{name}.svg").read_text()
        assert "backprop" in svg
        assert "direct feedback alignment" in svg


@pytest.mark.slow
@without_figures
def test_the_same_command_gives_the_same_numbers_and_prints_them(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "140")
    rule = save_rule(tmp_path / "mine.json")
    assert run(rule, *SMALL, "--baselines=backprop", "--out", tmp_path / "out") == 0
    old = [row for row in read(folder / "curves.csv") if row["rule"] in ("mine", "backprop")]
    assert read(tmp_path / "out" / "curves.csv") == old
    printed = capsys.readouterr().out
    assert re.search(r"mine +.*\[.*\].* 0 ", printed)
    for text in ("98 % band", "others to find rates", "angle to backprop", "minus each other rule"):
        assert text in printed


@pytest.mark.slow
@without_figures
def test_rules_move_between_data_sets_depths_and_widths(tmp_path):
    rule = save_rule(tmp_path / "mine.json")
    options = ["--samples=5", "--seeds=2", "--baselines=none", "--quiet"]
    places = [("clusters:12,4", 6), ("digits", 1)]
    for index, (dataset, depth) in enumerate(places):
        out = tmp_path / f"out{index}"
        assert run(rule, *options, f"--dataset={dataset}", f"--depth={depth}", "--out", out) == 0
        widths = json.loads((out / "comparison.json").read_text())["settings"]["widths"]
        assert len(widths) == depth + 1


@pytest.mark.slow
@without_figures
def test_a_run_folder_and_a_known_rule_by_name_are_rules_too(tmp_path):
    folder = tmp_path / "my_run"
    folder.mkdir()
    save_rule(folder / "rule.json")
    out = tmp_path / "out"
    arguments = [folder, folder / "rule.json", "bp", "--baselines=backprop"]
    assert run(*arguments, *SMALL, "--quiet", "--out", out) == 0
    names = json.loads((out / "comparison.json").read_text())["rules"]
    assert list(names) == ["my_run", "my_run (2)", "backprop"]


@pytest.mark.slow
@without_figures
def test_a_known_rule_may_have_another_feedback(tmp_path):
    out = tmp_path / "out"
    options = ["--samples=10", "--seeds=2", "--hidden=5", "--quiet", "--out", out]
    assert run("oja:symmetric", "fa:direct", "--baselines=dfa", *options) == 0
    rules = json.loads((out / "comparison.json").read_text())["rules"]
    assert {name: entry["feedback"] for name, entry in rules.items()} == {
        "oja, symmetric": "symmetric",
        "feedback_alignment, direct": "direct",
        "direct_feedback_alignment": "direct",
    }
    # The same rule under two names is the same rule.
    fa, dfa = (rules[k] for k in ("feedback_alignment, direct", "direct_feedback_alignment"))
    assert (fa["theta"], fa["accuracy"]) == (dfa["theta"], dfa["accuracy"])


@pytest.mark.slow
@without_figures
def test_a_rule_may_be_rescaled_by_one_factor(tmp_path):
    rule = save_rule(tmp_path / "mine.json", (1e1, -2e1, 1e-2))
    out = tmp_path / "out"
    options = ["--baselines=none", "--fit-scale", "--quiet", "--out", out]
    assert run(rule, *SMALL, *options) == 0
    rules = json.loads((out / "comparison.json").read_text())["rules"]
    assert list(rules) == ["mine", "mine, rescaled"]
    as_it_is, rescaled = (entry["theta"] for entry in rules.values())
    factors = {rescaled[name] / as_it_is[name] for name in as_it_is}
    assert max(factors) == pytest.approx(min(factors))
    tried = {float(row["scale"]): float(row["accuracy"]) for row in read(out / "rates.csv")}
    assert tried[min(tried, key=lambda s: abs(s - max(factors)))] == max(tried.values())
    assert max(tried.values()) > 0


@pytest.mark.slow
def test_interrupted_a_comparison_keeps_what_is_finished(tmp_path, monkeypatch, capsys):
    evaluate_entrant = command.evaluate_entrant

    def stop_at_the_second(entrant, *arguments, **options):
        if entrant.name == "backprop":
            raise KeyboardInterrupt
        return evaluate_entrant(entrant, *arguments, **options)

    monkeypatch.setattr(command, "evaluate_entrant", stop_at_the_second)
    out = tmp_path / "out"
    rule = save_rule(tmp_path / "mine.json")
    assert run(rule, *SMALL, "--baselines=backprop", "--quiet", "--out", out) == 130
    assert f"Finished rules are in {out}" in " ".join(capsys.readouterr().out.split())
    assert {row["rule"] for row in read(out / "curves.csv")} == {"mine"}


@pytest.mark.slow
def test_diverged_networks_are_counted_and_shown(tmp_path, capsys):
    rule = save_rule(tmp_path / "wild.json", (1e12, 1e12, -1e12))
    assert run(rule, *SMALL, "--baselines=none", "--out", tmp_path / "out") == 0
    entry = json.loads((tmp_path / "out" / "comparison.json").read_text())["rules"]["wild"]
    assert entry["diverged"] == entry["networks"] == 3
    assert entry["accuracy"]["mean"] == 0
    assert re.search(r"wild +.* 3 ", capsys.readouterr().out)


@pytest.mark.slow
def test_one_network_of_regression_has_an_open_band(tmp_path):
    rule = save_rule(tmp_path / "mine.json")
    options = ["--dataset=diabetes", "--objective=mse", "--baselines=none", "--engine=batched"]
    small = ["--hidden=5", "--samples=10", "--seeds=1", "--quiet"]
    assert run(rule, *options, *small, "--out", tmp_path / "out") == 0
    entry = json.loads((tmp_path / "out" / "comparison.json").read_text())["rules"]["mine"]
    assert entry["neg_mse"]["mean"] < 0
    assert (entry["neg_mse"]["low"], entry["neg_mse"]["high"]) == (None, 0)


@pytest.mark.slow
@without_figures
@pytest.mark.parametrize("provenance", [{"dataset": "digits"}, {"objective": "MSE"}, {}])
def test_a_rule_found_with_another_objective_is_named(provenance, tmp_path, capsys):
    terms = choose_terms("bio").terms
    Rule(terms, ((1e-2, -2e-2, 1e-3),), "fixed", provenance).save(tmp_path / "mine.json")
    options = ["--dataset=diabetes", "--objective=mse", "--baselines=none", "--engine=batched"]
    small = ["--hidden=5", "--samples=10", "--seeds=2", "--quiet"]
    assert run(tmp_path / "mine.json", *options, *small, "--out", tmp_path / "out") == 0
    warning = "the rule mine was found with the objective cross-entropy, but these networks learn"
    assert (warning in " ".join(capsys.readouterr().out.split())) == ("dataset" in provenance)


def test_depth_stretches_the_profile_of_the_hidden_layers():
    profile = (170, 130, 100, 70)
    assert widths_for_depth(profile, None) == widths_for_depth(profile, 5) == profile
    ten = widths_for_depth(profile, 10)
    assert len(ten) == 9
    assert (ten[0], ten[-1]) == (170, 70)
    assert list(ten) == sorted(ten, reverse=True)
    assert widths_for_depth(profile, 1) == ()


def per_layer(path):
    return save_rule(path, [[1e-2], [1e-2]], "error_hebbian")


REFUSED = {
    "no-such-rule": (["ehebbb"], "did you mean 'ehebb'"),
    "no-such-file": (["missing.json"], "cannot read a rule"),
    "empty-folder": (["."], "has no rule.json"),
    "wrong-feedback": (["backprop:fixed"], "goes with feedback symmetric"),
    "unknown-baseline": (["--baselines=bakprop"], "did you mean 'backprop'"),
    "nothing": (["--baselines=none"], "nothing to compare"),
    "unknown-data-set": (["--dataset=digts"], "did you mean 'digits'"),
    "tasks-only": (["--dataset=learn2learn:omniglot"], "needs a stream of single images"),
    "too-many-ways": (["--ways=11"], "--ways asks for 11"),
    "no-samples": (["--samples=0"], "--samples"),
    "no-seeds": (["--seeds=0"], "--seeds"),
    "no-depth": (["--depth=0"], "--depth"),
    "other-depth": (["per_layer.json", "--depth=3"], "give --depth 2"),
    "bad-device": (["--device=tpu"], "--device"),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    arguments, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if "per_layer.json" in arguments:
        per_layer(tmp_path / "per_layer.json")
    before = sorted(tmp_path.iterdir())
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before, "a refused comparison leaves no folder behind"


def test_a_folder_in_use_is_refused_without_an_option_that_evaluate_lacks(tmp_path, capsys):
    (tmp_path / "curves.csv").write_text("results of mine\n")
    assert run("backprop", *SMALL, "--out", tmp_path) == 2
    told = capsys.readouterr().err
    assert told == f"error: the folder {tmp_path} is not empty; give --out a new folder.\n"


# --- other systems than stacks ---

TINY_NETWORKS = ["--hidden=4", "--samples=4", "--seeds=2", "--test-images=10", "--quiet"]


def save_recurrent_rule(path, theta):
    terms = choose_terms("error_hebbian,potential_oja").terms
    Rule.of(terms, torch.tensor(theta), "fixed", {"system": "recurrent"}).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("data", ["delayed:digits,time=7", "rows:digits"])
def test_a_recurrent_network_learns_sequences_and_bptt_is_its_peer(tmp_path, data):
    rule = save_recurrent_rule(tmp_path / "mine.json", [[0.1, 0], [0.2, 0.01], [0.3, 0]])
    out = tmp_path / "out"
    options = ["--system=recurrent", f"--dataset={data}", "--baselines=backprop", "--out", out]
    assert run(rule, *options, *TINY_NETWORKS) == 0
    summary = json.loads((out / "comparison.json").read_text())
    assert summary["settings"]["system"] == "recurrent"
    assert summary["settings"]["activation"] == "tanh"
    assert {name: entry["feedback"] for name, entry in summary["rules"].items()} == {
        "mine": "fixed", "backprop": "symmetric",
    }  # fmt: skip
    assert summary["rules"]["mine"]["theta"]["potential_oja"] == pytest.approx([0, 0.01, 0])
    rows = read(out / "curves.csv")
    # Each of the three matrices has its own norm; BPTT's errors have no angle to themselves.
    assert all(float(row["weight_norm_3"]) > 0 for row in rows)
    assert {float(row["angle_1"]) for row in rows if row["rule"] == "backprop"} == {0}
    assert (out / "weight_norm.svg").exists()
    assert not (out / "angle.svg").exists()


@pytest.mark.slow
def test_a_fixed_point_network_learns_with_its_own_errors(tmp_path):
    out = tmp_path / "out"
    options = ["--system=fixed-point", "--out", out, *TINY_NETWORKS]
    assert run("oja_rule.json", *options) == 2
    assert run(*options, "--baselines=euclidean_gradient") == 0
    summary = json.loads((out / "comparison.json").read_text())
    assert summary["settings"]["system"] == "fixed-point"
    assert summary["rules"]["euclidean_gradient"]["feedback"] == "implicit"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "was found with the system recurrent; write --system recurrent"),
        (("--system=recurrent", "--dataset=digits"), "--dataset delayed:digits or rows:digits"),
        (("--system=fully-connected",), "which mean nothing in the system fully-connected"),
        (("--system=recurrent", "--depth=3"), "leave --depth out"),
        (("--system=fixed-point:batch=4",), "leave batch out"),
        (("--system=nosuch",), "nosuch"),
    ],
)
def test_a_rule_of_a_recurrent_network_is_not_given_to_others_unsaid(
    tmp_path, capsys, arguments, words
):
    rule = save_recurrent_rule(tmp_path / "mine.json", [[0.1, 0], [0.2, 0.01], [0.3, 0]])
    assert run(rule, *arguments, "--baselines=none", "--out", tmp_path / "out") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_stacks_refuse_sequences(tmp_path, capsys):
    assert run("bp", "--dataset=delayed:digits", "--out", tmp_path / "out") == 2
    assert "choose --system recurrent" in capsys.readouterr().err
