"""`metaplast show`, `metaplast compare`, and `metaplast` without a command."""

import csv
import errno
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from support import FORWARD, assert_is_one_sentence, fail_to_write, named

import metaplast.commands
from metaplast.base.bands import Band
from metaplast.base.errors import UserError
from metaplast.commands import command_names, guard
from metaplast.commands.compare import main as compare
from metaplast.commands.show import main as show
from metaplast.discovery.discover import discover
from metaplast.discovery.run import Discovery
from metaplast.discovery.same_tasks import tasks_of
from metaplast.engines import choose_engine
from metaplast.meta.evaluation import evaluate
from metaplast.rules.equation import wrapped_equation
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import OFFERED
from metaplast.terms.library import all_terms, choose_terms, known_rules

SMALL = {
    "dataset": "clusters:6,8", "ways": 3, "shots": 3, "queries": 4, "hidden": (5,), "episodes": 8,
    "meta_batch": 2, "meta_lr": 0.02, "refit": 4, "validation": 4, "test_episodes": 6,
    "engine": "batched", "look": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs with the same tasks, and one with another seed."""
    folder = tmp_path_factory.mktemp("runs")
    discover(terms="error_hebbian,oja,decay", l1=0.0, folder=folder / "one", **SMALL)
    discover(terms="bio", feedback="direct", folder=folder / "two", **SMALL)
    discover(terms="bio", seed=1, folder=folder / "other", **SMALL)
    return folder


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs a command 80 columns wide: exit code, output, errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def answer(command, *arguments):
        code = guard(command, [*map(str, arguments)])
        return code, *capsys.readouterr()

    return answer


def assert_fits(text):
    # A path is never broken.
    assert all(len(line) <= 80 for line in text.splitlines() if not line.startswith("Page: "))
    assert "…" not in text.replace("1 … L", "")


def test_a_run_is_shown_with_its_scores_and_origin(run, runs):
    code, text, _ = run(show, runs / "one")
    assert code == 0
    assert_fits(text)
    summary = json.loads((runs / "one/summary.json").read_text())
    assert Rule.load(runs / "one/rule.json").equation() in text
    for name in (*summary["before_refit"], *summary["heldout"]):
        assert re.search(rf"^ *{name} ", text, flags=re.MULTILINE)
    for name, entry in summary["heldout"].items():
        assert re.search(rf"{name} +{100 * entry['mean']:.1f} %", text)
    for said in ("clusters", "seed", "metaplast discover", "torch"):
        assert said in text


def test_a_run_is_shown_as_data(run, runs):
    code, text, errors = run(show, runs / "one", "--json")
    found = json.loads(text)
    assert (code, errors) == (0, "")
    assert Rule.from_json(found["rule"]) == Rule.load(runs / "one/rule.json")
    assert found["run"] == json.loads((runs / "one/summary.json").read_text())


def test_a_rule_file_is_shown_with_what_it_records(run, runs):
    code, text, _ = run(show, runs / "two/rule.json")
    assert code == 0
    assert_fits(text)
    rule = Rule.load(runs / "two/rule.json")
    for term in rule.terms:
        assert re.search(rf"{term.name} .*{term.locality}", text)
    assert re.search(r"feedback +direct\b", text)
    assert re.search(r"network +6-5-8", text)
    assert json.loads(run(show, runs / "two/rule.json", "--json")[1])["rule"] == rule.to_json()


def test_a_rule_of_layers_is_shown_with_all_coefficients(run, tmp_path):
    rule = Rule.of(named("oja", "decay"), torch.tensor([[0.1, 2], [0.3, 4]]), "fixed")
    rule.save(tmp_path / "r.json")
    _, text, _ = run(show, tmp_path / "r.json")
    assert str(rule) in text


@pytest.mark.parametrize("name", known_rules())
def test_a_known_rule_is_shown_without_numbers(run, name):
    code, text, _ = run(show, name)
    assert code == 0
    assert_fits(text)
    known = known_rules()[name]
    assert all(term in text for term in known.terms)
    assert " ".join(known.citation.split())[:30] in " ".join(text.split())
    assert "with, for" not in text
    assert json.loads(run(show, name, "--json")[1])["known_rule"] == name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write metaplast show RUN"),
        ("nosuch", "unknown rule (no file or folder either) 'nosuch'"),
        ("nosuch.json", "nosuch.json"),
        ("empty", "has no rule.json"),
        ("begun", "not finished; continue it with"),
        ("wrong.json", "not a metaplast rule"),
    ],
)
def test_what_is_no_rule_is_refused(run, runs, tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/config.json").write_text((runs / "one/config.json").read_text())
    (tmp_path / "wrong.json").write_text("{}")
    code, out, errors = run(show, text)
    assert (code, out) == (2, "")
    assert says in errors
    assert_is_one_sentence(UserError(errors.removeprefix("error: ").strip()))


@pytest.mark.parametrize("width", [20, 40, 80, 1000])
def test_an_equation_is_broken_only_between_terms(width):
    terms = choose_terms("all+backward").terms
    rule = Rule(terms, (tuple(0.1 * (-1) ** k for k in range(len(terms))),), "plastic")
    text = wrapped_equation(rule, width)
    whole = " ".join(text.replace("\nΔ", "|Δ").split()).replace("|", "\n")
    assert whole == rule.equation()
    longest = max(len(part) for m in "WB" for _, part in rule.summands(m))
    assert max(map(len, text.splitlines())) <= max(width, longest + 10)
    assert wrapped_equation(Rule((), ((),), "fixed"), width) == "ΔWₗ = 0"


def compared(run, folder, *arguments):
    """Return what a comparison prints, and its folder's JSON."""
    out = folder / "out"
    code, text, _ = run(compare, *arguments, "--out", out)
    assert code == 0
    return text, json.loads((out / "compare.json").read_text())


def test_a_runs_own_score_is_found_again(run, runs, tmp_path):
    text, found = compared(run, tmp_path, runs / "one", runs / "two")
    summary = json.loads((runs / "one/summary.json").read_text())
    own = summary["heldout"]["discovered"]
    assert found["rules"]["one"]["accuracy"] == {k: own[k] for k in ("mean", "low", "high")}
    # Runs with the same settings hold out the same tasks.
    other = json.loads((runs / "two/summary.json").read_text())["heldout"]["discovered"]
    assert found["rules"]["two"]["accuracy"]["mean"] == other["mean"]
    assert found["notes"] == []
    assert_fits(text)


def test_differences_are_paired_by_task(run, runs, tmp_path):
    text, found = compared(run, tmp_path, runs / "one", runs / "two", "--test-episodes=5")
    discovery = Discovery.resume(runs / "one")
    scores = {}
    for name in ("one", "two"):
        rule = Rule.load(runs / name / "rule.json")
        learner = rule.learner(discovery.learner.system)
        engine = choose_engine("batched", learner, torch.device("cpu"))
        scores[name] = evaluate(
            learner, rule.tensor(), discovery.split.test, engine, episodes=5, seed=0
        ).score
    rows = list(csv.DictReader((tmp_path / "out/scores.csv").read_text().splitlines()))
    for name, values in scores.items():
        assert [float(row[name]) for row in rows] == values.tolist()
    lead = (scores["one"] - scores["two"]).double()
    band = found["one minus"]["two"]
    assert band["mean"] == pytest.approx(float(lead.mean()))
    spread = float(lead.std()) / 5**0.5
    assert band["high"] - band["mean"] == pytest.approx(3.747 * spread, rel=1e-3)
    assert Band(*band.values()).points in text


def test_all_terms_stand_side_by_side_without_cut_names(run, runs, tmp_path):
    for index in range(5):
        rule = Rule(FORWARD[index : index + 3], ((0.1, -2e-5, 3.0),), "fixed")
        rule.save(tmp_path / f"a_rule_with_a_long_name_{index}.json")
    files = sorted(tmp_path.glob("a_rule*"))
    text, found = compared(
        run, tmp_path, *files, runs / "two", "--on", runs / "two", "--test-episodes=2"
    )
    assert_fits(text)
    for file in files:
        assert f"{file.stem}, fixed feedback" in text
        for name in found["rules"][file.stem]["theta"]:
            assert re.search(rf"^ *{name} ", text, flags=re.MULTILINE)


def test_a_rule_that_may_have_seen_the_tasks_is_named(run, runs, tmp_path):
    text, found = compared(run, tmp_path, runs / "one", runs / "other")
    (note,) = found["notes"]
    assert note.startswith("other was found on the same data set with another seed")
    assert f"warning: {note}" in text


def test_the_result_is_printed_as_data_alone(run, runs, tmp_path):
    out = tmp_path / "out"
    code, text, errors = run(compare, runs / "one", runs / "one", "--json", "--out", out)
    found = json.loads(text)
    assert code == 0
    assert found.pop("page") == str(out / "compare.html")
    assert found == json.loads((out / "compare.json").read_text())
    assert list(found["rules"]) == ["one", "one (2)"]
    assert "compare.html" in errors


class Page(HTMLParser):
    """The text of a page, and all addresses in it."""

    def __init__(self, text):
        super().__init__()
        self.words, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_complete_and_loads_nothing(run, runs, tmp_path):
    _, found = compared(run, tmp_path, runs / "one", runs / "two")
    page = Page((tmp_path / "out/compare.html").read_text(encoding="utf-8"))
    text = " ".join(" ".join(page.words).split())
    assert all(address.startswith("#") for address in page.addresses)
    for name, rule in found["rules"].items():
        assert name in text
        assert f"{100 * rule['accuracy']['mean']:.1f} %" in text
        assert all(term in text for term in rule["theta"])
    assert "Where they come from" in text


def test_scores_that_cannot_be_written_are_shown(run, runs, tmp_path, monkeypatch):
    fail_to_write(monkeypatch, "compare.json", errno.ENOSPC)
    code, text, errors = run(compare, runs / "one", runs / "two", "--out", tmp_path / "out")
    assert code == 2
    assert "Accuracy on 6" in text
    assert errors.splitlines()[-1].startswith("error: cannot write")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["one"], "needs two rules or more, got 1"),
        (["one", "bio"], "the known rule bio has no coefficients yet"),
        (["one", "nosuch"], "unknown rule"),
        (["one", "deep.json"], "coefficients for each of 3 layers"),
        (["one", "special.json"], "the rule special does not fit these tasks"),
        (["deep.json", "deep.json"], "got only rule files; name a run with --on RUN"),
        (["one", "two", "--on=nosuch"], "holds no run"),
        (["one", "two", "--test-episodes=1"], "--test-episodes must be at least 2"),
        (["one", "two", "--out=one"], "is not empty"),
    ],
)
def test_what_cannot_be_compared_is_refused(run, runs, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(runs)
    Rule.of(named("oja"), torch.ones(3, 1), "fixed").save("deep.json")
    special = next(t for t in all_terms().values() if not t.signals <= OFFERED)
    Rule((special,), ((0.1,),), "fixed").save("special.json")
    before = sorted(runs.iterdir())
    code, _, errors = run(compare, *arguments)
    assert code == 2
    assert says in errors
    assert_is_one_sentence(UserError(errors.removeprefix("error: ").strip()))
    assert sorted(runs.iterdir()) == before


def test_tasks_of_a_changed_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{k % 7 / 7},{k % 5 / 5},{k % 2}" for k in range(48)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,kind", *rows]))
    settings = {**SMALL, "dataset": "csv:t.csv,target=kind", "ways": 2, "terms": "oja"}
    discover(folder="run", **settings)
    assert tasks_of("run").episodes == 6
    (tmp_path / "t.csv").write_text("\n".join(["a,b,kind", *rows[::-1]]))
    with pytest.raises(UserError, match=r"t.csv.* has changed since the run in run started"):
        tasks_of("run")


def test_tasks_that_only_python_has_are_refused(tmp_path):
    import episodes

    source = episodes.from_tensors(torch.rand(48, 3), torch.arange(48) % 2)
    settings = {k: v for k, v in SMALL.items() if k != "dataset"} | {"ways": 2, "terms": "oja"}
    discover(folder=tmp_path / "run", split=source, **settings)
    with pytest.raises(UserError, match="which was passed from Python; name another run"):
        tasks_of(tmp_path / "run")


def test_without_a_command_the_program_says_what_to_do_next(run):
    code, text, _ = run(lambda _: metaplast.commands._explain(command_names(), []))
    assert code == 0
    assert_fits(text)
    assert len(text.splitlines()) == 10
    assert all(name in text for name in command_names())
    named_there = set(re.findall(r"metaplast (\w+) ", metaplast.commands.NEXT))
    assert named_there - {"finds"} <= set(command_names())
