"""Rules in loops written with `higher`: importing this registers `RuleOptimizer`'s twin.

    import metaplast.rules.differentiable
    optimizer = metaplast.RuleOptimizer(model, rule)
    with higher.innerloop_ctx(model, optimizer, override={"theta": [theta]}) as (fmodel, diffopt):
        for x, label in examples:
            diffopt.step(torch.nn.functional.cross_entropy(fmodel(x), label))

The loss is differentiated only with respect to the model's output: for the cross-entropy of one
example, or for half its squared error, that gradient is e_L. The rule computes all other errors
itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.base.errors import UserError, require
from metaplast.rules.model_description import linear_layers
from metaplast.rules.model_signals import Signals, forward_of
from metaplast.rules.optimizer import FEEDBACK, RuleOptimizer
from metaplast.rules.optimizer_step import learn, strength

with warnings.catch_warnings():
    # higher 0.2.1 (the last release) uses names that newer torch versions deprecate.
    warnings.simplefilter("ignore")
    import higher

__all__ = ["DifferentiableRuleOptimizer", "SignalOptimizer", "higher"]


class SignalOptimizer(higher.optim.DifferentiableOptimizer):  # type: ignore[misc]
    """A differentiable optimizer that changes parameters by signals, not by gradients."""

    def step_by(self, signals: Any, **options: Any) -> list[Tensor]:
        """Update the parameters; `_update` receives `signals`, one for each parameter.

        The loss is zero: at every step, higher would differentiate a real loss through the whole
        unroll so far, so T steps would cost T².
        """
        nothing = torch.zeros((), dtype=torch.float32, device="cpu", requires_grad=True)
        options["grad_callback"] = lambda _: signals
        updated: list[Tensor] = super().step(nothing, **options)
        return updated


class DifferentiableRuleOptimizer(SignalOptimizer):
    """The twin of `RuleOptimizer`: weights and feedback stay functions of θ.

    `override={"theta": [theta]}` replaces the rule's θ by a tensor that requires a gradient, [term]
    or [layer, term]; `"lr"` can be overridden likewise. Layers whose weight did not require a
    gradient when the twin was made are frozen, as in `RuleOptimizer`.

    Raises:
        UserError: if there is no patched model, or the override sets anything else.
    """

    def __init__(
        self,
        other: RuleOptimizer,
        reference_params: Iterable[nn.Parameter],
        fmodel: nn.Module | None = None,
        device: torch.device | None = None,
        override: Mapping[str, Sequence[Any]] | None = None,
        *arguments: Any,
        **options: Any,
    ) -> None:
        if fmodel is None:
            raise UserError(
                "a differentiable rule reads its signals from the patched model; give fmodel, or "
                "use higher.innerloop_ctx."
            )
        _check(override)
        super().__init__(other, reference_params, fmodel, device, override, *arguments, **options)
        self._learner = other.learner
        self._frozen = [not weight.requires_grad for weight in other.param_groups[0]["params"]]
        layers = linear_layers(fmodel)
        self._signals = Signals(len(layers), differentiable=True)
        self._logits: Tensor | None = None
        # The patched model belongs to `higher` and lives as long as this twin.
        for index, layer in enumerate(layers):
            layer.register_forward_hook(self._keep(index, index == len(layers) - 1))

    def _keep(self, index: int, is_last: bool) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._signals.keep(index, inputs[0])
            if is_last:
                self._signals.finish(output)
                self._logits = output

        return hook

    def step(self, loss: Tensor, *arguments: Any, **options: Any) -> list[Tensor]:
        """Learn the example of the patched model's last call, and return its new parameters.

        Args:
            loss: the loss of the model's output for one example: the cross-entropy, or the rule's
                own loss.
            arguments: passed on to `higher`, like `options`.
            options: passed on to `higher`.

        Raises:
            UserError: if the loss is not a function of the model's last output, the model was not
                called with one example, or the override sets anything but theta and lr.
        """
        names = ("params", "override", "grad_callback")
        options |= dict(zip(names, arguments, strict=False))
        _check(options.get("override"))
        call = self._signals.call()
        forward = forward_of(call, self._learner.network, call.output.dtype)
        examples = forward.output.shape[1]
        require(
            examples == 1,
            f"the twin learns one example at a time, the model was last called with {examples}; "
            f"call it with one.",
        )
        self._met = forward, self._error(loss).reshape(1, 1, -1)
        self._signals.drop()
        return self.step_by([None] * len(self.param_groups[0]["params"]), **options)

    def _error(self, loss: Any) -> Tensor:
        """Return e_L, the gradient of the loss with respect to the last call's output."""
        error = None
        is_loss = isinstance(loss, Tensor) and loss.requires_grad and loss.numel() == 1
        if is_loss and self._logits is not None:
            (error,) = torch.autograd.grad(
                loss, self._logits, create_graph=self._track_higher_grads, allow_unused=True,
            )  # fmt: skip
        if error is None:
            raise UserError(
                "a step takes the loss of the model's last output, got one that does not depend on "
                "it; compute it from what the model has just returned."
            )
        return error

    def _update(self, grouped_grads: Any, **_: Any) -> None:
        group, kept = self.param_groups[0], self.state[0]
        places = range(len(group["params"]))
        feedback = [kept[place].get(FEEDBACK) for place in places]
        forward, error = self._met
        theta = strength(group, group["params"][0], forward.output.dtype)
        after = learn(self._learner, theta, group["params"], feedback, forward, error)
        for place, matrix in zip(places, after.weights, strict=True):
            if not self._frozen[place]:
                group["params"][place] = matrix[0]
        for place, matrix in zip(places, after.backward, strict=False):
            if not self._frozen[place]:
                new = matrix[0] if self._track_higher_grads else matrix[0].detach()
                kept[place][FEEDBACK] = new

    @torch.no_grad()
    def copy_to(self, optimizer: RuleOptimizer) -> None:
        """Copy the fast weights and the feedback into an ordinary optimizer and its model.

        The optimizer keeps its θ and `lr`.

        Args:
            optimizer: one with the twin's network and feedback, such as the one from which the twin
                was made.

        Raises:
            UserError: if the network or the feedback differs.
        """
        own, other = self._learner, optimizer.learner
        require(
            own.network.widths == other.network.widths and own.feedback_name == other.feedback_name,
            f"the twin has widths {list(own.network.widths)} and {own.feedback_name} feedback, the "
            f"optimizer {list(other.network.widths)} and {other.feedback_name}; give an optimizer "
            f"with the same.",
        )
        fast, places = list(self._fmodel.parameters()), self._group_to_param_list[0]
        weights = optimizer.param_groups[0]["params"]
        for place, (weight, index) in enumerate(zip(weights, places, strict=True)):
            weight.copy_(fast[index])
            if FEEDBACK in self.state[0][place]:
                optimizer.state[weight][FEEDBACK].copy_(self.state[0][place][FEEDBACK])


def _check(override: Any) -> None:
    """Raise `UserError` unless an override sets theta or lr, each in a one-element list."""
    if override is None:
        return
    require(
        isinstance(override, Mapping)
        and set(override) <= {"theta", "lr"}
        and all(
            isinstance(values, list | tuple) and len(values) == 1 for values in override.values()
        ),
        f"override takes theta and lr, each in a list of one, as in {{'theta': [theta]}}, got "
        f"{_shown(override)}; write it like that.",
    )


def _shown(override: Any) -> str:
    if not isinstance(override, Mapping):
        return f"a {type(override).__name__}"
    parts = (f"{name!r}: a {type(values).__name__}" for name, values in override.items())
    return f"{{{', '.join(parts)}}}"


higher.register_optim(RuleOptimizer, DifferentiableRuleOptimizer)
