"""Rules discovered from outer products, compared with the published pool's and with backprop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.heldout import HeldoutSetup, RuleVariant
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.heldout_leads import drawn, lead
from rule_library.experiments.shared import EMNIST, TINY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from metaplast.reproduce.table import Table

_OURS = "ours, in no paper"
_DATA = {"emnist": "EMNIST bymerge", "mnist": "MNIST", "deep": "EMNIST, 10 layers"}
_DEPTHS = (3, 5, 7, 10)
_LABELS = {
    "products": "products",
    "products_local": "local products",
    "all": "all ten terms",
    "products_symmetric": "products, true errors",
    "bp_products": "BP",
}
_SETUPS = (
    HeldoutSetup("emnist", "emnist-bymerge"),
    HeldoutSetup("mnist", "mnist"),
    HeldoutSetup("deep", "emnist-bymerge", depth=10),
    *(HeldoutSetup("depth", "emnist-bymerge", at=depth, depth=depth) for depth in _DEPTHS),
)
_SMALL: dict[str, Any] = {"shots": 8, "queries": 4, "hidden": (16, 12), "episodes": 4}
_QUICK_SETUPS = (
    *(HeldoutSetup(name, "digits", depth=3, **_SMALL) for name in _DATA),
    *(HeldoutSetup("depth", "digits", at=depth, depth=depth, **_SMALL) for depth in _DEPTHS[:2]),
)
_QUICK = {
    **TINY, "episodes": 8, "entry": 8, "refit": 4, "look": 4, "validation": 4, "test_episodes": 4,
}  # fmt: skip


def _rule(name: str, terms: str, **changes: Any) -> RuleVariant:
    full = {**EMNIST, "terms": terms, **changes}
    return RuleVariant(name, full, _SETUPS, _QUICK, _QUICK_SETUPS, takes_file=name == "products")


def _draw(table: Table) -> Mapping[str, Figure]:
    depths = {
        label: table.series(name, "accuracy_depth").curve(100) for name, label in _LABELS.items()
    }
    panel = Panel("held-out accuracy, EMNIST, %", "layers", depths, (0, 100), marks=True)
    data = {"emnist": _DATA["emnist"], "mnist": _DATA["mnist"]}
    return {**drawn(_LABELS, data)(table), "depth": figure_of([panel])}


products = Experiment(
    name="products",
    title="Rules discovered from outer products compared with backprop and the published pool",
    source=_OURS,
    text="Rules grow from the sixteen products of the algebra (`--terms products`: outer products of y, e and 1 with y, e, 1, Wᵀy and Wᵀe, and decay), from the local ones among them (`--only local`), and, as a control, from all products with true errors (symmetric feedback). "
    "The rule from the ten terms of the published pool is discovered with today's defaults, and the rate of backprop is learned by the same outer loop. The first can be given by `--rule`. "
    "Each rule is learned once (seed 0), on EMNIST classes that are not in the test, in five layers, 5 ways, 50 shots. All are tested on the same held-out episodes and initial weights, 25 for each seed: EMNIST, MNIST, and EMNIST with 3 to 10 layers. No rule is adapted to other data or depths.",
    variants=(
        _rule("products", "products"),
        _rule("products_local", "products", only="local"),
        _rule("all", "all"),
        _rule("products_symmetric", "products", feedback="symmetric"),
        _rule("bp_products", "backprop"),
    ),
    claims=(
        Claim("the rule of products is more than 12 points above BP on held-out EMNIST classes", _OURS, lead("products", "bp_products"), 12, unit="points"),
        Claim("the rule of products is above the rule of the ten terms there", _OURS, lead("products", "all"), 0, unit="points"),
        Claim("the rule of products is above BP on MNIST", _OURS, lead("products", "bp_products", "mnist"), 0, unit="points"),
        Claim("the rule of products is more than 30 points above BP in 10 layers", _OURS, lead("products", "bp_products", "deep"), 30, unit="points"),
        Claim("the rule of local products is more than 6 points above BP on EMNIST", _OURS, lead("products_local", "bp_products"), 6, unit="points"),
        Claim("the rule of local products is above BP on MNIST", _OURS, lead("products_local", "bp_products", "mnist"), 0, unit="points"),
        Claim("the rule of local products is above BP in 10 layers", _OURS, lead("products_local", "bp_products", "deep"), 0, unit="points"),
        Claim("with random feedback, products are within 3 points of products with true errors", _OURS, lead("products", "products_symmetric"), -3, 3, unit="points"),
    ),
    draw=_draw,
)  # fmt: skip
