"""Tables of terms break formulas into lines, not into letters, and leave out what does not fit."""

import pytest
import torch
from rich.console import Console
from support import named

from metaplast.base.tables import SHORTEST, add_broken_column, first_that_fits, new_table
from metaplast.report.rule_tables import rule_terms_table
from metaplast.rules.rule import Rule
from metaplast.terms.coefficients import Coefficients

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


def test_a_short_formula_takes_no_more_room_than_it_needs():
    assert printed(table_of("−Wₗ", 1), 80)[2].index("0") < SHORTEST


def test_a_rule_with_long_coefficients_of_layers_leaves_sources_out():
    terms = named("cross_gated_activity_error", "gated_error_hebbian")
    theta = torch.tensor([[-0.123456, 0.0001234], [-1.23456e-05, 12.3456]], dtype=torch.float64)
    rule = Rule.of(terms, Coefficients([t.name for t in terms], theta), "fixed", {})
    lines = printed(rule_terms_table(rule, 130), 130)
    assert any("cross_gated_activity_error" in line and "(eₗᵀ Wₗ yₗ₋₁)" in line for line in lines)
    assert max(map(len, lines)) <= 130
