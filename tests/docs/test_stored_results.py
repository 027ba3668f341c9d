"""The stored results: README and docs count their claims, and their rules can be read."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from metaplast.rules.rule import Rule

ROOT = Path(__file__).parents[2]
STORED = sorted((ROOT / "docs/results").glob("*.json"))
NUMBERS = re.compile(
    r"(\d+) experiments, (\d+) of them with 20 seeds, give a verdict on each of (\d+) claims: "
    r"(\d+) hold, (\d+) do not hold, and (\d+) are not decided"
)
OURS = {
    "README.md": r"(\d+) of the claims are not stated",
    "docs/findings.md": r"(\d+) are our own",
}


@pytest.mark.parametrize("page", OURS)
def test_a_page_counts_the_stored_results(page):
    stored = [json.loads(path.read_text("utf-8")) for path in STORED]
    verdicts = [verdict for result in stored for verdict in result["verdicts"]]
    found = Counter(verdict["outcome"] for verdict in verdicts)
    text = " ".join((ROOT / page).read_text("utf-8").split())
    stated = NUMBERS.search(text)
    assert stated is not None
    assert [int(number) for number in stated.groups()] == [
        len(stored), sum(result["seeds"] == 20 for result in stored), len(verdicts),
        found["holds"], found["does not hold"], found["not decided"],
    ]  # fmt: skip
    ours = re.search(OURS[page], text)
    assert ours is not None
    assert int(ours[1]) == sum("ours" in verdict["source"] for verdict in verdicts)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_this_version_reads_the_rules_of_a_stored_result(path):
    prepared = json.loads(path.read_text("utf-8")).get("prepared") or {}
    rules = {name: each["rule"] for name, each in prepared.items() if "rule" in each}
    for data in rules.values():
        if isinstance(data, dict):
            assert Rule.from_json(data).terms
    # Nothing is asserted of most results, which have no rule; of these there must be some.
    assert rules or path.stem not in ("products", "lasting", "beyond")
