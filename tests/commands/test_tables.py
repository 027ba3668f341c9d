"""Printed tables fit in 80 columns without cutting a name."""

import pytest
from rich.console import Console

from metaplast.commands._timings import table
from metaplast.commands.benchmark import ALL, PUBLISHED, BenchmarkOptions, cases


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
    Console(width=width).print(table(rows, {PUBLISHED: PUBLISHED, ALL: "all ten"}))
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    for name in (*options.wanted, "fused, no drop"):
        assert any(line.strip().startswith(name + " ") for line in lines)
    assert max(map(len, lines)) <= width
    found = [line for line in lines if "10000" in line]
    assert len(found) == 2
    assert all("1.2345" in line and "3293.1" in line for line in found)
