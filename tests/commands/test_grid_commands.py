"""`metaplast sweep` and `metaplast recover` as their user sees them."""

import csv
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from metaplast.batch_jobs import queue
from metaplast.batch_jobs.jobs import Jobs
from metaplast.commands import guard
from metaplast.commands import recover as recover_command
from metaplast.commands import sweep as sweep_command
from metaplast.commands._options import parse
from metaplast.commands.recover import RecoverOptions, make_jobs, supports
from metaplast.commands.sweep import SweepOptions
from metaplast.discovery.config import DiscoveryConfig
from metaplast.rules.rule import Rule

SMALL = [
    "--hidden=5", "--ways=3", "--shots=2", "--queries=2", "--episodes=8", "--meta-batch=2",
    "--refit=4", "--refit-batch=2", "--look=4", "--validation=6", "--test-episodes=4",
    "--engine=fused", "--processes=1",
    "--terms=error_hebbian,oja",
]  # fmt: skip
POOL = DiscoveryConfig(terms="all").choice.terms


@pytest.fixture
def in_process(monkeypatch):
    """Run jobs in a thread of this process; a new one would load torch again, for seconds.

    Those of test_sweep.py and test_kills.py run in processes.
    """
    monkeypatch.setattr(queue, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.slow
def test_a_sweep_leaves_tables_a_figure_and_a_rule(in_process, tmp_path, capsys):
    out = tmp_path / "sweep"
    arguments = ["--l1=0,0.1", "--seeds=1", f"--out={out}", *SMALL]
    assert guard(sweep_command.main, arguments) == 0
    printed = capsys.readouterr().out
    for part in ("Seeds that keep a term", "Rules by complexity", "recommended", "2/2"):
        assert part in printed
    assert [row["l1"] for row in rows(out / "runs.csv")] == ["0.0", "0.1"]
    assert {row["term"] for row in rows(out / "terms.csv")} == {"error_hebbian", "oja"}
    assert str(Rule.load(out / "rule.json")) in printed
    (out / "sweep.png").unlink()
    assert guard(sweep_command.main, [f"--resume={out}"]) == 0
    assert (out / "sweep.png").exists()


@pytest.mark.slow
def test_a_mistake_leaves_no_folder(tmp_path, capsys):
    out = tmp_path / "sweep"
    for wrong in (["--seeds=0"], ["--l1=1,1"], ["--ways=99"], ["--l1=-1"], ["--first-seed=-1"]):
        assert guard(sweep_command.main, [*wrong, f"--out={out}"]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert guard(recover_command.main, ["--rules=0", f"--out={out}"]) == 2
    assert not out.exists()


def test_near_penalties_are_runs_of_their_own():
    options = parse(SweepOptions, ["--l1=0.1234567,0.1234568,3", "--seeds=1"])
    names = ["l1=0.1234567_seed=0", "l1=0.1234568_seed=0", "l1=3_seed=0"]
    assert list(options.configs()) == names


@pytest.mark.slow
def test_runs_that_fail_are_told_in_the_exit_code(in_process, tmp_path, capsys):
    out = tmp_path / "sweep"
    assert guard(sweep_command.main, ["--l1=0", "--seeds=1", f"--out={out}", *SMALL]) == 0
    jobs = out / "jobs.json"
    data = json.loads(jobs.read_text())
    broken = data["jobs"]["l1=0_seed=0"] | {"ways": 99, "seed": 1}
    data["jobs"]["broken"] = broken
    jobs.write_text(json.dumps(data))
    assert guard(sweep_command.main, [f"--resume={out}"]) == 2
    captured = capsys.readouterr()
    assert "recommended" in captured.out
    assert "1 of 2 runs failed, the first being broken;" in captured.err


def test_a_folder_of_the_other_command_is_refused(tmp_path, capsys):
    jobs = Jobs(tmp_path, {"a": DiscoveryConfig(dataset="digits")})
    jobs.save(first_seed=0)
    assert guard(recover_command.main, [f"--resume={tmp_path}"]) == 2
    assert f"continue it with metaplast sweep --resume {tmp_path}." in capsys.readouterr().err
    for options in ({}, {"first_seed": "zero"}):
        jobs.save(**options)
        assert guard(sweep_command.main, [f"--resume={tmp_path}"]) == 2
        assert "is not the folder of a sweep; give --resume" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_recover_says_what_it_recovered(in_process, tmp_path, capsys):
    out = tmp_path / "recover"
    assert guard(recover_command.main, ["--rules=1", f"--out={out}", *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "support exact: " in printed
    assert "of 1" in printed
    table = rows(out / "recovery.csv")
    assert sum(float(row["theta_planted"]) != 0 for row in table) == 1


def test_widths_are_written_with_commas_whatever_the_default():
    # A default of two entries makes tyro write the type in another way.
    for text, widths in {"20,10": (20, 10), "5": (5,), "8,7,6": (8, 7, 6)}.items():
        assert parse(RecoverOptions, ["--hidden", text]).hidden == widths
    assert len(RecoverOptions.hidden) == 2


@pytest.mark.parametrize("seed", range(3))
def test_random_rules_use_every_term_equally(seed):
    chosen = supports(POOL, 20, 4, seed)
    assert Counter(map(len, chosen)) == {1: 5, 2: 5, 3: 5, 4: 5}
    assert all(len(set(names)) == len(names) for names in chosen)
    assert set(Counter(name for names in chosen for name in names).values()) == {5}
    assert len({names for names in chosen if len(names) == 1}) == 5
    assert chosen == supports(POOL, 20, 4, seed) != supports(POOL, 20, 4, seed + 1)


def test_each_rule_has_a_seed_and_its_terms_as_data(tmp_path):
    options = replace(RecoverOptions(), rules=3, most_terms=1, seed=7, dataset="digits")
    jobs = make_jobs(options, tmp_path)
    assert len(jobs.configs) == 3
    for index, (name, config) in enumerate(jobs.configs.items()):
        term = name.partition("_")[2]
        assert config.dataset == f"planted:{term},@digits"
        assert config.seed == 7 + index


@pytest.mark.parametrize(("terms", "entry", "grows"), [
    ("products", None, False), ("products", 80, True), ("all", None, False)
])  # fmt: skip
def test_planted_rules_grow_only_if_the_user_says_so(terms, entry, grows, tmp_path):
    options = replace(RecoverOptions(), rules=1, terms=terms, entry=entry)
    (config,) = make_jobs(options, tmp_path).configs.values()
    assert (config.growth is not None) == grows
