"""The term library against the published tables, written out by hand, synapse by synapse.

F0 … F9: Shervani-Tabar & Rosenbaum 2023, table of candidate terms; W is [post, pre].
Backward terms: Shervani-Tabar, Mirhoseini & Rosenbaum 2024, eq. 9, and its relatives; B is
[pre, post]. In the lines below i is the row and j the column of the matrix that changes.
"""

import re

import pytest
import torch
from support import assert_close, random_synapses

from metaplast.terms.library import all_terms, get_term
from metaplast.terms.term import full_update


def net(y, M, e):
    """Return yᵀ M e."""
    return sum(y[k] * M[k][m] * e[m] for k in range(len(y)) for m in range(len(e)))


def carried(M, u, j):
    """Return (Mᵀ u)_j."""
    return sum(M[k][j] * u[k] for k in range(len(u)))


# y, e: post activity and error; x, d: pre activity and error.
POOL = {
    "F0": lambda M, y, e, x, d, i, j: -e[i] * x[j],
    "F1": lambda M, y, e, x, d, i, j: -y[i] * d[j],
    "F2": lambda M, y, e, x, d, i, j: -e[i] * d[j],
    "F3": lambda M, y, e, x, d, i, j: -M[i][j],
    "F4": lambda M, y, e, x, d, i, j: -d[j],
    "F5": lambda M, y, e, x, d, i, j: -e[i] * sum(y) * x[j],
    "F6": lambda M, y, e, x, d, i, j: -y[i] * net(y, M, d) * d[j],
    "F7": lambda M, y, e, x, d, i, j: -e[i] * net(y, M, d) * x[j],
    "F8": lambda M, y, e, x, d, i, j: -y[i] * net(e, M, x) * d[j],
    "F9": lambda M, y, e, x, d, i, j: y[i] * x[j] - y[i] * carried(M, y, j),
}
BACKWARD = {
    "backward_hebbian": lambda M, y, e, x, d, i, j: -x[i] * e[j],
    "backward_decay": lambda M, y, e, x, d, i, j: -M[i][j],
    "backward_error_error": lambda M, y, e, x, d, i, j: -d[i] * e[j],
    "backward_activity_error": lambda M, y, e, x, d, i, j: -d[i] * y[j],
    "backward_oja": lambda M, y, e, x, d, i, j: x[i] * y[j] - x[i] * carried(M, x, j),
    "backward_error_oja": lambda M, y, e, x, d, i, j: d[i] * e[j] - d[i] * carried(M, d, j),
}
TABLE = POOL | BACKWARD
NAMES = {
    "F0": "error_hebbian",
    "F1": "activity_error",
    "F2": "error_error",
    "F3": "decay",
    "F4": "presynaptic_error",
    "F5": "summed_error_hebbian",
    "F6": "gated_activity_error",
    "F7": "gated_error_hebbian",
    "F8": "cross_gated_activity_error",
    "F9": "oja",
}
LOCAL = {
    "F0", "F1", "F2", "F3", "F4",
    "backward_hebbian", "backward_decay", "backward_error_error", "backward_activity_error",
}  # fmt: skip


@pytest.mark.parametrize("label", TABLE)
def test_a_term_is_its_published_formula(label):
    term = get_term(label)
    ends = random_synapses(term.matrix, episodes=1, seed=7)
    M = ends.operator.tensor[0].tolist()
    signals = [
        s[0, 0].tolist()
        for s in (ends.post_activity, ends.post_error, ends.pre_activity, ends.pre_error)
    ]
    expected = [[TABLE[label](M, *signals, i, j) for j in range(len(M[0]))] for i in range(len(M))]
    assert_close(full_update(term, ends)[0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("alias", "name"), NAMES.items())
def test_the_numbers_of_the_table_are_aliases(alias, name):
    assert get_term(alias).name == name
    assert get_term(alias.lower()) is get_term(name)


@pytest.mark.parametrize("label", TABLE)
def test_locality_labels(label):
    assert get_term(label).locality == ("local" if label in LOCAL else "non-local")


@pytest.mark.parametrize("label", TABLE)
def test_the_right_weights_change(label):
    assert get_term(label).is_backward == (label in BACKWARD)


# The source of each term: a row of the table in the first publication, or equation 9 of the
# second, which has two backward terms. The others are ours and cite what they derive from.
_ROW = r"^Shervani-Tabar & Rosenbaum 2023, candidate term {}\b"
SOURCES = {
    **{f"F{row}": _ROW.format(row) for row in range(10)},
    "backward_hebbian": r"^Shervani-Tabar, Mirhoseini & Rosenbaum 2024, .*eq\. 9",
    "backward_decay": r"^Shervani-Tabar, Mirhoseini & Rosenbaum 2024, .*eq\. 9",
    "backward_error_error": "^the transpose of .* candidate term 2$",
    "backward_activity_error": "^the transpose of .* candidate term 1$",
    "potential_oja": r"^Shervani-Tabar, Mirhoseini & Rosenbaum 2024, .*section 2\.4, as printed$",
    "drive_oja": r"^Oja 1989, .*on the drive of .*2408\.08408, section 2\.4$",
    "backward_oja": "^Oja 1989, .*with pre and post exchanged$",
    "backward_error_oja": "^Oja 1989, .*on the errors that B carries$",
    # tests/metaplast/test_traces.py compares these with plain loops.
    "hebbian": "^Hebb 1949",
    "covariance": "^Sejnowski 1977",
    "bcm": "^Intrator & Cooper 1992",
    "oja_single": "^Oja 1982",
    "pair_timing": "^Song, Miller & Abbott 2000",
    "activity_scaling": "^van Rossum, Bi & Turrigiano 2000",
    # tests/systems/test_fixed_point.py compares these with full matrices.
    "reparameterised": "^released code LearningFixedPointsInRNNs, rule 3",
    "reparameterised_ungated": "^released code LearningFixedPointsInRNNs, rule 4",
    # tests/systems/test_reservoir.py compares these with the plain loop.
    "node_perturbation": r"^Pyle & Rosenbaum 2019, .*exploration \(RMHL\)$",
    "recursive_least_squares": "^Pyle & Rosenbaum 2019, .*mastery, the update of FORCE$",
    # tests/systems/test_choice.py and test_leaky.py compare these with plain loops and gradients.
    "reward_modulated_hebbian": "^reward-modulated Hebbian learning",
    "exploratory_hebbian": "^Legenstein et al. 2010",
    "reinforce": "^Williams 1992",
    "reinforce_delayed": "^Williams 1992, .*Fiete & Seung 2006$",
    "rewarded_eligibility": "^Williams 1992, without a baseline$",
    "mean_reward_eligibility": "^Williams 1992, its baseline alone$",
    "error_hebbian_delayed": "^the delta rule, Widrow & Hoff 1960, with an eligibility$",
    "output_delta": "^the delta rule, Widrow & Hoff 1960$",
    "rflo": "^Murray 2019",
    "e_prop": "^Bellec et al. 2020",
}


def test_every_term_has_a_source_that_is_checked_here():
    assert {get_term(label).name for label in SOURCES} == set(all_terms())


@pytest.mark.parametrize("label", SOURCES)
def test_a_term_cites_the_place_where_its_formula_stands(label):
    assert re.search(SOURCES[label], get_term(label).citation)


@pytest.mark.parametrize("label", ["F3", "backward_decay"])
def test_decay_must_not_turn_into_growth(label):
    assert get_term(label).nonnegative


def test_meta_learning_starts_as_the_published_pseudo_gradient():
    starts = {term.name: term.initial for term in all_terms().values() if term.initial}
    assert starts == {"error_hebbian": 1e-3}
