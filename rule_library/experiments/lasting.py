"""Rules that last: products of signals from 250 to 5,000 images, and through 10 layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.curve import Curve
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.heldout import GivenVariant, HeldoutSetup
from metaplast.reproduce.panels import Panel
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS = "ours, in no paper"
_WAYS, _DEEP = 10, 10
# Images of each class.
_SHOTS, _LONG = (25, 100, 200, 500), 200
_LENGTHS = tuple(_WAYS * shots for shots in _SHOTS)
_IMAGES = _WAYS * _LONG
# Of 250, 500 and 1,000, this is the best for seven products on tasks of training images.
_FADING = "_fading_1000"
# Learned on MNIST tasks of 250 to 2,000 images; all coefficients of a fading rule fade.
_COEFFICIENTS: Mapping[str, Mapping[str, float]] = {
    "seven_products": {
        "error_hebbian": 0.02902, "e_wty": 0.008733, "activity_error": 0.01576,
        "e_one": 0.006378, "y_one": -0.0002385, "one_one": 9.638e-05, "y_wty": -5.94e-05,
    },
    "local_products": {
        "error_hebbian": 0.02889, "error_error": -0.02582, "y_one": -0.0003237,
        "y_y": -7.077e-05, "one_one": 8.612e-05,
    },
    "four_published": {
        "error_hebbian": 0.006664, "error_error": -0.02042, "presynaptic_error": 0.004797,
        "oja": 0.000302,
    },
    "seven_products_fading": {
        "error_hebbian": 0.04404, "e_wty": 0.0164, "activity_error": 0.0343, "e_one": 0.008372,
        "y_one": -0.0004623, "one_one": 0.0001975, "y_wty": -0.0001344,
    },
    "local_products_fading": {
        "error_hebbian": 0.04643, "error_error": -0.06694, "y_one": -0.0007573,
        "y_y": -9.532e-05, "one_one": 0.0002031,
    },
}  # fmt: skip
_RATES = (0.005, 0.008, 0.012, 0.018, 0.027, 0.04)
_FADING_RATES = (0.012, 0.018, 0.027, 0.04, 0.06, 0.09)
_PRODUCTS = {"seven_products": "seven products", "local_products": "five local products"}
_FADED = {"seven_products_fading": "seven fading products",
          "local_products_fading": "five local fading products"}  # fmt: skip
_LABELS = {**_PRODUCTS, **_FADED, "four_published": "F0 F2 F4 F9"}
_BACKPROP = {"backprop": _RATES, "backprop_fading": _FADING_RATES}
_PEERS = {"backprop": "backprop with its best rate",
          "backprop_fading": "backprop with its best fading rate"}  # fmt: skip


def _setup(
    shots: int, column: str = "mnist", dataset: str = "mnist", depth: int = 5
) -> HeldoutSetup:
    at = _WAYS * shots
    return HeldoutSetup(column, dataset, at=at, depth=depth, shots=shots, episodes=12, ways=_WAYS)


def _quick_setup(full: HeldoutSetup) -> HeldoutSetup:
    # Column and place are the same as in the full version, so that the same claims can be computed.
    return replace(
        full, dataset="digits", depth=3, shots=min(4, full.shots), queries=4, hidden=(16, 12),
        episodes=2, ways=3,
    )  # fmt: skip


# A setup for each length, one with a deep network, and one with data that no coefficient was learned on.
_SETUPS = (
    *map(_setup, _SHOTS),
    _setup(_LONG, "deep", depth=_DEEP),
    _setup(_LONG, "emnist", "emnist-bymerge"),
)
_QUICK_SETUPS = tuple(map(_quick_setup, _SETUPS))


def _rule(name: str) -> GivenVariant:
    """Return a rule with the coefficients that were learned for it."""
    ending = _FADING if name in _FADED else ""
    found = _COEFFICIENTS[name]
    return GivenVariant(
        name, {}, _SETUPS, {}, _QUICK_SETUPS,
        terms=tuple(term + ending for term in found), theta=tuple(found.values()),
    )  # fmt: skip


def _backprop(peer: str, rate: float) -> GivenVariant:
    """Return backprop with a rate, which fades or not."""
    term = "error_hebbian" + (_FADING if peer == "backprop_fading" else "")
    return GivenVariant(
        f"{peer}_{rate:g}", {}, _SETUPS, {}, _QUICK_SETUPS,
        terms=(term,), theta=(rate,), feedback="symmetric",
    )  # fmt: skip


def _accuracy(table: Table, variant: str, column: str, images: int) -> Numbers:
    series = table.series(variant, f"accuracy_{column}")
    place = [int(x) for x in series.x].index(images)
    return 100 * series.values[:, place]


def _best(table: Table, peer: str, column: str, images: int) -> Numbers:
    """Return the accuracy of backprop with the rate that has the highest mean in this test."""
    names = [_backprop(peer, rate).name for rate in _BACKPROP[peer]]
    found = [_accuracy(table, name, column, images) for name in names]
    return max(found, key=lambda values: float(np.nanmean(values)))


def _lead(
    text: str, name: str, peer: str, column: str = "mnist", images: int = _IMAGES, over: float = 0
) -> Claim:
    """Return the claim that a rule leads backprop by more than some points.

    Args:
        text: what is claimed of the rule, without the rule and the number of images.
        name: the rule.
        peer: the version of backprop, a key of `_BACKPROP`.
        column: the column of the accuracies.
        images: the length of the tasks.
        over: the lead, in points.
    """

    def measure(table: Table) -> Numbers:
        return _accuracy(table, name, column, images) - _best(table, peer, column, images)

    return Claim(f"{_LABELS[name]}{text}: {images:,} images", _OURS, measure, over, unit="points")


def _claims() -> tuple[Claim, ...]:
    above, faded_peer = ", random feedback, above ", "backprop_fading"
    deep, new = f" in {_DEEP} layers, unchanged", " unchanged on EMNIST, above "
    return (
        *(
            _lead(above + _PEERS["backprop"], name, "backprop", images=images)
            for name in (*_PRODUCTS, *_FADED)
            for images in _LENGTHS
        ),
        *(
            _lead(f"{deep}, lead backprop by 30 points", name, "backprop", "deep", over=30)
            for name in (*_PRODUCTS, *_FADED)
        ),
        *(
            _lead(above + _PEERS[faded_peer], name, faded_peer, images=images)
            for name in _FADED
            for images in _LENGTHS
        ),
        *(_lead(f"{deep}, above {_PEERS[faded_peer]}", name, faded_peer, "deep") for name in _FADED),
        *(
            _lead(new + text, name, peer, "emnist")
            for name in _FADED
            for peer, text in _PEERS.items()
        ),
    )  # fmt: skip


def _draw(table: Table) -> Mapping[str, Figure]:
    # F0 F2 F4 F9, which is below all others, is left out, so that each line has its own colour.
    labels = {**_PRODUCTS, **_FADED}
    curves = {label: table.series(n, "accuracy_mnist").curve(100) for n, label in labels.items()}
    ends = {
        label: [_accuracy(table, n, column, _IMAGES) for column in ("deep", "emnist")]
        for n, label in labels.items()
    }
    for peer, label in _PEERS.items():
        best = [_best(table, peer, "mnist", length) for length in _LENGTHS]
        curves[label] = Curve.over_networks(_LENGTHS, np.stack(best, axis=1))
        ends[label] = [_best(table, peer, column, _IMAGES) for column in ("deep", "emnist")]
    points = {n: Curve.over_networks([1, 2], np.stack(v, axis=1)) for n, v in ends.items()}
    places = (f"MNIST, {_DEEP} layers", "EMNIST, 5 layers")
    after = f"held-out accuracy after {_IMAGES:,} images, %"
    return {
        "": panels(
            [
                Panel("held-out accuracy, MNIST, 5 layers, %", "images learned", curves, (30, 100), marks=True),
                Panel(after, "", points, (30, 100), categories=places),
            ]
        )
    }  # fmt: skip


lasting = Experiment(
    name="lasting",
    title="Rules that last: from 250 to 5,000 images, and through 10 layers",
    source=_OURS,
    text="The rules are products of signals, found on EMNIST letters with 250 images, and F0 F2 F4 F9. Their coefficients were learned on MNIST tasks of 250, 1,000 and 2,000 images (10 classes, one "
    "length for each outer step, 300 tasks, seed 0), and are given here. The test has images that no task of learning used, and also lengths of 5,000 images. Feedback is random and fixed. In 10 layers and on EMNIST, the rules keep these coefficients. "
    "The fading rules have the same terms, each divided by 1 + t/1,000 after t images, and coefficients that were learned in the same way; 1,000 was the best of 250, 500 and 1,000 for seven products on tasks of training images. Backprop has the best of "
    f"six rates ({', '.join(f'{rate:g}' for rate in _RATES)}) for each length, depth and data set, chosen by the test itself, which favours it. So has backprop with a fading rate, also divided by 1 + t/1,000 (from {', '.join(f'{rate:g}' for rate in _FADING_RATES)}). "
    "Learning from long tasks is not reliable: these are the best coefficients of several searches, judged on training images ([what was tried](../trials.md)). Each seed of the test draws its own networks and 12 tasks for each length.",
    variants=(
        *map(_rule, _COEFFICIENTS),
        *(_backprop(peer, rate) for peer, rates in _BACKPROP.items() for rate in rates),
    ),
    claims=_claims(),
    draw=_draw,
)  # fmt: skip
