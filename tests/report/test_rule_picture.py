"""A rule as one picture: its equation as outlines, and its score beside the baselines."""

import re
import xml.etree.ElementTree as ET

import pytest

from metaplast import DenseFormula, Rule, Term, W, discover, get_term, post
from metaplast.base.bands import Band
from metaplast.report.page import write_report
from metaplast.report.rule_picture import WIDTH, rule_svg
from metaplast.systems.objective import get_objective

SCORES = {
    "discovered": Band(0.8, 0.7, 0.9), "feedback_alignment": Band(0.2, 0.1, 0.3),
    "backprop": Band(0.4, 0.35, 0.45),
}  # fmt: skip


def picture(terms, theta, feedback="fixed", scores=SCORES, objective="cross-entropy"):
    rule = Rule(tuple(map(get_term, terms)), theta, feedback)
    scale = get_objective(objective).score_scale
    return ET.fromstring(rule_svg(rule, scores, scale, "accuracy on <held-out> tasks"))


def elements(svg, tag):
    return svg.findall(f"{{http://www.w3.org/2000/svg}}{tag}")


def texts(svg):
    return ["".join(each.itertext()) for each in elements(svg, "text")]


def test_every_part_of_the_equation_is_drawn_with_the_name_of_its_term():
    svg = picture(("F0", "F2", "oja"), ((-0.01, 0.02, 3e-5),))
    assert texts(svg)[:3] == ["error_hebbian", "error_error", "oja"]
    formulas = [each for each in elements(svg, "path") if each.get("class") == "f"]
    # Left side; three parts, of which the first has no sign.
    assert len(formulas) == 1 + 3 + 2
    assert "<held-out>" in texts(svg)[-1]


def test_bars_are_as_long_as_the_scores():
    svg = picture(("F0",), ((0.01,),))
    widths = [float(bar.get("width")) for bar in elements(svg, "rect")]
    assert [width / widths[0] for width in widths] == pytest.approx([1, 0.25, 0.5], abs=1e-3)
    assert [bar.get("class") for bar in elements(svg, "rect")] == ["found", "known", "known"]
    assert {"80.0 %", "20.0 %", "40.0 %", "feedback alignment"} <= set(texts(svg))


def ends(svg):
    """Where formulas end, from their outlines."""
    for each in elements(svg, "path"):
        at = re.match(
            r"translate\(([\d.]+) \d+\)(?: scale\(([\d.]+)\))?", each.get("transform", "")
        )
        if at:
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", each.get("d"))]
            yield float(at[1]) + float(at[2] or 1) * max(numbers[::2])


def test_a_formula_wider_than_a_line_is_drawn_smaller():
    assert max(ends(picture(("exploratory_hebbian",), ((-0.0123456,),)))) <= WIDTH
    assert "scale" not in ET.tostring(picture(("F0",), ((0.01,),)), "unicode")


def update(synapses):
    raise NotImplementedError


@pytest.mark.parametrize("latex", [r"\begin{cases}a\\b\end{cases}", "a_b_c", "50% {", r"x $ y"])
def test_latex_that_the_typesetter_cannot_read_is_drawn_as_it_is_written(latex):
    formula = DenseFormula(W, update, frozenset({post.activity}), True, "f(y)", latex)
    rule = Rule((Term("own", formula, "here"),), ((0.5,),), "fixed")
    scale = get_objective("cross-entropy").score_scale
    svg = ET.fromstring(rule_svg(rule, SCORES, scale, "accuracy"))
    assert texts(svg)[0] == "own"
    assert max(ends(svg)) > 60


def test_nothing_is_wider_than_the_picture():
    names = ("F0", "F1", "F2", "F4", "F5", "F6", "F7", "F8", "oja")
    svg = picture(names, ((0.123456,) * len(names),))
    places = [re.match(r"translate\(([\d.]+) (\d+)\)", each.get("transform", ""))
              for each in elements(svg, "path")]  # fmt: skip
    places = [(float(m[1]), int(m[2])) for m in places if m]
    assert len({y for _, y in places}) > 1
    assert max(x for x, _ in places) < WIDTH - 50


@pytest.mark.parametrize("theta", [((0.01, 0.02),), ((0.01, 0.02), (0.03, 0.04))])
def test_backward_weights_and_single_layers_have_a_picture(theta):
    svg = picture(("F0", "backward_hebbian"), theta, "plastic")
    assert texts(svg)[:2] == ["error_hebbian", "backward_hebbian"]


def test_scores_without_a_natural_zero_have_no_bars():
    svg = picture(
        ("F0",), ((0.01,),), scores={"discovered": Band(-0.5, -0.6, -0.4)}, objective="mse"
    )
    assert elements(svg, "rect") == []
    assert any("−0.5" in text for text in texts(svg))


def test_it_says_the_rule_to_those_who_do_not_see_it():
    svg = picture(("F0",), ((0.01,),))
    assert svg.get("aria-label").startswith("ΔWₗ = −0.01 eₗ yₗ₋₁ᵀ")


@pytest.mark.slow
def test_the_report_shows_the_score_at_each_length(tmp_path):
    result = discover(
        terms="F0", hidden=(5,), ways=3, shots=(2, 4), queries=2, episodes=4, meta_batch=2,
        test_episodes=4, refit=0, folder=tmp_path,
    )  # fmt: skip
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert "3 ways, 2 or 4 shots" in text
    for steps, band in result.heldout["discovered"].by_steps.items():
        assert f"<tr><td>{steps}</td>" in text
        assert result.score.text(band.mean) in text
