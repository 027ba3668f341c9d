"""Elimination on made-up rules whose accuracy is known for every set of terms."""

import itertools
from dataclasses import replace

import pytest
import torch
from support import named

from metaplast.discovery.elimination import eliminate
from metaplast.discovery.fits import Fit, is_hopeless
from metaplast.discovery.plan import Plan, plan
from metaplast.discovery.result import unsupported
from metaplast.discovery.selection import select
from metaplast.terms.coefficients import Coefficients

TERMS = named("gated_activity_error", "oja", "summed_error_hebbian", "error_hebbian", "error_error")
GATED, OJA, SUMMED, HEBBIAN, ERRORS = range(5)
EPISODES = 400
LEAST = 0.002


def theta_of(kept, value=0.0):
    """Return θ of the terms at some positions, all alike."""
    return Coefficients([TERMS[k].name for k in kept], torch.full((len(kept),), value))


def fitter(accuracy):
    """Return fits with `accuracy` mapping a set of positions to a mean; noise shared by tasks."""
    noise = 0.1 * torch.randn(EPISODES, generator=torch.Generator().manual_seed(0))
    tried = []

    def fit(kept):
        tried.append(tuple(kept))
        own = 0.02 * torch.randn(EPISODES, generator=torch.Generator().manual_seed(len(tried)))
        return Fit(tuple(kept), theta_of(kept), accuracy(set(kept)) + noise + own)

    return fit


def selected(accuracy, start=range(5), bare=None):
    """Eliminate from all terms; return the final fit, those missed, and what was tried.

    `bare` is the accuracy without a refit; a refit makes up for nothing if it is None.
    """
    first, tried = fitter(accuracy)(start), []
    seen, fit = fitter(bare or accuracy), fitter(accuracy)

    def refit(current, positions, best):
        tried.append((current.kept, positions))
        return fit([k for k in current.kept if k not in positions])

    def without(positions):
        found = seen([k for k in start if k not in positions])
        return Fit(found.kept, found.theta, found.score[:64])

    final, missed = eliminate(first, plan(first, TERMS, without, LEAST), refit, least=LEAST)
    return final, missed, tried


def test_terms_without_use_go_and_useful_ones_stay():
    useful = {OJA, HEBBIAN, ERRORS}
    final, missed, _ = selected(lambda kept: 0.2 + 0.2 * len(kept & useful))
    assert set(final.kept) == useful
    assert set(missed) == useful


def test_of_two_terms_that_replace_each_other_the_simpler_stays():
    final, _, _ = selected(lambda kept: 0.8 if kept & {SUMMED, HEBBIAN} else 0.2)
    assert final.kept == (HEBBIAN,)


def needs(*useful):
    """Return an accuracy to which each of some terms adds 0.2."""
    return lambda kept: 0.2 + 0.2 * len(kept & set(useful))


def test_terms_that_a_look_finds_harmless_leave_together():
    final, missed, tried = selected(needs(OJA, HEBBIAN, ERRORS))
    assert [positions for _, positions in tried] == [[GATED, SUMMED], [OJA], [ERRORS], [HEBBIAN]]
    assert set(final.kept) == set(missed) == {OJA, HEBBIAN, ERRORS}


def test_of_terms_that_are_missed_together_those_that_joined_last_stay():
    # Without a refit, four terms hardly matter; after it, two of them are missed.
    worth = {GATED: 0.006, OJA: 0.004, SUMMED: 0.0, HEBBIAN: -0.01, ERRORS: 0.5}
    final, missed, tried = selected(
        needs(SUMMED, HEBBIAN, ERRORS),
        bare=lambda kept: 0.3 + sum(worth[k] for k in kept),
    )
    groups = [positions for _, positions in tried if len(positions) > 1]
    assert groups == [[GATED, OJA, SUMMED, HEBBIAN], [GATED, OJA, SUMMED], [GATED, OJA]]
    assert set(final.kept) == set(missed) == {SUMMED, HEBBIAN, ERRORS}


def test_a_refit_has_the_last_word_about_a_term_that_seemed_vital():
    useful = needs(HEBBIAN)
    final, _, tried = selected(useful, bare=lambda kept: useful(kept) - 0.2 * (OJA not in kept))
    assert final.kept == (HEBBIAN,)
    assert [positions for _, positions in tried] == [[GATED, SUMMED, ERRORS], [OJA]]


def test_a_vital_term_waits_until_no_other_one_can_be_dropped():
    # Oja is missed a little, until the gated term has gone.
    def accuracy(kept):
        return 0.5 + 0.2 * (HEBBIAN in kept) - 0.01 * (GATED in kept and OJA not in kept)

    fit, tried = fitter(accuracy), []

    def refit(current, positions, best):
        tried.extend(positions)
        return fit([k for k in current.kept if k not in positions])

    three = (HEBBIAN, OJA, GATED)
    final, _ = eliminate(fit(three), Plan(three), refit, least=LEAST)
    assert final.kept == (HEBBIAN,)
    # It would be the Hebbian term's turn, but it was missed by too much.
    assert tried == [HEBBIAN, OJA, GATED, OJA]


@pytest.mark.parametrize(
    ("worse", "spread", "least", "hopeless"),
    [
        (0.3, 0.1, 0.002, True),
        (0.03, 0.001, 0.002, True),
        (0.015, 0.001, 0.002, False),  # Below ten times the least effect.
        (0.03, 0.1, 0.002, False),  # Below five standard errors: they are 0.0125.
        (-0.3, 0.1, 0.002, False),
        (0.3, 0.0, 0.002, True),
        (0.0, 0.0, 0.0, False),
    ],
)
def test_a_rule_is_hopeless_if_its_first_tasks_are_far_worse(worse, spread, least, hopeless):
    best = torch.rand(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sides = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(32)
    assert is_hopeless(best[:64] - worse + spread * sides, best, least) == hopeless


def test_fits_on_fewer_tasks_are_compared_on_the_tasks_that_both_share():
    few, many = (Fit((0,), theta_of([0]), torch.tensor(score)) for score in (
        [0.1, 0.2], [0.5, 0.6, 0.0, 0.0],
    ))  # fmt: skip
    assert few.difference(many).mean == pytest.approx(-0.4)
    assert many.difference(few).mean == pytest.approx(0.4)
    assert few.is_worse_than(many, 0.3)


def test_a_fit_measured_on_few_easy_tasks_is_not_the_best():
    easy_first = torch.cat([torch.full((64,), 0.9), torch.full((336,), 0.5)])
    whole = Fit((GATED, OJA), theta_of((GATED, OJA)), easy_first)
    few = Fit((OJA, HEBBIAN), theta_of((OJA, HEBBIAN)), easy_first[:64] - 0.1)
    compared = []

    def refit(current, positions, best):
        compared.append(best)
        kept = tuple(k for k in current.kept if k not in positions)
        return Fit(kept, theta_of(kept), easy_first - 0.2)

    eliminate(few, Plan((GATED, OJA)), refit, whole)
    assert compared
    assert all(best is whole for best in compared)
    # A longer score can be compared with a shorter one.
    assert is_hopeless(easy_first - 0.3, few.score, 0.002)


def test_each_kept_term_was_tried_against_the_final_rule():
    # Oja is missed only at first: once the gated term is gone, it has no use any more.
    def accuracy(kept):
        needed = 0.2 * len(kept & {HEBBIAN, ERRORS})
        return 0.5 + needed - 0.2 * (GATED in kept and OJA not in kept)

    # Without refits, no term shows that it is vital, so terms are tried one by one.
    final, missed, _ = selected(accuracy, bare=lambda kept: 0.5 + 0.002 * len(kept))
    assert final.kept == (HEBBIAN, ERRORS)
    assert {p: fit.kept for p, fit in missed.items()} == {HEBBIAN: (ERRORS,), ERRORS: (HEBBIAN,)}


def test_small_losses_do_not_add_up():
    # Each term by itself is worth too little to be missed, but all of them together are missed.
    worth = 0.0012
    final, _, _ = selected(lambda kept: 0.5 + worth * len(kept))
    lost = worth * (5 - len(final.kept))
    assert lost <= 3 * worth
    assert len(final.kept) > 1


def test_the_last_term_is_not_tried():
    final, missed, tried = selected(lambda _: 0.5, start=[HEBBIAN])
    assert (final.kept, missed, tried) == ((HEBBIAN,), {}, [])


class Made:
    """Refits that a function makes up, from the current fit and the terms to keep."""

    def __init__(self, fit, fresh=lambda current, turn: current):
        self.fit, self.fresh = fit, fresh

    def without(self, current, positions, best):
        return self.fit(current, tuple(i for i in current.kept if i not in positions))

    def bare(self, current, positions):
        return self.without(current, positions, current)

    def put_back(self, current, k, instead=None):
        return self.fit(current, tuple(sorted([*current.kept, k])))

    def again(self, current):
        return self.fit(current, current.kept)

    longer = again

    def rival(self, without, k):
        return None

    def worth_trying(self, current):
        return [k for k in range(len(TERMS)) if k not in current.kept], {}


def chosen(fit, start, fresh=lambda current, turn: current, least=0.0):
    """Select among rules whose fits are known for every set of terms."""
    return select(fit(start), TERMS, Made(lambda current, kept: fit(kept), fresh), least)


def test_a_term_whose_coefficient_the_last_refit_brings_to_zero_is_dropped():
    fit = fitter(lambda kept: 0.2 + 0.2 * len(kept & {HEBBIAN, ERRORS, OJA}))
    put_back = []

    class Last(Made):
        def put_back(self, current, k, instead=None):
            put_back.append((k, current.kept))
            return super().put_back(current, k)

        def again(self, current):
            return Fit((HEBBIAN, ERRORS), theta_of((HEBBIAN, ERRORS)), fit(current.kept).score)

    refits = Last(lambda current, kept: fit(kept))
    selection = select(fit((HEBBIAN, ERRORS, OJA)), TERMS, refits)
    assert selection.fit.kept == (HEBBIAN, ERRORS)
    assert set(selection.missed) == {HEBBIAN, ERRORS}
    assert set(selection.spare) == set(range(len(TERMS))) - {HEBBIAN, ERRORS}
    # No term is put back into a rule that has it.
    assert all(k not in kept for k, kept in put_back)
    assert (OJA, (HEBBIAN, ERRORS)) in put_back


def test_a_term_that_was_lost_too_early_is_put_back():
    # The search had set oja to zero, so elimination never tried it.
    worth = {OJA: 0.2, HEBBIAN: 0.3, ERRORS: 0.1}
    fit = fitter(lambda kept: 0.2 + sum(worth.get(k, 0) for k in kept))
    selection = chosen(fit, (GATED, HEBBIAN, ERRORS))
    assert set(selection.fit.kept) == set(worth)
    assert set(selection.missed) == set(worth)
    assert set(selection.spare) == {GATED, SUMMED}
    for position, fit in selection.spare.items():
        assert set(fit.kept) == {*worth, position}


@pytest.mark.parametrize("joined", [{ERRORS: 33, HEBBIAN: 66}, {ERRORS: 66, HEBBIAN: 33}])
def test_of_equally_complex_terms_the_first_that_joined_is_tried_first(joined):
    fit, tried = fitter(lambda kept: 0.8 if kept & {HEBBIAN, ERRORS} else 0.2), []

    class Watched(Made):
        def without(self, current, positions, best):
            tried.extend(positions)
            return super().without(current, positions, best)

    refits = Watched(lambda current, kept: fit(kept))
    selection = select(fit((HEBBIAN, ERRORS)), TERMS, refits, LEAST, joined=joined)
    first = min(joined, key=joined.get)
    assert first in tried
    assert set(selection.fit.kept) == {HEBBIAN, ERRORS} - {first}


@pytest.mark.parametrize("start", [(GATED, HEBBIAN), (HEBBIAN,)], ids=["dropped", "put back"])
@pytest.mark.parametrize(("worth", "kept"), [(0.0019, False), (0.0021, True)])
def test_a_certain_effect_below_the_least_one_is_none(worth, kept, start):
    def fit(terms):  # All tasks are alike, so that every difference is certain.
        mean = 0.5 + 0.4 * (HEBBIAN in terms) + worth * (GATED in terms)
        accuracy = torch.full((EPISODES,), mean, dtype=torch.float64)
        return Fit(tuple(terms), theta_of(terms), accuracy)

    assert (GATED in chosen(fit, start, least=0.002).fit.kept) == kept
    assert GATED in chosen(fit, start).fit.kept


def test_a_term_is_not_put_back_because_its_trial_was_trained_longer():
    # Accuracy rises with every refit, whatever the terms; θ counts the refits.
    def trained(current, kept):
        refits = float(current.theta.tensor[0]) + 1
        return Fit(kept, theta_of(kept, refits), torch.full((EPISODES,), 0.1 * refits))

    start = Fit((HEBBIAN,), theta_of((HEBBIAN,)), torch.zeros(EPISODES))
    selection = select(start, TERMS, Made(trained))
    assert selection.fit.kept == (HEBBIAN,)
    assert {fit.difference(selection.fit).mean for fit in selection.spare.values()} == {0}


def test_a_term_that_only_a_lucky_fit_needed_goes():
    # One fit of all terms happened to be good; once it is refitted, the gated term is not missed.
    selection = chosen(first_better_by(0.019), (GATED, HEBBIAN), least=LEAST)
    assert selection.fit.kept == (HEBBIAN,)


def test_a_refit_that_goes_astray_does_not_cost_a_rule_its_terms():
    """It falls by more than ten times the least effect: where learning is chaotic, refits may."""
    selection = chosen(first_better_by(0.021), (GATED, HEBBIAN), least=LEAST)
    assert selection.fit.kept == (GATED, HEBBIAN)
    assert float(selection.fit.score.mean()) == pytest.approx(0.621)
    assert set(selection.missed) == {GATED, HEBBIAN}
    # It is compared with the rule before that refit, not with the refit.
    assert all(fit.gain_over(selection.fit) < -0.02 for fit in selection.spare.values())


def first_better_by(gain):
    """Return fits of which the first is better than later ones of the same or other terms."""
    calls = []

    def fit(kept):
        calls.append(kept)
        mean = 0.2 + 0.4 * (HEBBIAN in kept) + (gain if len(calls) == 1 else 0.0)
        return Fit(tuple(kept), theta_of(kept), torch.full((EPISODES,), mean))

    return fit


@pytest.mark.parametrize(("later", "kept"), [(0.5, (GATED, HEBBIAN)), (0.599, (HEBBIAN,))])
def test_a_term_that_the_smaller_rule_turns_out_to_need_comes_back(later, kept):
    # The best fit was lucky. Then the gated term is not missed, until the rule without it learns.
    calls = []

    def fit(terms):
        calls.append(tuple(terms))
        mean = 0.2 + 0.4 * (HEBBIAN in terms)
        if tuple(terms) == (HEBBIAN,):
            mean = 0.599 if calls.count((HEBBIAN,)) == 1 else later
        if len(calls) == 1:
            mean = 0.619
        return Fit(tuple(terms), theta_of(terms), torch.full((EPISODES,), mean))

    selection = chosen(fit, (GATED, HEBBIAN), least=0.002)
    assert selection.fit.kept == kept
    assert set(selection.missed) == (set(kept) if len(kept) > 1 else set())
    assert set(selection.spare) == set(range(len(TERMS))) - set(kept)


@pytest.mark.parametrize("lucky", [True, False])
def test_a_term_put_back_must_be_better_on_other_tasks_too(lucky):
    def fit(kept, tasks="validation"):
        gain = 0.1 * (GATED in kept) * (tasks == "validation" or not lucky)
        accuracy = torch.full((EPISODES,), 0.2 + 0.4 * (HEBBIAN in kept) + gain)
        return Fit(tuple(kept), theta_of(kept), accuracy)

    selection = chosen(fit, (HEBBIAN,), fresh=lambda current, turn: fit(current.kept, "others"))
    assert (GATED in selection.fit.kept) != lucky


def test_a_term_that_helps_only_on_fresh_tasks_is_not_put_back():
    """Those tasks confirm what validation tasks have shown; they do not choose."""

    def fit(kept, fresh=False):
        accuracy = torch.full((EPISODES,), 0.2 + 0.4 * (HEBBIAN in kept))
        return Fit(tuple(kept), theta_of(kept), accuracy + 0.1 * (GATED in kept and fresh))

    asked = []

    def measured(current, turn):
        asked.append(current.kept)
        return fit(current.kept, fresh=True)

    assert chosen(fit, (HEBBIAN,), fresh=measured).fit.kept == (HEBBIAN,)
    assert asked == []


class Rivals(Made):
    """Refits of two terms that hide each other; they record which fits were asked for a rival."""

    def __init__(self, fit, **options):
        super().__init__(fit, **options)
        self.asked, self.swaps = [], []

    def rival(self, without, k):
        self.asked.append((k, without.kept))
        return GATED if k == OJA else None

    def put_back(self, current, k, instead=None):
        self.swaps += [] if instead is None else [(instead, k, current.kept)]
        return super().put_back(current, k, instead)


def of_rivals(gain=0.1, refits=0.0, lucky=False):
    """Return refits in which the gated term is better than oja by `gain`, but not beside it.

    Each refit adds `refits` to the accuracy. A lucky gain is one on validation tasks only.
    """

    def fit(current, kept, fresh=False):
        trained = float(current.theta.tensor.max()) + (not fresh)
        worth = 0.2 if OJA in kept else (0.2 + gain * (not (lucky and fresh))) * (GATED in kept)
        mean = 0.1 + 0.4 * (HEBBIAN in kept) + worth + refits * trained
        return Fit(tuple(kept), theta_of(kept, trained), torch.full((EPISODES,), mean))

    return Rivals(fit, fresh=lambda current, turn: fit(current, current.kept, fresh=True))


def started():
    """Return a rule of the Hebbian term and oja, refitted once."""
    kept = (OJA, HEBBIAN)
    return Fit(kept, theta_of(kept, 1.0), torch.full((EPISODES,), 0.7))


def test_a_term_takes_the_place_of_one_that_hid_it():
    refits = of_rivals()
    selection = select(started(), TERMS, refits, LEAST)
    assert refits.swaps[0] == (OJA, GATED, (HEBBIAN,))
    assert selection.fit.kept == (GATED, HEBBIAN)
    assert set(selection.missed) == {GATED, HEBBIAN}
    # The report's neighbours have one term more, not another one.
    assert all(len(fit.kept) == 3 for fit in selection.spare.values())


@pytest.mark.parametrize(
    "settings",
    [{"gain": -0.01}, {"gain": 0.001}, {"gain": 0.0, "refits": 0.01}, {"lucky": True}],
    ids=["worse", "below the least effect", "only trained longer", "only on validation tasks"],
)
def test_a_term_that_is_no_better_takes_no_place(settings):
    refits = of_rivals(**settings)
    selection = select(started(), TERMS, refits, LEAST)
    assert refits.swaps
    assert selection.fit.kept == (OJA, HEBBIAN)


def test_the_rule_is_refitted_once_more_only_for_a_term_that_may_win():
    called = []
    for gain in (-0.01, 0.1):
        refits = of_rivals(gain)
        refits.longer = lambda fit: called.append(fit.kept) or fit
        select(started(), TERMS, refits, LEAST)
    assert called == [(OJA, HEBBIAN)]


def test_no_term_takes_the_place_of_one_without_which_the_rule_is_hopeless():
    refits = of_rivals()
    without = refits.without

    def measured(current, positions, best):
        found = without(current, positions, best)
        return replace(found, score=found.score[:64]) if OJA in positions else found

    refits.without = measured
    selection = select(started(), TERMS, refits, LEAST)
    assert selection.fit.kept == (OJA, HEBBIAN)
    assert refits.asked == [(HEBBIAN, (OJA,))]


@pytest.mark.parametrize(
    ("theta", "kept"),
    [
        ([0.1, 0.0, 0.2], (2, 7)),
        ([[0.1, 0.0, 0.0], [0.0, 0.0, 0.3]], (2, 7)),
        ([0.0, 0.0, 0.0], (2, 5, 7)),
    ],
)
def test_a_term_without_coefficient_is_no_part_of_a_fit(theta, kept):
    fit = Fit((2, 5, 7), Coefficients(("a", "b", "c"), torch.tensor(theta)), torch.rand(4))
    trimmed = fit.trimmed()
    assert trimmed.kept == kept
    assert len(trimmed.theta.names) == trimmed.theta.tensor.shape[-1] == len(kept)
    assert trimmed.theta.tensor.sum() == fit.theta.tensor.sum()
    assert trimmed.score is fit.score


def test_a_term_that_a_refit_leaves_at_zero_is_not_tried_again():
    def without(current, positions, best):
        kept = tuple(k for k in current.kept if k not in (*positions, OJA))
        return Fit(kept, theta_of(kept, 1.0), torch.full((EPISODES,), 0.5 * (HEBBIAN in kept)))

    three = (GATED, OJA, HEBBIAN)
    start = Fit(three, theta_of(three, 1.0), torch.full((EPISODES,), 0.5))
    final, missed = eliminate(start, Plan(three), without)
    assert final.kept == (HEBBIAN,)
    assert missed == {}


def test_terms_without_use_are_not_put_back():
    selection = chosen(fitter(lambda kept: 0.2 + 0.2 * (HEBBIAN in kept)), (HEBBIAN,))
    assert selection.fit.kept == (HEBBIAN,)
    assert len(selection.spare) == 4


def test_terms_that_come_and_go_end_after_a_few_rounds():
    # Each refit is better than all before: no term is missed, and any that is put back helps.
    count, rounds = itertools.count(), []

    def fit(terms):
        accuracy = torch.full((EPISODES,), 0.01 * next(count), dtype=torch.float64)
        return Fit(tuple(terms), theta_of(terms), accuracy)

    def fresh(current, turn):
        rounds.append(turn)
        return current

    chosen(fit, (HEBBIAN,), fresh)
    # Those of the first round decide where the second begins, and so on; the sixth decides nothing.
    assert sorted(set(rounds)) == list(range(5))
    assert next(count) < 6 * 4 * len(TERMS)


def test_a_dropped_term_says_how_little_supports_it_and_whether_its_sign_bars_it():
    assert unsupported(0, -1.26) == "gradient 1.3 s.e."
    assert unsupported(0, 5.4) == "gradient 5.4 s.e."
    # A positive gradient would make the decay an amplification.
    assert unsupported(1, 5.4) == "gradient 5.4 s.e. to θ < 0"
    assert unsupported(1, -2.0) == "gradient 2.0 s.e."
    assert unsupported(-1, -2.0) == "gradient 2.0 s.e. to θ > 0"
