"""The benchmark of rules from recordings: metaplast and a peer in JAX, on the same trajectories."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from metaplast.base.bands import Numbers
from metaplast.base.tables import new_table
from metaplast.commands._recording_peer import Trajectories, adam, value_and_gradient
from metaplast.recordings import (
    Design,
    InferenceSettings,
    Layer,
    PlainRule,
    Recording,
    infer,
    monomial,
    simulate,
)
from metaplast.recordings.fit import fit
from metaplast.recordings.long_gradient import gradient
from metaplast.recordings.losses import LOSSES
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import taylor
from metaplast.recordings.pieces import Parameters
from metaplast.recordings.trajectory import arranged

# Oja's rule, as in the published simulation.
_TRUTH = {"xy": 1.0, "y2w": -1.0}


@dataclass(frozen=True)
class RecordingCase:
    """The sizes of the data that are timed.

    Attributes:
        inputs, neurons: the number of inputs and of neurons of the layer.
        trials: the number of trajectories.
        steps: the number of steps of each trajectory.
        repeats: timed calls; the median is reported.
        epochs: the number of epochs of the peer's fit.
    """

    inputs: int
    neurons: int
    trials: int
    steps: int
    repeats: int
    epochs: int


def recording_times(case: RecordingCase, console: Console) -> list[dict[str, Any]]:
    """Print and return how long gradients and fits take, and how close the fits come to the rule.

    Args:
        case: the sizes.
        console: where tables are printed.
    """
    terms = {monomial(name).to_term(): value for name, value in _TRUTH.items()}
    design = Design(case.inputs, case.neurons, case.trials, case.steps)
    made = simulate(PlainRule(tuple(terms), tuple(terms.values())), Layer(), design)
    data = Trajectories(made.arrays["inputs"], made.activity, made.arrays["initial_weights"])
    recording = Recording.of(made.arrays)
    has_jax = importlib.util.find_spec("jax") is not None
    if not has_jax:
        console.out("jax: skipped, JAX is not installed (uv sync --group bench).")
    gradients = [_own_gradient(recording, case)]
    gradients += [_jax_gradient(data, case)] if has_jax else []
    console.print(_gradients(gradients, case))
    fits = [*_own_fits(recording), *(_jax_fit(data, case.epochs) if has_jax else ())]
    console.print(_fits(fits))
    return gradients + fits


def _timed(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the seconds of the first call, and the median of later ones."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds[0], statistics.median(seconds[1:])


def _row(what: str, who: str, **more: Any) -> dict[str, Any]:
    return {"what": what, "by": who, **more}


def _problem(recording: Recording) -> Problem:
    arrays = arranged([recording], held_out=0.0, by_animal=False, seed=0)
    return Problem(arrays, Layer(), LOSSES["gaussian"])


def _own_gradient(recording: Recording, case: RecordingCase) -> dict[str, Any]:
    problem, terms = _problem(recording), taylor()
    at = Parameters(np.full(len(terms), 1e-3))
    first, seconds = _timed(lambda: gradient(problem, terms, at), case.repeats)
    return _row("gradient", "metaplast", seconds=seconds, first_seconds=first)


def _jax_gradient(data: Trajectories, case: RecordingCase) -> dict[str, Any]:
    import jax.numpy as jnp

    evaluate = value_and_gradient()
    theta = jnp.full((3, 3, 3), 1e-3)
    arrays = [jnp.asarray(each, jnp.float32) for each in vars(data).values()]

    def call() -> None:
        found = [evaluate(theta, *(each[i] for each in arrays)) for i in range(case.trials)]
        found[-1][0].block_until_ready()

    first, seconds = _timed(call, case.repeats)
    return _row("gradient", "JAX", seconds=seconds, first_seconds=first)


def _own_fits(recording: Recording) -> list[dict[str, Any]]:
    """Return the fit of all coefficients, and the inference that selects terms."""
    problem, terms = _problem(recording), taylor()
    # The first calls compile.
    fit(problem, terms[:2])
    infer(recording, InferenceSettings(terms="xy,y2w"), compare=False)
    start = time.perf_counter()
    whole = dict(zip((term.name for term in terms), fit(problem, terms).theta, strict=True))
    between = time.perf_counter()
    found = {each.term.name: each.theta for each in infer(recording, compare=False).terms}
    end = time.perf_counter()
    return [
        _row("fit", "metaplast, all 27", seconds=between - start, **_errors(whole)),
        _row("fit", "metaplast infer", seconds=end - between, **_errors(found)),
    ]


def _jax_fit(data: Trajectories, epochs: int) -> list[dict[str, Any]]:
    names = {term.exponents[:3]: term.name for term in taylor()}
    wanted = {max(1, epochs // 25), max(1, epochs // 5), epochs}
    rows, start = [], time.perf_counter()
    for epoch, theta in enumerate(adam(data, epochs), start=1):
        if epoch in wanted:
            seconds = time.perf_counter() - start
            # Both index the coefficients by the exponents of x, y and W.
            found = {names[place]: float(value) for place, value in np.ndenumerate(theta)}
            who = f"JAX, {epoch} epoch{'s' if epoch > 1 else ''}"
            rows.append(_row("fit", who, seconds=seconds, **_errors(found)))
    return rows


def _errors(theta: dict[str, float]) -> dict[str, Any]:
    others: Numbers = np.array([abs(v) for name, v in theta.items() if name not in _TRUTH])
    return {
        **{f"theta_{name}": float(theta.get(name, 0.0)) for name in _TRUTH},
        "largest_other": float(others.max(initial=0.0)),
        "terms": int(sum(value != 0 for value in theta.values())),
    }  # fmt: skip


def _gradients(rows: list[dict[str, Any]], case: RecordingCase) -> Table:
    size = f"{case.inputs} inputs, {case.neurons} neurons, {case.trials} trials of {case.steps}"
    made = new_table(f"Gradient with respect to 27 coefficients, {size} steps")
    made.add_column("by")
    for head in ("s", "first call, s", "×"):
        made.add_column(head, justify="right")
    for row in rows:
        made.add_row(
            row["by"], f"{row['seconds']:.4f}", f"{row['first_seconds']:.1f}",
            f"{row['seconds'] / rows[0]['seconds']:.1f}",
        )  # fmt: skip
    return made


def _fits(rows: list[dict[str, Any]]) -> Table:
    made = new_table("Oja's rule, x y − y² W, from activity without noise")
    made.add_column("by")
    for head in ("s", "θ of x y", "θ of y² W", "largest other", "terms"):
        made.add_column(head, justify="right")
    for row in rows:
        values = (row["theta_xy"], row["theta_y2w"], row["largest_other"])
        made.add_row(
            row["by"], f"{row['seconds']:.1f}", *(f"{value:.4f}" for value in values),
            f"{row['terms']}",
        )  # fmt: skip
    return made
