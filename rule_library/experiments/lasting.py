"""Rules that last: products of signals from 250 to 5,000 images, and through 10 layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.online.comparison import widths_for_depth
from metaplast.report.curve import Curve
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.heldout import HeldoutSetup, RuleVariant
from metaplast.reproduce.panels import Panel
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import TINY, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS = "ours, in no paper"
_WAYS, _DEEP = 10, 10
_HIDDEN = (170, 130, 100, 70)
# Images of each class in the test, and in the tasks that the coefficients are learned on.
_SHOTS, _LEARNED = (25, 100, 200, 500), (25, 100, 200)
_FOUR = "error_hebbian,error_error,presynaptic_error,oja"
_LOCAL = "error_hebbian,error_error,y_one,y_y,one_one"
_SEVEN = "error_hebbian,e_wty,activity_error,e_one,y_one,one_one,y_wty"
# All coefficients are learned alike: no penalty, no selection. Many small steps, since a rule of
# several terms starts from the error-Hebbian term alone.
_LEARNING: Mapping[str, Any] = {
    "dataset": "mnist", "ways": _WAYS, "held_out": "images", "l1": 0.0, "threshold": 0.0,
    "refit": 0, "episodes": 300, "meta_batch": 2, "meta_lr": 2e-3, "test_episodes": 2,
}  # fmt: skip
_QUICK: Mapping[str, Any] = {**TINY, "ways": 3, "shots": (2, 4), "episodes": 4}
_LABELS = {
    "seven_products": "seven products",
    "local_products": "five local products",
    "four_published": "F0 F2 F4 F9",
}


def _sites(shots: tuple[int, ...], depth: int = 5) -> tuple[HeldoutSetup, ...]:
    return tuple(
        HeldoutSetup(
            "mnist", "mnist", at=_WAYS * each, depth=depth, shots=each, episodes=12, ways=_WAYS
        )
        for each in shots
    )


def _quick_sites(shots: tuple[int, ...]) -> tuple[HeldoutSetup, ...]:
    # The columns are those of the full version, so that the same claims can be computed.
    return tuple(
        HeldoutSetup(
            "mnist", "digits", at=_WAYS * each, depth=3, shots=min(4, each), queries=4,
            hidden=(16, 12), episodes=2, ways=3,
        )
        for each in shots
    )  # fmt: skip


def _rule(name: str, terms: str, shots: tuple[int, ...] = _SHOTS, depth: int = 5) -> RuleVariant:
    """Return a rule learned on several lengths, or on the one length that it is tested at."""
    hidden = widths_for_depth(_HIDDEN, depth)
    learned = _LEARNED if len(shots) > 1 else shots
    full = {**_LEARNING, "terms": terms, "shots": learned, "hidden": hidden}
    return RuleVariant(name, full, _sites(shots, depth), _QUICK, _quick_sites(shots))


def _backprop(shots: int) -> RuleVariant:
    return _rule(f"backprop_{_WAYS * shots}", "backprop", (shots,))


def _accuracy(table: Table, variant: str, images: int) -> Numbers:
    series = table.series(variant, "accuracy_mnist")
    place = [int(x) for x in series.x].index(images)
    return 100 * series.values[:, place]


def _lead(name: str, images: int, other: str = "") -> Callable[[Table], Numbers]:
    """Return the measure of a rule's lead over backprop with the rate for this length, points."""
    other = other or f"backprop_{images}"
    return lambda table: _accuracy(table, name, images) - _accuracy(table, other, images)


def _claims() -> tuple[Claim, ...]:
    lengths = [_WAYS * shots for shots in _SHOTS]
    return (
        *(
            Claim(
                f"{_LABELS[name]}, fixed feedback, above backprop with its best rate: {images:,} images",
                _OURS, _lead(name, images), 0, unit="points",
            )
            for name in ("seven_products", "local_products")
            for images in lengths
        ),
        *(
            Claim(
                f"{_LABELS[name]} lead backprop through {_DEEP} layers by 30 points: 2,000 images",
                _OURS, _lead(f"{name}_deep", 2000, "backprop_deep"), 30, unit="points",
            )
            for name in ("seven_products", "local_products")
        ),
    )  # fmt: skip


def _draw(table: Table) -> Mapping[str, Figure]:
    curves = {
        label: table.series(name, "accuracy_mnist").curve(100) for name, label in _LABELS.items()
    }
    lengths = [_WAYS * shots for shots in _SHOTS]
    best = [_accuracy(table, f"backprop_{images}", images) for images in lengths]
    curves["backprop, a rate for each length"] = Curve.over_networks(
        lengths, np.stack(best, axis=1)
    )
    panel = Panel("held-out accuracy, %", "images learned", curves, (0, 100), marks=True)
    return {"": panels([panel])}


lasting = Experiment(
    name="lasting",
    title="Rules that last: from 250 to 5,000 images, and through 10 layers",
    source=_OURS,
    text="Rules of products of signals, found on EMNIST letters with 250 images, have their coefficients learned on MNIST tasks of 250, 1,000 and 2,000 images (10 classes, one "
    "length for each outer step, 300 tasks), and are tested on images that no task of learning used, also with 5,000 images. Feedback is random and fixed. Backprop has one coefficient, its rate, "
    "learned by the same loop separately for each length that it is tested at. Each rule is learned once (seed 0); each seed of the test draws its own networks and 12 tasks for each length.",
    variants=(
        _rule("seven_products", _SEVEN),
        _rule("local_products", _LOCAL),
        _rule("four_published", _FOUR),
        *map(_backprop, _SHOTS),
        _rule("seven_products_deep", _SEVEN, (200,), _DEEP),
        _rule("local_products_deep", _LOCAL, (200,), _DEEP),
        _rule("backprop_deep", "backprop", (200,), _DEEP),
    ),
    claims=_claims(),
    draw=_draw,
)  # fmt: skip
