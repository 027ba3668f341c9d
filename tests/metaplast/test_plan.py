"""The plan of an elimination, and how complex a term is."""

import pytest
import torch
from support import named

from metaplast.discovery.fits import Fit
from metaplast.discovery.plan import ordered, plan
from metaplast.terms.algebra import W, outer, post, pre, scalar
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.complexity import complexity
from metaplast.terms.term import DenseFormula, Term

TERMS = named("gated_activity_error", "oja", "summed_error_hebbian", "error_hebbian", "error_error")
GATED, OJA, SUMMED, HEBBIAN, ERRORS = range(5)
LEAST = 0.002


def fit_of(kept, accuracy, tasks=64):
    theta = Coefficients([TERMS[k].name for k in kept], torch.zeros(len(kept)))
    return Fit(tuple(kept), theta, torch.full((tasks,), accuracy, dtype=torch.float64))


def planned(accuracy, kept=range(5)):
    """Return the plan for rules whose accuracy is known without a refit, and what was seen."""
    seen = []

    def bare(positions):
        seen.append(tuple(positions))
        rest = [k for k in kept if k not in positions]
        return fit_of(rest, accuracy(set(rest)))

    return plan(fit_of(kept, accuracy(set(kept)), 400), TERMS, bare, LEAST), seen


def test_vital_terms_come_last_and_complex_ones_first():
    harm = {GATED: 0.01, OJA: 0.9, SUMMED: 0.2, HEBBIAN: 0.3, ERRORS: 0.5}
    assert ordered(range(5), TERMS, harm, {OJA, HEBBIAN}) == [GATED, SUMMED, ERRORS, OJA, HEBBIAN]
    # Of equally complex terms, the least harmful comes first.
    assert ordered(range(5), TERMS, harm) == [GATED, OJA, SUMMED, HEBBIAN, ERRORS]
    assert ordered(range(5), TERMS, harm | {ERRORS: 0.1})[-2:] == [ERRORS, HEBBIAN]


def test_of_equally_complex_terms_those_that_joined_a_growing_rule_first_come_first():
    harm = dict.fromkeys(range(5), 0.1)
    joined = {SUMMED: 66, ERRORS: 33, OJA: 33}
    # The rule began with the two others, so they come last among equals.
    assert ordered(range(5), TERMS, harm, joined=joined) == [OJA, GATED, SUMMED, ERRORS, HEBBIAN]
    vital = {ERRORS, HEBBIAN, SUMMED}
    assert ordered(range(5), TERMS, harm, vital, joined)[2:] == [SUMMED, ERRORS, HEBBIAN]
    # Harm decides between terms that joined together.
    together = {**joined, HEBBIAN: 33}
    assert ordered([ERRORS, HEBBIAN], TERMS, harm, joined=together) == [ERRORS, HEBBIAN]
    harm[ERRORS] = 0.2
    assert ordered([ERRORS, HEBBIAN], TERMS, harm, joined=together) == [HEBBIAN, ERRORS]


def test_a_small_coefficient_is_no_reason_to_leave_a_vital_term_out():
    found, _ = planned(lambda kept: 0.8 - 0.6 * (OJA not in kept) - 0.1 * (HEBBIAN not in kept))
    assert found.vital == {OJA, HEBBIAN}
    assert set(found.together) == {GATED, SUMMED, ERRORS}
    assert found.order == (GATED, SUMMED, ERRORS, OJA, HEBBIAN)


def test_of_two_terms_that_replace_each_other_only_the_complex_one_joins():
    found, seen = planned(lambda kept: 0.8 - 0.5 * (not kept & {SUMMED, HEBBIAN}))
    assert set(found.together) == {GATED, OJA, SUMMED, ERRORS}
    assert found.vital == set()
    # Each term by itself, then each with those that joined before; no set is measured twice.
    assert len(seen) == 5 + 4
    assert len(set(seen)) == len(seen)


def test_losses_that_add_up_keep_a_term_out():
    # Each by itself costs less than ten times the least effect; two together cost more.
    found, _ = planned(lambda kept: 0.5 + 0.012 * len(kept))
    assert found.together == (GATED,)
    assert not found.vital


def test_terms_join_from_the_most_complex_on_and_of_equal_ones_the_least_harmful_first():
    worth = {GATED: 0.006, OJA: 0.002, SUMMED: 0.004, HEBBIAN: 0.3, ERRORS: 0.001}
    found, _ = planned(lambda kept: 0.2 + sum(worth[k] for k in kept))
    assert found.together == (OJA, GATED, SUMMED, ERRORS)


def test_a_rule_of_one_term_needs_no_look():
    found, seen = planned(lambda kept: 0.5, [HEBBIAN])
    assert (found.order, found.together, seen) == ((HEBBIAN,), (), [])


def test_the_last_term_does_not_leave_with_the_others():
    found, _ = planned(lambda kept: 0.5)
    assert set(found.together) == set(range(5)) - {ERRORS}


@pytest.mark.parametrize(
    ("name", "parts"),
    [("error_hebbian", 1), ("decay", 1), ("summed_error_hebbian", 2), ("oja", 3),
     ("gated_error_hebbian", 3)],
)  # fmt: skip
def test_complexity_counts_monomials_gates_and_projections(name, parts):
    assert complexity(named(name)[0]) == parts


def test_a_scalar_is_as_complex_as_a_gate():
    formula = scalar("reward") * outer(post.activity, pre.activity)
    assert complexity(Term("rewarded", formula, citation="none")) == 2


def test_a_dense_term_is_the_most_complex():
    dense = DenseFormula(W, lambda s: s.operator.tensor, frozenset(), True, "f(W)", "f(W)")
    term = Term("dense_one", dense, citation="none")
    assert complexity(term) > complexity(Term("two", outer(post.one, pre.one), citation="none"))
