"""Scores other than accuracy: their text, and the score with which a diverged episode counts."""

import math

import pytest
import torch
from support import ACCURACY

from metaplast.base.bands import Band
from metaplast.base.scores import ScoreScale
from metaplast.meta.evaluation import Evaluation
from metaplast.systems.objective import get_objective

MSE = get_objective("mse").score_scale


@pytest.mark.parametrize(
    ("name", "key"),
    [("accuracy", "accuracy"), ("−MSE", "neg_mse"), ("R²", "r2"), ("log loss", "log_loss"),
     ("−", "neg"), ("∂", "score")],
)  # fmt: skip
def test_a_name_becomes_a_key_for_files_and_tags(name, key):
    assert ScoreScale(name, False, -math.inf, math.inf).key == key


def test_shares_are_shown_in_percent_and_their_changes_in_points():
    band = Band(0.86, 0.847, 0.872)
    assert ACCURACY.text(0.86) == "86.0 %"
    assert ACCURACY.interval(band) == "84.7 – 87.2 %"
    assert ACCURACY.mean_in_band(band) == str(band) == "86.0 % [84.7, 87.2]"
    assert ACCURACY.change(Band(-0.1, -0.2, 0.05)) == "-10.0 [-20.0, +5.0]"
    assert ACCURACY.axis_limits == (0, 100)
    assert ACCURACY.change_limits == (-1, 1)


def test_other_scores_are_shown_as_they_are():
    band = Band(-0.5, -0.55, -0.45)
    assert MSE.text(-0.5) == "-0.500"
    assert MSE.interval(band) == "-0.550 to -0.450"
    assert MSE.change(Band(0.01, -0.02, 0.04)) == "+0.010 [-0.020, +0.040]"
    assert MSE.axis_limits == (None, 0)
    assert MSE.change_limits == (-math.inf, math.inf)


def test_a_band_of_a_score_without_lower_end_is_not_cut():
    scores = torch.tensor([-3.0, -2.5, -2.0, -4.0])
    band = Evaluation(scores, -scores, 0, MSE).band
    assert band.low < -3 < band.mean < band.high <= 0
    assert str(band) == MSE.mean_in_band(band) == f"-2.875 [{band.low:.3f}, {band.high:.3f}]"


def test_the_former_name_of_the_score_warns():
    evaluation = Evaluation(torch.rand(3), torch.rand(3), 0, ACCURACY)
    with pytest.warns(DeprecationWarning, match="use Evaluation.score"):
        assert evaluation.accuracy is evaluation.score
