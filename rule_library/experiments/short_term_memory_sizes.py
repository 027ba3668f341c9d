"""Short-term memory of recurrent networks by the length of the delay and the number of neurons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.curve import Curve
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.memory_runs import MemorySetup, MemoryVariant
from rule_library.experiments.shared import B
from rule_library.experiments.short_term_memory import LABELS, RULES, TINY, late

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = f"{B}, section 2.4"
_OURS = f"ours, after {B}, section 2.4"
_V3 = f"{B}, v3's abstract; the measure is ours"
TIMES, NEURONS = (10, 25, 50, 100), (30, 100, 300)
_SIZES = tuple(dict.fromkeys([(t, 100) for t in TIMES] + [(50, n) for n in NEURONS]))
# Nine points each, in quarters of a decade.
_LINE = (tuple(range(-20, -3, 2)),)
_SQUARE = ((-14, -12, -10), (-14, -12, -10))


def _name(rule: str, size: tuple[int, int]) -> str:
    return "{}_t{}_n{}".format(rule, *size)


def _variant(rule: str, size: tuple[int, int]) -> MemoryVariant:
    time, neurons = size
    setup = MemorySetup(
        time=time, neurons=neurons, images=2000, every=200, tuning_images=1000, tuning_seeds=2
    )
    # The quick version keeps the order of the sizes.
    quick: dict[str, Any] = {**TINY, "time": 5 + time // 25, "neurons": 3 + neurons // 30}
    grid = _LINE if rule == "bptt" else _SQUARE
    return MemoryVariant(_name(rule, size), RULES[rule], grid, setup, quick, growths=1)


def _lead(rule: str, size: tuple[int, int], other: str, against: tuple[int, int]) -> Callable[[Table], Numbers]:  # fmt: skip
    """Return the measure of a rule's lead over another at their sizes, points."""
    return lambda table: late(table, _name(rule, size)) - late(table, _name(other, against))


def _endurance(table: Table) -> Numbers:
    """Return BPTT's loss of accuracy from T = 10 to T = 100 minus that of O_z, points."""
    losses = {
        rule: _lead(rule, (TIMES[0], 100), rule, (TIMES[-1], 100))(table)
        for rule in ("bptt", "bptt_potential_oja")
    }
    return losses["bptt"] - losses["bptt_potential_oja"]


def _line(table: Table, rule: str, sizes: Mapping[int, tuple[int, int]]) -> Curve:
    values = np.stack([late(table, _name(rule, size)) for size in sizes.values()], 1)
    return Curve.over_networks(list(sizes), values)


def _draw(table: Table) -> Mapping[str, Figure]:
    axes = {
        "time steps T": {time: (time, 100) for time in TIMES},
        "neurons": {neurons: (50, neurons) for neurons in NEURONS},
    }
    return {"": figure_of([
        Panel(
            "accuracy over the last quarter of the images, %", x,
            {label: _line(table, rule, sizes) for rule, label in LABELS.items()},
            (0, 100), level=(10, "chance"), marks=True,
        )
        for x, sizes in axes.items()
    ])}  # fmt: skip


short_term_memory_sizes = Experiment(
    name="short-term-memory-sizes",
    title="Short-term memory by the number of time steps (100 neurons) and of neurons (50 time steps)",
    source=_SOURCE,
    text="As `short-term-memory`, but shorter: networks learn 2000 images. Each rule has its own coefficients at each size, found with the same effort: 9 points of a grid, 2 networks and 1000 images each. "
    "BPTT's rate is tried from 1e-5 to 0.1, and with Oja's rule both coefficients from 3.2e-4 to 3.2e-3, two a decade each; a grid grows once at an edge at which its best point lies. Accuracy is that over the last quarter of the images.",
    variants=tuple(_variant(rule, size) for size in _SIZES for rule in RULES),
    claims=(
        Claim("after 100 time steps, O_z is above BPTT", _V3, _lead("bptt_potential_oja", (100, 100), "bptt", (100, 100)), 0, unit="points"),
        Claim("after 100 time steps, O_σ is above BPTT", _V3, _lead("bptt_drive_oja", (100, 100), "bptt", (100, 100)), 0, unit="points"),
        Claim("O_z loses less accuracy than BPTT from 10 to 100 time steps", _V3, _endurance, 0, unit="points"),
        Claim("with 30 neurons, O_z is above BPTT", _SOURCE, _lead("bptt_potential_oja", (50, 30), "bptt", (50, 30)), 0, unit="points"),
        Claim("with 30 neurons, O_σ is above BPTT", _SOURCE, _lead("bptt_drive_oja", (50, 30), "bptt", (50, 30)), 0, unit="points"),
        Claim("BPTT is better with 300 neurons than with 30", _SOURCE, _lead("bptt", (50, 300), "bptt", (50, 30)), 0, unit="points"),
        Claim("O_z with 30 neurons is above BPTT with 300", _OURS, _lead("bptt_potential_oja", (50, 30), "bptt", (50, 300)), 0, unit="points"),
    ),
    draw=_draw,
    seeds=7,
)  # fmt: skip
