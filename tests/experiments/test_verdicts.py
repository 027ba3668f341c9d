"""Verdicts, tables and probes on numbers that are known."""

import math

import numpy as np
import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, seeded

from metaplast.base.errors import UserError
from metaplast.online.probes import (
    Snapshot,
    explained_variance,
    orthonormality_errors,
    reconstructed_images,
    reconstruction_errors,
)
from metaplast.report.curve import Curve
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table, read_rows, rows_to_csv
from metaplast.reproduce.verdict import LEAST_SEEDS, Claim, judge
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner


def table_of(numbers):
    """Return a table in which seed i has the number numbers[i] at place 1."""
    return Table({("a", seed): [{"at": 1.0, "x": n}] for seed, n in enumerate(numbers)})


def verdict(numbers, low=-math.inf, high=math.inf):
    claim = Claim("it is so", "here", lambda t: t.series("a", "x").last(), low, high, "%")
    return judge(claim, table_of(numbers))


SEVEN = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0, math.inf, "holds"),
        (0, 2, "holds"),
        (2, math.inf, "does not hold"),
        (-math.inf, 0.5, "does not hold"),
        (1.3, math.inf, "not decided"),
        (-math.inf, 1.3, "not decided"),
    ],
)
def test_a_claim_is_judged_by_its_whole_band(low, high, outcome):
    assert verdict(SEVEN, low, high).outcome == outcome


@pytest.mark.parametrize(
    ("low", "high", "outcome", "agree"),
    [
        (0, math.inf, "does not hold", 0),
        (-math.inf, 0, "does not hold", 0),
        (0, 5, "holds", 7),
        (-1, 0, "holds", 7),
        (-1, math.inf, "holds", 7),
    ],
)
def test_above_0_is_not_0(low, high, outcome, agree):
    found = verdict([0.0] * 7, low, high)
    assert (found.outcome, found.agree) == (outcome, agree)


def test_too_few_seeds_decide_nothing():
    assert len(SEVEN) == LEAST_SEEDS
    few = verdict(SEVEN[:-1], 0)
    assert (few.outcome, few.agree, few.seeds) == ("not decided", 6, 6)
    assert few.low <= few.mean <= few.high


def test_a_seed_without_a_number_decides_nothing_and_is_counted():
    found = verdict([*SEVEN, math.nan], 0)
    assert (found.outcome, found.agree, found.seeds) == ("not decided", 7, 8)
    nothing = verdict([math.nan] * 8, 0)
    assert (nothing.mean, nothing.outcome) == (None, "not decided")


def test_criteria_are_readable():
    assert verdict(SEVEN, -5).criterion == "above −5 %"
    assert verdict(SEVEN, high=20).criterion == "below 20 %"
    assert verdict(SEVEN, 20, 30).criterion == "20 to 30 %"


def test_a_table_of_several_kinds_of_rows_goes_to_csv_and_back(tmp_path):
    rows = [
        {"at": 1.0, "loss": 0.5, "theta_oja": 1e-3},
        {"at": 2.0, "loss": math.nan, "theta_oja": 2e-3},
        {"at": 1.0, "variance_1": 0.9, "variance_2": 0.8},
    ]
    path = tmp_path / "rows.csv"
    path.write_text(rows_to_csv(rows))
    read = Table({("a", 0): read_rows(path)})
    loss = read.series("a", "loss")
    assert loss.x.tolist() == [1.0]
    assert read.series("a", "theta_oja").values.tolist() == [[1e-3, 2e-3]]
    assert list(read.named("a", "theta_")) == ["oja"]
    assert [s.last().tolist() for s in read.numbered("a", "variance")] == [[0.9], [0.8]]
    path.write_text("at,x\n1,oops\n")
    with pytest.raises(UserError) as caught:
        read_rows(path)
    assert_is_one_sentence(caught.value)


def test_series_are_averaged_over_what_is_finite():
    rows = [
        {"at": float(at), "x": value}
        for at, value in zip(range(1, 6), [1, 2, math.nan, 4, 5], strict=True)
    ]
    series = Table({("a", 0): rows}).series("a", "x")
    assert series.between(1, 4).tolist() == [3.0]
    assert series.last(0.4).tolist() == [4.5]
    assert series.smooth(3).values[0].tolist() == [1.5, 1.5, 3.0, 4.5, 4.5]
    assert series.smooth(1) is series


def test_diverged_episodes_are_counted():
    rows = [{"at": float(at), "accuracy": 0.0, "diverged": float(at == 2)} for at in range(4)]
    table = Table({("a", seed): [*rows, {"at": 1.0, "variance_1": 1.0}] for seed in range(3)})
    assert table.diverged("a") == (3, 12)


def snapshot():
    learner = Learner.on_stack(FullyConnected((6, 5, 4, 3)), "fixed", named("error_hebbian"))
    state = learner.draw(2, seeded(), torch.float64)
    x = torch.rand(2, 7, 6, generator=seeded(1), dtype=torch.float64)
    labels = torch.randint(3, (2, 7), generator=seeded(2))
    return Snapshot(learner, torch.zeros(1, dtype=torch.float64), state, x, labels)


def plain_signals(at, network, image):
    """Return z_1 … z_L and y_0 … y_L of one image by plain loops."""
    y, z = [at.x[network, image].tolist()], []
    weights = [w[network].tolist() for w in at.state.weights]
    for layer, w in enumerate(weights):
        z.append([sum(a * b for a, b in zip(row, y[-1], strict=True)) for row in w])
        if layer + 1 < len(weights):
            y.append([math.log1p(math.exp(10 * value)) / 10 for value in z[-1]])
        else:
            total = sum(math.exp(value) for value in z[-1])
            y.append([math.exp(value) / total for value in z[-1]])
    return weights, z, y


def test_reconstruction_and_orthonormality_equal_plain_loops():
    at = snapshot()
    wanted = {"J": torch.zeros(2, 3).double(), "O": torch.zeros(2, 3).double()}
    for network in range(2):
        for image in range(7):
            weights, z, y = plain_signals(at, network, image)
            for layer, w in enumerate(weights):
                back = [
                    sum(w[i][j] * y[layer + 1][i] for i in range(len(w))) for j in range(len(w[0]))
                ]
                again = [sum(a * b for a, b in zip(row, back, strict=True)) for row in w]
                j = sum((a - b) ** 2 for a, b in zip(y[layer], back, strict=True))
                o = sum((a - b) ** 2 for a, b in zip(z[layer], again, strict=True))
                wanted["J"][network, layer] += j / 7
                wanted["O"][network, layer] += o / 7
    assert_close(reconstruction_errors(at), wanted["J"])
    assert_close(orthonormality_errors(at), wanted["O"])


def test_explained_variance_is_that_of_the_covariance():
    at = snapshot()
    share = explained_variance(at, (1, 3), 6)
    assert share.shape == (2, 6, 2)
    for place, layer in enumerate((1, 3)):
        y = np.array([plain_signals(at, 0, image)[2][layer] for image in range(7)])
        values = np.linalg.eigvalsh(np.cov(y.T))[::-1]
        wanted = np.cumsum(values) / values.sum()
        found = share[0, :, place].numpy()
        np.testing.assert_allclose(found[: len(wanted)], wanted, atol=1e-9)
        np.testing.assert_allclose(found[len(wanted) :], 1)


def test_images_are_carried_back_through_the_transposed_weights():
    at = snapshot()
    pictures = reconstructed_images(at, (2,), 3)
    assert pictures.shape == (2, 6, 6)
    assert_close(pictures[..., :3], at.x[:, :3].mT)
    w1, w2 = (w[1] for w in at.state.weights[:2])
    y2 = torch.tensor(plain_signals(at, 1, 2)[2][2], dtype=torch.float64)
    assert_close(pictures[1, :, 5], w1.T @ (w2.T @ y2))


def test_a_line_that_leaves_its_panel_does_not_spoil_the_figure():
    x = np.arange(3.0)
    lines = {
        "in": Curve(x, x, x, x),
        "out": Curve(x, 1e6 * x, 1e6 * x, 1e6 * x),
        "gone": Curve(x, x * np.nan, x * np.nan, x * np.nan),
    }
    figure = figure_of([Panel("title", "x", lines, (0, 2))] * 2)
    # Collapsed axes are a warning, and warnings are errors here.
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.axes[0].texts] == ["in", "out"]
