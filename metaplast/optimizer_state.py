"""Whether a saved optimizer state is of the same rule and network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metaplast.errors import UserError, require
from metaplast.learner import Learner


def identity(learner: Learner) -> dict[str, Any]:
    """Return what a state must agree in with its optimizer, as plain data; θ is beside it."""
    return {
        "terms": {term.name: term.spell() for term in learner.terms},
        "feedback": learner.feedback_name,
        "widths": list(learner.network.widths),
        "activation": learner.network.nonlinearity.name,
    }


def check_state(
    state: Any, group: Mapping[str, Any], kept: Mapping[str, Sequence[Tensor | None]]
) -> None:
    """Check that a state fits an optimizer.

    Args:
        state: what `state_dict` gave.
        group: the optimizer's parameter group.
        kept: by name, what the optimizer keeps of each weight.

    Raises:
        UserError: if not; says what differs.
    """
    saved = _group(state)
    # States written before `rule` was part of them have θ and the matrices only.
    for name, own in group["rule"].items():
        other = saved.get("rule", {}).get(name, own)
        require(other == own, _differs(name, _show(other), _show(own)))
    theta, own = torch.as_tensor(saved["theta"]).cpu(), group["theta"].cpu()
    require(
        theta.shape == own.shape and torch.equal(theta, own.to(theta.dtype)),
        _differs("θ", str(theta.tolist()), str(own.tolist())),
    )
    require(
        len(saved["params"]) == len(group["params"]),
        _differs("weights", str(len(saved["params"])), str(len(group["params"]))),
    )
    for name, matrices in kept.items():
        shapes = [None if m is None else list(m.shape) for m in matrices]
        others = [_shape(state["state"].get(key, {}).get(name)) for key in saved["params"]]
        require(others == shapes, _differs(name, _show(others), _show(shapes)))


def complete_state(state: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked state with what an older version did not write."""
    own = {name: value for name, value in group.items() if name != "params"}
    (saved,) = state["param_groups"]
    older = {name: value for name, value in own.items() if name in ("lr", "rule")}
    older["lr"] = 1.0
    return {**state, "param_groups": [{**older, **saved}]}


def _group(state: Any) -> Mapping[str, Any]:
    """Return a state's parameter group, having checked that it is one of a rule."""
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    is_state = (
        isinstance(groups, list)
        and len(groups) == 1
        and isinstance(groups[0], Mapping)
        and {"theta", "params"} <= set(groups[0])
        and isinstance(state.get("state"), Mapping)
    )
    if not is_state or groups is None:
        raise UserError(
            "the state is not that of a RuleOptimizer; give what its state_dict() returned."
        )
    group: Mapping[str, Any] = groups[0]
    return group


def _differs(name: str, other: str, own: str) -> str:
    return (
        f"the state is of another rule or network: its {name} is {other}, the optimizer's {own}; "
        f"load it into an optimizer of the same rule and the same model."
    )


def _show(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} = {text}" for name, text in value.items()) or "empty"
    return str(value)


def _shape(matrix: Any) -> list[int] | None:
    return list(matrix.shape) if isinstance(matrix, Tensor) else None
