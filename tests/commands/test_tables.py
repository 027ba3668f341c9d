"""Printed tables fit in 80 columns without cutting a name."""

import pytest
import torch
from rich.console import Console
from support import ACCURACY, named, seeded

from metaplast.commands._timings import table
from metaplast.commands.benchmark import LABELS, POOL, BenchmarkOptions, cases
from metaplast.discovery.config import DiscoveryConfig
from metaplast.online.comparison import Entrant, EntrantResult
from metaplast.online.train import OnlineRun
from metaplast.report.comparison import coefficients_table, score_table
from metaplast.rules.rule import Rule
from metaplast.terms.library import all_terms, choose_terms, known_rules
from metaplast.watch.library_tables import library_tables


@pytest.mark.parametrize("width", [80, 100])
def test_the_benchmarks_table_cuts_no_name(width, capsys):
    options = BenchmarkOptions(dataset="emnist-bymerge")
    rows = [
        {
            **vars(case),
            "seconds_per_episode": 1.2345,
            "peak_mb_per_episode": 3293.1,
            "first_call_seconds": 24.0,
        }
        for case in cases(options)
    ]
    Console(width=width).print(table(rows, LABELS))
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    for name in (*options.wanted, "fused, no drop"):
        assert any(line.strip().startswith(name + " ") for line in lines)
    assert max(map(len, lines)) <= width
    found = [line for line in lines if "10000" in line]
    assert len(found) == 2
    assert all("1.2345" in line and "3293.1" in line for line in found)


def test_the_pool_of_recurrent_networks_is_timed_where_it_is_served():
    assert not any(case.rule == POOL for case in cases(BenchmarkOptions()))
    found = [case for case in cases(BenchmarkOptions(system="recurrent")) if case.rule == POOL]
    assert [case.engine for case in found] == ["batched", "fused"]
    own = DiscoveryConfig.for_system("recurrent", terms="all").choice.terms
    assert {*choose_terms(POOL).terms} == {*own}


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_scores_of_rules_cut_and_break_no_name(width, capsys):
    rule = Rule(named("oja"), ((0.1,),), "fixed")
    score = torch.rand(4, 9, generator=seeded())
    run = OnlineRun(tuple(range(9)), score, score, {}, None, ACCURACY)
    names = ["direct_feedback_alignment", "mine", "feedback_alignment, sign-symmetric"]
    results = [EntrantResult(Entrant(name, rule), run) for name in names]
    console = Console(width=width)
    for each in (score_table(results, width), coefficients_table(results)):
        console.print(each)
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= width
    for name in names:
        assert sum(line.strip().startswith(f"{name}  ") for line in lines) == 2
    assert "".join(lines).count("n = ") == {80: 1, 100: 2, 140: 4}[width]
    assert "n = 8" in "".join(lines)


def test_the_library_says_which_systems_offer_what_a_term_reads(capsys):
    tables = library_tables(all_terms().values(), known_rules().values())
    console = Console(width=200)
    for each in tables:
        console.print(each)
    lines = capsys.readouterr().out.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("Terms that read traces"))
    last = {}
    for line in lines[first : lines.index(next(x for x in lines if x.startswith("Known rules")))]:
        cells = line.strip().split("  ")
        last[cells[0]] = cells[-1].strip()
    assert last["covariance"] == "all"
    assert last["reinforce_delayed"] == last["node_perturbation"] == "choice"
    assert last["rflo"] == "leaky"
    assert last["drive_oja"] == "recurrent"
    assert last["recursive_least_squares"] == "no named system"
    assert "choice" not in last["error_hebbian_delayed"]
