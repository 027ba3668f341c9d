"""Tables of terms break formulas into lines, not into letters, and leave out what does not fit."""

import pytest
import torch
from rich.console import Console
from support import named

from metaplast.base.tables import SHORTEST, add_broken_column, first_that_fits, new_table
from metaplast.discovery.result import MOST_SHOWN, clearest, left_out
from metaplast.report.rule_tables import rule_terms_table
from metaplast.rules.rule import Rule
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import choose_terms

FORMULA = "−(yₗᵀ Wₗ eₗ₋₁) yₗ eₗ₋₁ᵀ − (eₗᵀ Wₗ yₗ₋₁) yₗ eₗ₋₁ᵀ"


def printed(table, width):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def table_of(formula, others):
    table = new_table("Terms")
    add_broken_column(table, "formula", [formula])
    for number in range(others):
        table.add_column(str(number), no_wrap=True)
    table.add_row(formula, *["0123456789"] * others)
    return table


@pytest.mark.parametrize(("width", "columns"), [(100, 4), (73, 3), (50, 1), (10, 0)])
def test_the_first_table_that_fits_is_shown(width, columns):
    shown = first_that_fits((table_of(FORMULA, others) for others in (4, 3, 1, 0)), width)
    assert len(shown.columns) == 1 + columns


def test_a_formula_is_broken_into_lines_that_can_be_read():
    lines = printed(table_of(FORMULA, 4), 84)
    body = [line.strip().split("  ")[0] for line in lines[4:] if line.strip()]
    assert "".join(body).replace(" ", "") == FORMULA.replace(" ", "")
    assert len(body) <= 3


def test_a_large_pool_is_shown_in_part_with_all_that_was_refitted():
    pool = choose_terms("products*gates").terms
    names = [term.name for term in pool]
    first, errors = set(names[::50]), {name: float(k) for k, name in enumerate(names)}
    shown = clearest(pool, first, errors)
    assert len(shown) == MOST_SHOWN
    found = [term.name for term in shown]
    assert first <= set(found)
    assert found == [name for name in names if name in found]
    # The others have the largest gradients, whatever their sign.
    rest = MOST_SHOWN - len(first)
    others = [name for name in names if name not in first]
    assert set(found) - first == set(others[-rest:])
    assert clearest(pool, first, {k: -v for k, v in errors.items()}) == shown
    # Without room for others, all that was refitted is shown.
    assert clearest(pool, set(names[:60]), errors) == pool[:60]
    assert clearest(pool[:16], first, {}) == pool[:16]
    assert "280 more" in left_out(280)
    assert left_out(0) is None


def test_a_short_formula_takes_no_more_room_than_it_needs():
    assert printed(table_of("−Wₗ", 1), 80)[2].index("0") < SHORTEST


def test_a_rule_with_long_coefficients_of_layers_leaves_sources_out():
    terms = named("cross_gated_activity_error", "gated_error_hebbian")
    theta = torch.tensor([[-0.123456, 0.0001234], [-1.23456e-05, 12.3456]], dtype=torch.float64)
    rule = Rule.of(terms, Coefficients([t.name for t in terms], theta), "fixed", {})
    lines = printed(rule_terms_table(rule, 130), 130)
    assert any("cross_gated_activity_error" in line and "(eₗᵀ Wₗ yₗ₋₁)" in line for line in lines)
    assert max(map(len, lines)) <= 130
