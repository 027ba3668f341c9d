"""Selection, errors and certainty: against brute force, on planted rules and without plasticity."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from recorded import planted, problem_of

from metaplast.recordings.certainty import certainties, kept_shares
from metaplast.recordings.fit import fit, solved
from metaplast.recordings.losses import LOSSES
from metaplast.recordings.monomial import monomial, taylor
from metaplast.recordings.pieces import Parameters
from metaplast.recordings.quadratic import Quadratic
from metaplast.recordings.score import errors, quadratic_of, score_test
from metaplast.recordings.selection import select, threshold

POOL = taylor()


@pytest.fixture(scope="module")
def oja():
    """The selection on 4 neurons in 10 trials of 40 steps, made by Oja's rule."""
    made = planted("xy=1,y2W=-1", trials=10, steps=40, inputs=12, noise=0.02)
    return select(problem_of(made.arrays), POOL)


def random_quadratic(parameters=6, seed=0, always=()):
    draw = np.random.default_rng(seed)
    columns = draw.normal(size=(40, parameters)) * draw.uniform(0.1, 10, size=parameters)
    target = columns @ draw.normal(size=parameters) + draw.normal(size=40)
    made = Quadratic(columns.T @ columns, columns.T @ target, 2.0, always)
    return made, columns, target


def residual(columns, target):
    found, *_ = np.linalg.lstsq(columns, target, rcond=None)
    return float(((target - columns @ found) ** 2).sum())


def test_the_quadratic_is_least_squares():
    made, columns, target = random_quadratic(always=(5,))
    found, *_ = np.linalg.lstsq(columns[:, [1, 3, 5]], target, rcond=None)
    assert made.fitted([1, 3]) == pytest.approx(found[:2])
    saved = (float(target @ target) - residual(columns[:, [1, 3, 5]], target)) / 2.0
    assert made.saved([1, 3]) == pytest.approx(saved)
    gain = residual(columns[:, [1, 3, 5]], target) - residual(columns[:, [0, 1, 3, 5]], target)
    assert made.gains([1, 3], [0, 2])[0] == pytest.approx(gain / 2.0)
    inverse = np.linalg.inv(columns[:, [1, 3, 5]].T @ columns[:, [1, 3, 5]])
    assert made.squared_t([1, 3]) == pytest.approx(found[:2] ** 2 / (2.0 * np.diag(inverse)[:2]))


def test_certainty_is_the_smallest_t_beside_any_one_or_two_others():
    made, _, _ = random_quadratic(parameters=7)
    kept, absent = [2, 4], [0, 1, 3, 5, 6]
    found = certainties(made, kept, 7, 3.0, [1.0, 1.0])
    for place, term in enumerate(kept):
        t = {
            extra: np.sqrt(made.squared_t([*kept, *extra])[place])
            for count in (0, 1, 2)
            for extra in combinations(absent, count)
        }
        assert found[place].least == pytest.approx(min(t.values()), rel=1e-6), term
        alone = {extra[0] for extra in t if len(extra) == 1 and t[extra] < 3.0}
        assert set(found[place].alone) == alone
        pairs = {e for e in t if len(e) == 2 and t[e] < 3.0 and not set(e) & alone}
        assert set(found[place].together) == pairs


def test_a_term_that_another_spans_is_never_certain():
    draw = np.random.default_rng(0)
    columns = draw.normal(size=(50, 3))
    columns = np.c_[columns, columns[:, 0] * (1 + 1e-7 * draw.normal(size=50))]
    target = 10 * columns[:, 0] + 0.1 * draw.normal(size=50)
    made = Quadratic(columns.T @ columns, columns.T @ target, 0.01)
    (found,) = certainties(made, [0], 4, 3.0, [1.0])
    assert found.alone == (3,)
    (other,) = certainties(replace(made, information=made.information[:3, :3],
                                   gradient=made.gradient[:3]), [0], 3, 3.0, [1.0])  # fmt: skip
    assert other.is_certain


def test_a_planted_rule_is_selected(oja):
    assert set(oja.fit.terms) == {monomial("xy"), monomial("y2w")}
    spread = errors(oja.fit, LOSSES["gaussian"])
    truth = [{"xy": 1.0, "y2w": -1.0}[term.name] for term in oja.fit.terms]
    assert (np.abs(oja.fit.theta - truth) < spread.quantile * spread.value).all()
    assert oja.steps[0].p < 0.02


def test_the_draws_of_clusters_keep_the_planted_terms(oja):
    theta = np.zeros(len(POOL))
    theta[oja.kept] = oja.fit.theta
    shares = kept_shares(oja.moments, oja.quadratic, theta, len(POOL), oja.threshold)
    assert (shares[oja.kept] > 0.5).all()
    assert (np.delete(shares, oja.kept) < 0.5).all()


@pytest.mark.parametrize("seed", range(3))
def test_without_plasticity_nothing_is_selected(seed):
    made = planted("xy=0", trials=6, steps=10, noise=0.1, seed=seed)
    found = select(problem_of(made.arrays), POOL)
    assert found.fit.terms == ()
    assert found.steps == ()
    assert found.test.p.min() > 0.02


def test_scores_of_absent_terms_are_standard_normal():
    """At the true rule, over plants; the tails decide how often a wrong term enters."""
    terms = (monomial("xy"),)
    z = []
    for seed in range(25):
        made = planted("xy=1", trials=5, steps=10, noise=0.1, seed=seed)
        problem = problem_of(made.arrays)
        found = fit(problem, terms)
        theta = np.zeros(len(POOL))
        kept = [POOL.index(terms[0])]
        theta[kept] = found.theta
        moments = problem.moments(POOL, replace(found.parameters, theta=theta))
        test = score_test(moments, kept, quadratic_of(moments, theta, problem.loss), len(POOL))
        z.append(np.delete(test.z, kept))
    values = np.concatenate(z)
    assert abs(values.mean()) < 0.25
    assert 0.8 < values.std() < 1.2
    assert (np.abs(values) > 2.576).mean() < 0.03


def test_the_probability_counts_all_candidates():
    """The p of a candidate rises with the candidates beside it; its z does not change."""
    made = planted("xy=0", trials=4, steps=10, noise=0.1)
    problem = problem_of(made.arrays)
    moments = problem.moments(POOL, Parameters(np.zeros(27)))
    quadratic = quadratic_of(moments, np.zeros(27), problem.loss)
    few = score_test(moments, [], quadratic, 1)
    many = score_test(moments, [], quadratic, 27)
    assert many.z[0] == pytest.approx(few.z[0])
    assert many.p[0] >= few.p[0]
    middle = np.argsort(np.abs(many.z))[13]
    # By itself, a candidate of middling z would have a p of about a half.
    assert many.p[middle] > 0.9


def test_errors_by_model_are_those_of_least_squares():
    made = planted("xy=1,y2W=-1", trials=10, steps=20, noise=0.05)
    problem = problem_of(made.arrays)
    found = fit(problem, (monomial("xy"), monomial("y2w")))
    spread = errors(found, problem.loss)
    information = found.moments.information.sum(0)
    noise = found.moments.total / (found.moments.count.sum() - 2)
    expected = np.sqrt(np.diag(np.linalg.inv(information)) * noise)
    assert spread.by_model == pytest.approx(expected)
    assert (spread.value >= spread.by_model).all()
    # With independent noise, both errors agree.
    assert (spread.by_clusters / spread.by_model) == pytest.approx([1, 1], abs=0.5)


def test_a_threshold_grows_with_the_candidates():
    assert threshold(81, 100) > threshold(27, 100) > threshold(1, 100) > 2.3
    assert threshold(27, 5) > threshold(27, 100)


def test_solving_leaves_out_empty_directions():
    information = np.diag([4.0, 0.0, 1e-8])
    assert solved(information, np.array([2.0, 0.0, 1e-8])) == pytest.approx([0.5, 0.0, 1.0])
    assert solved(np.zeros((0, 0)), np.zeros(0)).shape == (0,)
