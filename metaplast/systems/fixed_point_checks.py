"""Checks of a fixed-point network's fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaplast.base.errors import require, shown, unknown_name
from metaplast.systems.implicit import SOLVERS

if TYPE_CHECKING:
    from metaplast.systems.fixed_point import FixedPoint

MOST_NEURONS, MOST_STEPS, MOST_BATCH = 100_000, 10**7, 100_000


def require_valid(system: FixedPoint) -> None:
    """Raise `UserError` unless sizes, numbers and the solver are valid."""
    inputs, neurons, outputs = system.widths
    require(
        min(system.widths) >= 1 and max(system.widths) <= MOST_NEURONS,
        f"a fixed-point network takes 1 to {MOST_NEURONS:,} inputs, neurons and outputs, got "
        f"{shown(system.widths)}; give --hidden one such number.",
    )
    _require_numbers(system)
    if system.solver not in SOLVERS:
        raise unknown_name("solver", system.solver, SOLVERS)
    for what, wiring, number in (
        ("drive", system.drive, inputs),
        ("readout", system.readout, outputs),
    ):
        ends = "inputs" if what == "drive" else "outputs"
        require(
            wiring == "random" or number <= neurons,
            f"{what}=direct needs a neuron for each of the {number} {ends}, got {neurons} "
            f"neurons; give --hidden {number}, or {what}=random.",
        )


def _require_numbers(system: FixedPoint) -> None:
    require(
        0 <= system.gain < 1,
        f"gain must be at least 0 and below 1, got {system.gain:g}: it is about the spectral "
        f"radius of W at the start, and from 1 on fixed points need not exist or be stable.",
    )
    require(
        0 < system.tolerance < 1,
        f"tolerance must be above 0 and below 1, got {system.tolerance:g}; write tolerance=1e-6.",
    )
    require(
        0 < system.rate <= 1,
        f"rate must be above 0 and at most 1, got {system.rate:g}; write rate=0.5.",
    )
    for name, most in (("steps", MOST_STEPS), ("batch", MOST_BATCH)):
        value = getattr(system, name)
        require(
            1 <= value <= most,
            f"{name} must be from 1 to {most:,}, got {shown(value)}; write "
            f"{name}={getattr(type(system), name)}.",
        )
