"""The state of an outer loop in a checkpoint, checked before the loop continues from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metaplast.base.plain_data import check, entry, number
from metaplast.meta.adam import Optimizer
from metaplast.terms.coefficients import Coefficients

# The format of `OuterLoop.state`.
_PARTS = ("u", "step", "trust", "optimizer", "scale", "history", "divergences")
# Earlier checkpoints lack these, as do those of loops that average nothing, train all terms from
# the start, learn no time constants, or have one round.
_MORE = ("latest", "growth", "taus", "rounds")
_MOST_ROUNDS = 1000
_NUMBERS = ("loss", "score", "l1_norm", "gradient_norm")
_COUNTS = ("step", "episodes", "active", "non_finite")
# Entries of the state of torch's optimizers that are never negative.
_SQUARES = frozenset(
    ("step", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "sum", "exp_inf")
)


def read_seconds(data: Mapping[str, Any]) -> float:
    """Return the wall time in a checkpoint.

    Raises:
        DataError: if the time is invalid.
    """
    seconds = number(entry(data, "seconds", (int, float), "it"), "'seconds'")
    check(seconds >= 0, f"'seconds' must not be negative, got {seconds:g}")
    return seconds


def read_stages(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the states of all stages in a checkpoint, each complete in itself.

    Raises:
        DataError: if a state has the wrong parts, types, sizes or numbers.
    """
    stages = entry(data, "stages", dict, "it")
    for name, state in stages.items():
        check(isinstance(name, str), f"the name of a stage is {str(name)[:40]!r}")
        where = f"the stage {name[:80]!r}"
        check(isinstance(state, dict), f"{where} is not a dictionary")
        check(
            set(state) - set(_MORE) == set(_PARTS),
            f"{where} must have the parts {', '.join(_PARTS)}",
        )
        _check_tensors(state, where)
        state["history"] = _today(entry(state, "history", list, where))
        _check_history(name, state, where)
        rounds = entry(state, "rounds", int, where) if "rounds" in state else 1
        check(1 <= rounds <= _MOST_ROUNDS, f"{where} has {rounds} rounds")
        check(isinstance(state["optimizer"], dict), f"the optimizer of {where} is not a dictionary")
    return dict(stages)


def _today(history: Sequence[Any]) -> list[Any]:
    """Return records with the current names: version 1 called the score accuracy."""
    return [
        {"score" if key == "accuracy" else key: value for key, value in record.items()}
        if isinstance(record, dict)
        else record
        for record in history
    ]


def _check_tensors(state: Mapping[str, Any], where: str) -> None:
    u = _tensor(state["u"], f"'u' of {where}")
    check(u.dim() in (1, 2), f"'u' of {where} has shape {tuple(u.shape)}")
    scale = _tensor(state["scale"], f"'scale' of {where}", u)
    check(bool((scale > 0).all()), f"'scale' of {where} must be positive")
    if "latest" in state:
        latest = _tensor(state["latest"], f"'latest' of {where}")
        fits = latest.shape[1:] == u.shape and latest.dtype == u.dtype
        check(fits, f"'latest' of {where} has shape {tuple(latest.shape)} and {latest.dtype}")
    _check_trust(state, where, u)


def _check_trust(state: Mapping[str, Any], where: str, u: Tensor) -> None:
    trust = entry(state, "trust", dict, where)
    check(
        set(trust) == {"radius", "home", "safe"},
        f"the trust region of {where} has missing or unknown parts",
    )
    radius = number(trust["radius"], f"the radius of {where}")
    check(0 < radius <= 1, f"the radius of {where} must be above 0 and at most 1, got {radius:g}")
    for part in ("home", "safe"):
        if trust[part] is not None:
            _tensor(trust[part], f"{part!r} of {where}", u)


def _tensor(value: Any, where: str, like: Tensor | None = None) -> Tensor:
    plain = isinstance(value, Tensor) and value.layout == torch.strided
    if not plain or value.dtype not in (torch.float32, torch.float64):
        check(False, f"{where} must be a tensor of float32 or float64")
    if like is not None:
        check(
            value.shape == like.shape and value.dtype == like.dtype,
            f"{where} must have shape {tuple(like.shape)} and {like.dtype}, got "
            f"{tuple(value.shape)} and {value.dtype}",
        )
    check(bool(value.isfinite().all()), f"{where} must be finite")
    return value  # type: ignore[no-any-return]


def _check_history(name: str, state: Mapping[str, Any], where: str) -> None:
    step, history = entry(state, "step", int, where), entry(state, "history", list, where)
    check(step == len(history), f"{where} is at step {step}, but has {len(history)} records")
    divergences = entry(state, "divergences", list, where)
    texts = all(isinstance(text, str) for text in divergences)
    check(texts, f"the divergences of {where} are not text")
    for index, record in enumerate(history):
        place = f"record {index} of {where}"
        _check_record(record, place)
        check(record["stage"] == name, f"{place} belongs to another stage")
        check(record["step"] == index, f"{place} says that it is step {record['step']}")
        check(bool(divergences) or not record["non_finite"], f"{where} explains no divergence")


def _check_record(record: Any, place: str) -> None:
    entry(record, "stage", str, place)
    for key in _NUMBERS:
        # The mean over no finite episode is NaN.
        entry(record, key, float, place)
    for key in _COUNTS:
        check(entry(record, key, int, place) >= 0, f"{key!r} of {place} is negative")
    angles = record.get("angles", [])
    check(_are_floats(angles), f"the angles of {place} are not a list of numbers")
    theta = entry(record, "theta", dict, place)
    whole = all(isinstance(key, str) and _are_floats(value) for key, value in theta.items())
    check(whole, f"the coefficients of {place} are not lists of numbers by name")
    taus = record.get("taus", {})
    whole = isinstance(taus, dict) and all(isinstance(name, str) for name in taus)
    check(whole and _are_floats([*taus.values()]), f"the time constants of {place} are not numbers")
    check(
        isinstance(record.get("shrunk", False), bool), f"'shrunk' of {place} must be true or false"
    )
    newer = {"angles", "taus", "shrunk"}
    known = {"stage", "theta", *newer, *_NUMBERS, *_COUNTS}
    check(set(record) | newer == known, f"{place} has missing or unknown parts")


def _are_floats(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is float for value in values)


def require_state(
    state: Mapping[str, Any],
    u: Coefficients,
    steps: int,
    meta_batch: int,
    window: int,
    optimizer: Optimizer,
) -> None:
    """Check that a state that `read_stages` accepted fits the loop that will continue from it.

    Args:
        state: the state of the stage.
        u: coefficients of the loop, for terms, shape and dtype.
        steps: the number of steps of the whole loop.
        meta_batch: tasks in a step.
        window: how many of the latest θ the loop keeps.
        optimizer: the optimizer of the loop, newly made.

    Raises:
        DataError: if it does not fit.
    """
    for part in ("u", "scale"):
        _tensor(state[part], f"{part!r}", u.tensor)
    check(state["step"] <= steps, f"it is at step {state['step']} of {steps}")
    latest = state.get("latest")
    kept = min(state["step"], window)
    check(latest is None or len(latest) == kept, f"it must have the latest {kept} θ")
    for index, record in enumerate(state["history"]):
        theta = record["theta"]
        fits = tuple(theta) == u.names and all(len(row) == u.sites for row in theta.values())
        check(fits, f"record {index} has coefficients of other terms or layers")
        check(record["episodes"] == (index + 1) * meta_batch, f"record {index} counts other tasks")
        check(record["non_finite"] <= meta_batch, f"record {index} has too many divergences")
    _check_optimizer(state["optimizer"], u.tensor, optimizer)


def require_taus(
    state: Mapping[str, Any], log_tau: Tensor, window: int, optimizer: Optimizer
) -> None:
    """Check that the state of learned time constants fits those of a loop.

    Args:
        state: the state of the time constants.
        log_tau: the log τ of the loop, for shape and dtype.
        window: how many of the latest values the loop keeps.
        optimizer: the optimizer of the time constants, newly made.

    Raises:
        DataError: if it does not fit.
    """
    where = "the time constants"
    parts = {"log_tau", "settled", "latest", "trust", "optimizer"}
    check(isinstance(state, dict) and set(state) == parts, f"{where} have missing or unknown parts")
    for part in ("log_tau", "settled"):
        _tensor(state[part], f"{part!r} of {where}", log_tau)
    latest = _tensor(state["latest"], f"'latest' of {where}")
    fits = latest.shape[1:] == log_tau.shape and len(latest) <= window
    check(fits, f"'latest' of {where} has shape {tuple(latest.shape)}")
    _check_trust(state, where, log_tau)
    _check_optimizer(entry(state, "optimizer", dict, where), log_tau, optimizer)


def _check_optimizer(saved: Mapping[str, Any], u: Tensor, optimizer: Optimizer) -> None:
    where = "the optimizer"
    groups = entry(saved, "param_groups", list, where)
    check(len(groups) == 1 and isinstance(groups[0], dict), f"{where} must have exactly one group")
    fresh = optimizer.state_dict()["param_groups"][0]
    for key in fresh.keys() & groups[0].keys() - {"lr"}:
        # Compared as text, because the value may be anything.
        check(repr(groups[0][key]) == repr(fresh[key]), f"{where} has a different {key}")
    check("params" in groups[0] and "lr" in groups[0], f"{where} lacks parameters or step size")
    number(groups[0]["lr"], f"the step size of {where}")
    state = entry(saved, "state", dict, where)
    check(set(state) <= {0}, f"{where} has states of other parameters")
    # The optimizer keeps nothing before the first step and after a step that was undone.
    if state and state[0] != {}:
        _check_moments(state[0], _moments(u, optimizer))


def _moments(u: Tensor, optimizer: Optimizer) -> dict[str, Any]:
    """Return what an optimizer of this kind keeps for a parameter like `u` after a step."""
    parameter = torch.nn.Parameter(torch.zeros_like(u))
    parameter.grad = torch.zeros_like(u)
    twin = type(optimizer)([parameter], lr=1e-3)  # type: ignore[call-arg]
    twin.step()
    kept: dict[str, Any] = twin.state_dict()["state"].get(0, {})
    return kept


def _check_moments(saved: Any, kept: Mapping[str, Any]) -> None:
    where = "the optimizer"
    check(isinstance(saved, dict) and set(saved) == set(kept), f"{where} keeps other moments")
    for key, like in kept.items():
        value = saved[key]
        check(type(value) is type(like), f"{key!r} of {where} has the wrong type")
        if isinstance(like, Tensor):
            _tensor(value, f"{key!r} of {where}", like)
            check(key not in _SQUARES or bool((value >= 0).all()), f"{key!r} is negative")
        elif isinstance(like, int | float):
            check(math.isfinite(value), f"{key!r} of {where} must be finite")
