"""Predictive coding compared with backpropagation when plain gradient descent takes the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.coding_runs import TINY, CodingSetup, CodingTraining, accuracy_lead

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS = "ours, against Rosenbaum 2022 (Torch2PC)"
LABELS = {
    "bp_sgd": "BP", "fixed_sgd": "η = 0.1, n = 20", "fixed_one_sgd": "η = 1, n = 5",
    "fixed_sgd_own_rate": "η = 0.1, own rate",
}  # fmt: skip


def _training(
    name: str, algorithm: str, eta: float = 0.1, n: int = 20, *, own_rate: bool = False
) -> CodingTraining:
    setup = CodingSetup()
    return CodingTraining(name, algorithm, eta, n, setup, TINY, adam=False, own_rate=own_rate)


def _draw(table: Table) -> Mapping[str, Figure]:
    shown = []
    for column, title, scale in (("accuracy", "accuracy, %", 100), ("loss", "loss, nats", 1)):
        lines = {label: table.series(name, column).curve(scale) for name, label in LABELS.items()}
        shown.append(Panel(title, "batches", lines))
    return {"": figure_of(shown)}


predictive_coding_sgd = Experiment(
    name="predictive-coding-sgd",
    title="Predictive coding compared with backpropagation, with plain gradient descent",
    source="ours, in no paper",
    text="FixedPred's gradient is that of backpropagation with a smaller rate in each lower layer (`predictive-coding`). Adam undoes this, plain gradient descent (SGD) does not. The network, data and batches are those of `predictive-coding`. "
    "The rate is the best of 0.03, 0.1, 0.2, 0.3 and 1 for backpropagation, by the mean accuracy of three networks on images used for nothing else; in one variant it is the best for FixedPred itself. "
    "A first version chose the rate with one network that saw half as many batches. It chose 0.3, at which 2 of 20 networks ended at chance with backpropagation and 1 with FixedPred, so nothing was decided.",
    variants=(
        _training("bp_sgd", "backprop"),
        _training("fixed_sgd", "fixed"),
        _training("fixed_one_sgd", "fixed", 1.0, 5),
        _training("fixed_sgd_own_rate", "fixed", own_rate=True),
    ),
    claims=(
        Claim("under SGD with BP's best rate, FixedPred, η = 0.1, n = 20, is far behind BP", _OURS, accuracy_lead("fixed_sgd", "bp_sgd"), high=-5, unit="points"),
        Claim("under SGD, FixedPred, η = 0.1, n = 20, is better with its own best rate than with BP's", _OURS, accuracy_lead("fixed_sgd_own_rate", "fixed_sgd"), 5, unit="points"),
        Claim("under SGD with BP's best rate, FixedPred, η = 1, n = 5, learns as well as BP", _OURS, accuracy_lead("fixed_one_sgd", "bp_sgd"), -2, 2, "points"),
    ),
    draw=_draw,
)  # fmt: skip
