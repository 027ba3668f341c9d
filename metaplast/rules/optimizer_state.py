"""Check whether a saved optimizer state is from the same rule and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metaplast.base.errors import UserError, require
from metaplast.systems.learner import Learner


def identity(learner: Learner) -> dict[str, Any]:
    """Return what a state and its optimizer must share, as plain data; θ is compared separately."""
    return {
        "terms": {term.name: term.spell() for term in learner.terms},
        "feedback": learner.feedback_name,
        "widths": list(learner.network.widths),
        "activation": learner.network.nonlinearity.name,
        "objective": learner.network.objective.name,
        "weights": learner.system.weights,
    }


def check_state(
    state: Any, group: Mapping[str, Any], kept: Mapping[str, Sequence[Tensor | None]]
) -> Mapping[str, Any]:
    """Check that a state fits an optimizer.

    Args:
        state: the result of `state_dict`.
        group: the optimizer's parameter group.
        kept: the tensors that the optimizer stores for each weight, by name.

    Returns:
        The state's parameter group.

    Raises:
        UserError: if the state does not fit; the message says what differs.
    """
    saved = _group(state)
    # The oldest states have no `rule`, only θ and the matrices. A `rule` without `objective` dates
    # from when every rule learned with the cross-entropy.
    written = {"objective": "cross-entropy", **saved.get("rule", {})}
    for name, own in group["rule"].items():
        other = written.get(name, own)
        require(_same(other, own), _differs(name, _show(other, own), _show(own, other)))
    theta, own = saved["theta"].cpu(), torch.as_tensor(group["theta"], device="cpu")
    require(
        theta.shape == own.shape and torch.equal(theta, own.to(theta.dtype)),
        _differs("θ", theta.tolist(), own.tolist()),
    )
    count, own_count = len(saved["params"]), len(group["params"])
    require(count == own_count, _differs("number of weights", count, own_count))
    for name, matrices in kept.items():
        shapes = [_shape(matrix) for matrix in matrices]
        others = [_shape(state["state"].get(key, {}).get(name)) for key in saved["params"]]
        require(others == shapes, _differs(f"{name} matrices", others, shapes))
    return saved


def complete_state(state: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked state with the entries that older versions did not write."""
    (saved,) = state["param_groups"]
    return {**state, "param_groups": [{"lr": 1.0, **saved, "rule": group["rule"]}]}


def _group(state: Any) -> Mapping[str, Any]:
    """Return a state's parameter group, after checking that it belongs to a rule."""
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    is_state = (
        isinstance(groups, list)
        and len(groups) == 1
        and isinstance(groups[0], Mapping)
        and isinstance(groups[0].get("theta"), Tensor)
        and isinstance(groups[0].get("params"), list)
        and isinstance(groups[0].get("rule", {}), Mapping)
        and isinstance(state.get("state"), Mapping)
        and all(isinstance(kept, Mapping) for kept in state["state"].values())
    )
    if not is_state or groups is None:
        raise UserError(
            "the state is not from a RuleOptimizer; give what its state_dict() returned."
        )
    group: Mapping[str, Any] = groups[0]
    return group


def _differs(name: str, other: object, own: object) -> str:
    return (
        f"the state is from another rule or network: {name} {other}, the optimizer has {own}; "
        f"load it into an optimizer with the same rule and the same model."
    )


def _show(value: Any, other: Any) -> str:
    """Return a value as text: the terms' names, or their formulas if the names are the same."""
    if not (isinstance(value, Mapping) and isinstance(other, Mapping)):
        return str(value)
    if list(value) != list(other):
        return ", ".join(map(str, value)) or "none"
    return "; ".join(f"{name} = {text}" for name, text in value.items() if other[name] != text)


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, including the order of terms, which orders θ."""
    ordered = isinstance(one, Mapping) and isinstance(other, Mapping)
    return bool(one == other) and (not ordered or list(one) == list(other))


def _shape(matrix: Any) -> list[int] | None:
    return list(matrix.shape) if isinstance(matrix, Tensor) else None
