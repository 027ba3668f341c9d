"""Adam for θ, with the arithmetic and state of torch's Adam but without its slow import.

Creating torch's first optimizer in a process imports torch's compiler, which takes longer than many
discoveries do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8
# The remaining entries of a parameter group of torch's Adam, at torch's defaults, so that our Adam
# and torch's can each load what the other saved.
_GROUP = {
    "betas": BETAS,
    "eps": EPSILON,
    "weight_decay": 0,
    "amsgrad": False,
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
    "decoupled_weight_decay": False,
}


class Adam:
    """`torch.optim.Adam` with its default options, for one parameter.

    On a CPU, results agree with torch's bit for bit.

    Args:
        parameters: the one parameter, in a sequence, as torch's optimizers take it.
        lr: step size; `param_groups` holds it and can change it.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        (self._parameter,) = parameters
        self.param_groups: list[dict[str, Any]] = [
            {"lr": lr, **_GROUP, "params": [self._parameter]}
        ]
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameter against its gradient."""
        parameter, gradient = self._parameter, self._parameter.grad
        assert gradient is not None
        kept = self.state.setdefault(parameter, {})
        if not kept:
            kept["step"] = torch.tensor(0.0, dtype=torch.float32, device="cpu")
            kept["exp_avg"] = torch.zeros_like(parameter)
            kept["exp_avg_sq"] = torch.zeros_like(parameter)
        kept["step"] += 1
        # The order of operations is torch's, because any other order rounds differently.
        first, second = BETAS
        kept["exp_avg"].lerp_(gradient, 1 - first)
        kept["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        count = kept["step"].item()
        size = self.param_groups[0]["lr"] / (1 - first**count)
        root = (1 - second**count) ** 0.5
        below = (kept["exp_avg_sq"].sqrt() / root).add_(EPSILON)
        parameter.addcdiv_(kept["exp_avg"], below, value=-size)

    def state_dict(self) -> dict[str, Any]:
        """Return the state in torch's format: the parameter is identified by its index, 0."""
        return {
            "state": dict(enumerate(self.state.values())),
            "param_groups": [{**group, "params": [0]} for group in self.param_groups],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned, here or in torch's Adam.

        The check of a checkpoint accepts only groups that differ from ours in the step size, or
        lack options that an older torch did not have.
        """
        (group,) = saved["param_groups"]
        parameter = self._parameter
        self.param_groups = [{**group, **_GROUP, "params": [parameter]}]
        self.state.clear()
        for kept in saved["state"].values():
            # The step count stays on the CPU, wherever the parameter is.
            self.state[parameter] = {
                name: value if name == "step" else value.to(parameter.device, parameter.dtype)
                for name, value in kept.items()
            }


# The optimizer of θ: our Adam, or one of torch's.
Optimizer = Adam | torch.optim.Optimizer


def make_optimizer(name: str, parameter: Tensor, lr: float) -> Optimizer:
    """Return the optimizer with this name for one parameter."""
    if name == "Adam":
        return Adam([parameter], lr=lr)
    kind: type[torch.optim.Optimizer] = getattr(torch.optim, name)
    return kind([parameter], lr=lr)  # type: ignore[call-arg]
