"""Jobs in folders, and the tables and the rule that a sweep makes of its runs."""

import csv
import json
import math
import re
from dataclasses import replace

import pytest
from support import ACCURACY, assert_is_one_sentence

from metaplast.base.errors import UserError
from metaplast.batch_jobs.jobs import DONE, SEAL, Heartbeat, Jobs, run_job
from metaplast.batch_jobs.over_seeds import Range, over_seeds
from metaplast.batch_jobs.sweep import Run, candidates, frequencies, recommend, runs_csv, terms_csv
from metaplast.commands.sweep import reason, seeds_table, show
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.report.sweep_figure import draw
from metaplast.watch.console import make_console

TINY = DiscoveryConfig(
    terms="error_hebbian,oja", hidden=(5,), ways=3, shots=2, queries=2, episodes=8, meta_batch=2,
    refit=4, refit_batch=2, look=4, validation=4, test_episodes=4, engine="batched",
)  # fmt: skip


def extra(result):
    return {"extra": len(result.kept)}


@pytest.mark.slow
def test_jobs_run_apart_and_are_not_run_twice(tmp_path):
    broken = replace(TINY, ways=99)
    jobs = Jobs(tmp_path, {"a": TINY, "b": replace(TINY, seed=1), "broken": broken}, extra)
    jobs.save(option=5)
    ticks = []
    ended = dict(jobs.run(processes=2, tick=lambda: ticks.append(jobs.fraction("a"))))
    assert set(ended) == {"a", "b", "broken"}
    assert "--ways" in ended["broken"]["error"]
    assert ended["a"]["extra"] == len(ended["a"]["kept"])
    assert ended["a"]["rule"] != ended["b"]["rule"]
    assert ticks
    assert jobs.fraction("a") == 1
    assert jobs.fraction("broken") == 0
    # As a killed command leaves it: one job done, one with a checkpoint, one not begun.
    (tmp_path / "b" / DONE).unlink()
    loaded, options = Jobs.load(tmp_path, extra)
    assert options == {"option": 5}
    assert loaded.configs == jobs.configs
    done = tmp_path / "a" / DONE
    stamp = done.stat().st_mtime_ns
    assert dict(Jobs(tmp_path, {"a": TINY}).run()) == {"a": ended["a"]}
    assert done.stat().st_mtime_ns == stamp, "read, not run"
    require_damage_is_seen(jobs, done)
    again = run_job(TINY.to_json() | {"seed": 1}, str(tmp_path / "b"), extra)
    same = ("rule", "heldout", "before_refit", "extra")
    assert [again[key] for key in same] == [ended["b"][key] for key in same]


def require_damage_is_seen(jobs, done):
    """Check that a changed summary of a job is refused, and one without a seal is read."""
    good = done.read_text()
    edited = json.loads(good)
    edited["heldout"]["discovered"]["mean"] += 0.1
    no_test = {k: v for k, v in edited.items() if k not in ("heldout", SEAL)}
    alone = Jobs(jobs.folder, {"a": TINY})
    for text in ("{}", "[]", "3", json.dumps(edited), json.dumps(no_test)):
        done.write_text(text)
        with pytest.raises(UserError, match=r"damaged .*; delete it to repeat") as caught:
            list(alone.run())
        assert_is_one_sentence(caught.value)
    del edited[SEAL]  # As an earlier version wrote it.
    done.write_text(json.dumps(edited))
    assert dict(alone.run()) == {"a": edited}
    done.write_text(good)


@pytest.mark.slow
def test_a_job_tells_how_much_of_it_is_done(tmp_path):
    jobs = Jobs(tmp_path, {"a": TINY})
    seen = []

    class Look:
        def begin(self, discovery):
            seen.append(jobs.fraction("a"))

        record = tested = lambda self, *_: seen.append(jobs.fraction("a"))

        def finish(self, result):
            pass

    (tmp_path / "a").mkdir()
    Discovery(TINY, observers=[Heartbeat(tmp_path / "a", seconds=0.0), Look()]).run()
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 1)
    assert len(set(seen)) > 5


def test_a_folder_without_jobs_is_refused(tmp_path):
    with pytest.raises(UserError) as caught:
        Jobs.load(tmp_path)
    assert_is_one_sentence(caught.value)
    (tmp_path / "jobs.json").write_text('{"options": {}, "jobs": {"a": {}}}')
    with pytest.raises(UserError) as caught:
        Jobs.load(tmp_path)
    assert_is_one_sentence(caught.value)
    (tmp_path / "jobs.json").write_text('{"options": {}, "jobs": {}}')
    with pytest.raises(UserError, match="it has no jobs") as caught:
        Jobs.load(tmp_path)
    assert_is_one_sentence(caught.value)
    for name in ("../a", "..", ".", ""):
        data = {"options": {}, "jobs": {name: TINY.to_json()}}
        (tmp_path / "jobs.json").write_text(json.dumps(data))
        with pytest.raises(UserError, match=re.escape(repr(name))) as caught:
            Jobs.load(tmp_path)
        assert_is_one_sentence(caught.value)


def test_ray_runs_the_same_jobs(tmp_path):
    ray = pytest.importorskip("ray")
    ended = dict(Jobs(tmp_path, {"a": TINY}).run(ray="local"))
    assert ended["a"]["kept"]
    assert not ray.is_initialized()


def made(l1, seed, kept, losses, accuracy=0.7):
    """Return a run that ended with the terms `kept`, judged on tasks with these losses."""
    test = {"mean": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1, "non_finite": 0}
    pool = ("error_hebbian", "oja", "decay", "gated_error_hebbian")
    summary = {
        "kept": list(kept),
        "rule": dict.fromkeys(kept, 0.5),
        "before_refit": {name: 0.0 if name == "decay" else 0.1 for name in pool},
        "heldout": {"discovered": test, "backprop": {**test, "mean": 0.6}},
        "without": {
            name: {"mean": -0.1, "low": -0.2, "high": high}
            for name, high in zip(kept, (-0.05, 0.05), strict=False)
        },
        "judged": {"loss": losses, "score": [0.0] * len(losses)},
        "seconds": 1.0,
    }
    return Run(f"l1={l1}_seed={seed}", l1, seed, summary, ACCURACY)


ONE, TWO, GATED = ("error_hebbian",), ("error_hebbian", "oja"), ("oja", "gated_error_hebbian")
RUNS = [
    made(0.1, 0, ONE, [1.5, 1.6, 1.7, 1.8]),
    made(0.1, 1, TWO, [1.0, 1.2, 1.1, 1.1]),
    made(0.01, 0, TWO[::-1], [1.0, 1.1, 1.0, 1.1]),
    made(0.01, 1, GATED, [1.02, 1.08, 0.99, 1.10]),
]


def test_the_simplest_rule_as_good_as_the_best_is_recommended():
    found = candidates(RUNS)
    assert [set(each.best.kept) for each in found] == [set(ONE), set(TWO), set(GATED)]
    assert [each.runs for each in found] == [1, 2, 1]
    assert found[1].best is RUNS[2], "the better of the two runs with these terms"
    assert [each.is_equal for each in found] == [False, True, True]
    assert recommend(found) is found[1]
    assert found[2].excess.mean == 0, "the least loss of all"


def test_a_rule_that_diverges_is_never_recommended():
    runs = [made(0.1, 0, ONE, [0.1, None]), made(0.1, 1, TWO, [1.0, 1.0])]
    assert runs[0].loss == math.inf
    found = candidates(runs)
    assert recommend(found).best is runs[1]
    assert recommend(candidates(runs[:1])) is None


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (RUNS[2:3], "and it is the simplest found (run"),
        ([RUNS[0], RUNS[2]], "and no simpler one is as good (run"),
        (RUNS, "the simplest of the 2 rules"),
    ],
)
def test_a_recommendation_says_why(runs, said):
    found = candidates(runs)
    assert said in reason(found, recommend(found))


def test_without_a_recommendation_no_rule_is_promised(tmp_path, capsys):
    # A sweep that is continued may have recommended a rule before.
    (tmp_path / "rule.json").write_text("{}")
    show(make_console(), [made(0.1, 0, ONE, [0.1, None])], tmp_path)
    printed = capsys.readouterr().out
    assert "No rule is recommended" in printed
    assert "rule.json" not in printed
    assert not (tmp_path / "rule.json").exists()


def test_frequencies_are_shares_of_seeds():
    table = frequencies(RUNS)
    assert list(table) == ["error_hebbian", "oja", "decay", "gated_error_hebbian"]
    assert table["error_hebbian"] == {0.01: 0.5, 0.1: 1.0}
    assert table["oja"] == {0.01: 1.0, 0.1: 0.5}
    assert set(table["decay"].values()) == {0.0}


def test_seeds_are_summarised_for_each_penalty():
    runs = [
        made(0.1, 0, ONE, [1.0], accuracy=0.5), made(0.01, 0, TWO, [1.0]),
        made(0.1, 1, TWO, [1.0], accuracy=0.8), made(0.1, 2, TWO, [1.0], accuracy=0.6),
    ]  # fmt: skip
    runs[2].summary["heldout"]["backprop"]["mean"] = 0.75
    runs[2].summary["heldout"]["discovered"]["non_finite"] = 3
    low, high = over_seeds(runs)
    assert (low.l1, low.runs, high.l1, high.runs) == (0.01, 1, 0.1, 3)
    assert high.score == Range(0.6, 0.5, 0.8)
    # Each run is compared with its own baseline.
    assert high.above["backprop"] == Range(pytest.approx(0), pytest.approx(-0.1), 0.8 - 0.75)
    assert high.terms == Range(2, 1, 2)
    # The removal of each rule's second term has a band that includes zero.
    assert (high.missed, high.tested, high.diverged) == (3, 5, 3)


def test_the_table_over_seeds_fits_on_a_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    runs = [*RUNS, made(0.1, 2, TWO, [1.0], accuracy=0.8)]
    for run in runs:
        run.summary["heldout"]["feedback_alignment"] = {"mean": 0.2}
    make_console().print(seeds_table(runs))
    printed = capsys.readouterr().out
    assert printed.count("2 seeds") == printed.count("3 seeds") == 1
    for cell in ("70.0 to 80.0", "10.0 to 20.0", "50.0 to 60.0", "1 to 2", "3/5"):
        assert cell in printed
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_what_was_not_left_out_does_not_count_as_needless(capsys):
    known = made(0.0, 0, TWO, [1.0])
    known.summary["without"] = {}
    console = make_console()
    console.print(seeds_table([known]))
    assert "0/" not in capsys.readouterr().out
    both = over_seeds([replace(known, l1=0.1), made(0.1, 1, TWO, [1.0])])
    assert [(each.missed, each.tested) for each in both] == [(1, 2)]
    (row,) = csv.DictReader(runs_csv([known]).splitlines())
    assert row["terms_missed"] == ""


def test_tables_are_tidy():
    rows = list(csv.DictReader(runs_csv(RUNS).splitlines()))
    assert [(row["l1"], row["seed"]) for row in rows] == [
        ("0.1", "0"), ("0.1", "1"), ("0.01", "0"), ("0.01", "1"),
    ]  # fmt: skip
    assert [row["terms_kept"] for row in rows] == ["1", "2", "2", "2"]
    assert [row["terms_missed"] for row in rows] == ["1"] * 4
    assert {row["accuracy_backprop"] for row in rows} == {"0.6"}
    assert {row["terms_searched"] for row in rows} == {"3"}
    assert float(rows[2]["judged_loss"]) == pytest.approx(1.05)
    terms = list(csv.DictReader(terms_csv(RUNS).splitlines()))
    assert len(terms) == 4 * 4
    kept = [row["term"] for row in terms if row["kept"] == "1" and row["seed"] == "0"]
    assert kept == ["error_hebbian", "error_hebbian", "oja"]


def test_coefficients_per_layer_are_rows_of_their_own():
    run = made(0.1, 0, ONE, [1.0])
    run.summary["before_refit"] = {"error_hebbian": [0.1, 0.2], "oja": [0.0, 0.0]}
    run.summary["rule"] = {"error_hebbian": [0.3, 0.4]}
    rows = [row.split(",") for row in terms_csv([run]).splitlines()]
    assert rows[1:] == [
        ["0.1", "0", "error_hebbian", "1", "0.1", "0.3", "1"],
        ["0.1", "0", "error_hebbian", "2", "0.2", "0.4", "1"],
        ["0.1", "0", "oja", "1", "0.0", "0.0", "0"],
        ["0.1", "0", "oja", "2", "0.0", "0.0", "0"],
    ]
    assert run.searched == 1


@pytest.mark.slow
def test_the_figure_is_a_picture(tmp_path):
    draw(RUNS, tmp_path / "sweep.png")
    data = (tmp_path / "sweep.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) > 20_000
