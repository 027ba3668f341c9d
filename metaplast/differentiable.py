"""Rules in loops written with `higher`: importing this registers `RuleOptimizer`'s twin.

    import metaplast.differentiable
    optimizer = metaplast.RuleOptimizer(model, rule)
    with higher.innerloop_ctx(model, optimizer, override={"theta": [theta]}) as (fmodel, diffopt):
        for x, label in examples:
            diffopt.step(torch.nn.functional.cross_entropy(fmodel(x), label))

The loss is differentiated to the model's output alone: for the cross-entropy of one example that
gradient is e_L. All other errors are the rule's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.errors import UserError
from metaplast.optimizer import FEEDBACK, RuleOptimizer, Signals, learn

with warnings.catch_warnings():
    # higher 0.2.1 (the last release) touches names that newer torch deprecates.
    warnings.simplefilter("ignore")
    import higher

__all__ = ["DifferentiableRuleOptimizer", "SignalOptimizer", "higher"]


class SignalOptimizer(higher.optim.DifferentiableOptimizer):  # type: ignore[misc]
    """A differentiable optimizer that changes parameters by signals, not by gradients."""

    def step_by(self, signals: Any, **options: Any) -> list[Tensor]:
        """Update the parameters; `_update` gets `signals`, one for each parameter.

        A loss of nothing keeps higher from differentiating the unroll so far at every step, which
        would cost T².
        """
        nothing = torch.zeros((), dtype=torch.float32, device="cpu", requires_grad=True)
        options["grad_callback"] = lambda _: signals
        updated: list[Tensor] = super().step(nothing, **options)
        return updated


class DifferentiableRuleOptimizer(SignalOptimizer):
    """The twin of `RuleOptimizer`: weights and feedback stay functions of θ.

    `override={"theta": [theta]}` puts a θ that requires gradient, [term] or [layer, term], in the
    place of the rule's.
    """

    def __init__(
        self,
        other: RuleOptimizer,
        reference_params: Iterable[nn.Parameter],
        fmodel: nn.Module | None = None,
        *arguments: Any,
        **options: Any,
    ) -> None:
        if fmodel is None:
            raise UserError(
                "a differentiable rule reads its signals off the patched model; give fmodel, or "
                "use higher.innerloop_ctx."
            )
        super().__init__(other, reference_params, fmodel, *arguments, **options)
        self._learner = other.learner
        self._signals = Signals(fmodel, differentiable=True)

    def step(self, loss: Tensor, *arguments: Any, **options: Any) -> list[Tensor]:
        """Learn the example of the patched model's last call; see `higher` for the arguments.

        Args:
            loss: cross-entropy of the model's output for one example.
            arguments: passed on.
            options: passed on.

        Raises:
            UserError: if the loss is not a function of the model's last output, or the model was
                not called with one example.
        """
        forward = self._signals.forward()
        error = None
        if loss.requires_grad and self._signals.logits is not None:
            (error,) = torch.autograd.grad(
                loss, self._signals.logits, create_graph=self._track_higher_grads,
                allow_unused=True,
            )  # fmt: skip
        if error is None:
            raise UserError(
                "a step takes the loss of the model's last output, got one that does not depend on "
                "it; compute it from what the model has just returned."
            )
        names = ("params", "override", "grad_callback")
        options |= dict(zip(names, arguments, strict=False))
        self._met = forward, error.reshape(1, 1, -1)
        return self.step_by([None] * len(self.param_groups[0]["params"]), **options)

    def _update(self, grouped_grads: Any, **_: Any) -> None:
        group, kept = self.param_groups[0], self.state[0]
        places = range(len(group["params"]))
        feedback = [kept[place].get(FEEDBACK) for place in places]
        after = learn(self._learner, group["theta"], group["params"], feedback, *self._met)
        group["params"][:] = [matrix[0] for matrix in after.weights]
        for place, matrix in zip(places, after.backward, strict=False):
            kept[place][FEEDBACK] = matrix[0] if self._track_higher_grads else matrix[0].detach()


higher.register_optim(RuleOptimizer, DifferentiableRuleOptimizer)
