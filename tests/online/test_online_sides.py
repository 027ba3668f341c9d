"""Coefficients are fitted only on the tuning half; rules are compared on the other half."""

from dataclasses import replace

import pytest
import torch
from sides import Sources

from metaplast.commands import evaluate as evaluate_command
from metaplast.commands import guard
from metaplast.online.comparison import evaluate_entrant, known_entrant, tune
from metaplast.online.train import OnlineSettings
from metaplast.systems.fully_connected import FullyConnected

NETWORK = FullyConnected((6, 5, 3))
SETTINGS = OnlineSettings((0, 3), seeds=2, queries=3)
LIKE = torch.zeros(0, dtype=torch.float64)


@pytest.mark.parametrize("fit", ["coefficients", "scale"])
def test_what_is_fitted_is_found_on_the_tuning_half_and_compared_on_the_other(fit):
    sources = Sources()
    log = sources.log
    entrant = replace(known_entrant("backprop"), fit=fit)
    result = evaluate_entrant(
        entrant, NETWORK, sources.stream("clouds", None), SETTINGS, LIKE,
        lambda trial: log.append(("tried", trial)), lambda images: log.append(("trained", images)),
    )  # fmt: skip
    end = max(place for place, (what, _) in enumerate(log) if what == "tried")
    assert set(sources.sides[: end + 1]) == {"tuning", "tried"}
    assert set(sources.sides[end + 1 :]) == {"final", "trained"}
    assert sources.sides.count("final") == SETTINGS.seeds
    assert len(result.trials) == sources.sides.count("tried")
    # Networks and orders differ too, not only images.
    assert not sources.seeds("tuning") & sources.seeds("final")


def test_a_rule_that_is_used_as_it_is_never_asks_the_tuning_half():
    sources = Sources()
    entrant = replace(known_entrant("backprop"), fit="nothing")
    evaluate_entrant(entrant, NETWORK, sources.stream("clouds", None), SETTINGS, LIKE)
    assert set(sources.sides) == {"final"}


def test_tuning_asks_the_tuning_half_alone_for_every_trial():
    sources = Sources()
    _, search = tune(
        known_entrant("oja"), NETWORK, sources.stream("clouds", None), SETTINGS, LIKE, whole=True
    )
    assert sources.sides == ["tuning"] * (SETTINGS.seeds * len(search.trials))
    # Every trial sees the same networks, so that only the coefficients differ.
    assert len(sources.seeds("tuning")) == SETTINGS.seeds


@pytest.mark.slow
def test_the_command_tunes_its_baselines_on_the_tuning_half(tmp_path, monkeypatch):
    sources = Sources()
    monkeypatch.setattr(evaluate_command, "open_stream", sources.stream)
    arguments = [
        "backprop", "--baselines=feedback_alignment", "--hidden=5", "--samples=3", "--seeds=2",
        "--test-images=3", "--quiet", f"--out={tmp_path / 'out'}",
    ]  # fmt: skip
    assert guard(evaluate_command.main, arguments) == 0
    sides = sources.sides
    # Two rules: each is tuned, then trained once in two networks.
    assert sides.count("final") == 4
    places = [place for place, side in enumerate(sides) if side == "final"]
    assert places[1] == places[0] + 1
    assert places[2:] == [len(sides) - 2, len(sides) - 1]
    assert not sources.seeds("tuning") & sources.seeds("final")
