"""A rule as a `torch.optim.Optimizer` for an ordinary `nn.Sequential`.

Its differentiable twin, for loops written with `higher`, is in `metaplast.rules.differentiable`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.base.errors import require
from metaplast.rules.model_description import describe, linear_layers
from metaplast.rules.model_signals import ModelSignals, forward_of
from metaplast.rules.optimizer_state import check_state, complete_state, identity
from metaplast.rules.optimizer_step import (
    HALF,
    computing_dtype,
    learn,
    require_factor,
    require_finite,
    strength,
    targets,
)
from metaplast.rules.rule import Rule
from metaplast.systems.constrained import constrained
from metaplast.systems.state import State

FEEDBACK = "feedback"


class RuleOptimizer(torch.optim.Optimizer):
    """Trains a model by a plasticity rule.

        optimizer = RuleOptimizer(model, rule)
        model(x)  # [input], or [example, input]
        optimizer.step(label)  # its class index, or one for each example

    The optimizer uses the signals of the model's last call in training mode: the input of layer ℓ
    is y_{ℓ-1}, the model's output is z_L. From these and the label, the rule's feedback computes
    the errors; no loss is backpropagated and no gradient is read. n examples change the weights by
    the mean of their individual changes; all signals are taken before any weight changes. Nothing
    is stored on the model: it can be copied, pickled and saved, and a copy's calls are ignored.

    The objective gives y_L and e_L: softmax(z_L) and y_L − onehot(label) for the cross-entropy; z_L
    and z_L − t for mse, whose steps take the target t, a vector [output] or [example, output].

    A layer whose weight does not require a gradient is frozen: neither its weight nor its feedback
    changes. The feedback's weights are in the optimizer's state, under "feedback" of each layer's
    weight, [pre, post] (direct feedback: [pre, class]), and therefore in its `state_dict`.

    Args:
        model: Linear layers without biases, one kind of activation between them, with logits as its
            output; Flatten and Identity may occur anywhere.
        rule: the rule by which the weights change.
        lr: a factor on the rule's θ; `torch.optim.lr_scheduler` can change it.
        init: how the feedback's weights are drawn, "xavier" or "normal:STD".
        activation: its σ' is used for the synthetic input error e_0 in a model of a single layer,
            which has no activation.
        generator: draws the feedback's weights; None uses a new one with seed 0.
        objective: the objective of the output; None uses the one that the rule's provenance names.
        weights: the constraint on the model's weights, such as "dale"; "none" for no constraint.
            None uses the one that the rule's provenance names. The first step projects weights that
            violate the constraint onto it.

    Raises:
        UserError: if the model has another structure, or the rule does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        rule: Rule,
        *,
        lr: float = 1.0,
        init: str = "xavier",
        activation: str = "softplus:10",
        generator: torch.Generator | None = None,
        objective: str | None = None,
        weights: str | None = None,
    ) -> None:
        require(isinstance(rule, Rule), f"rule must be a Rule, got a {type(rule).__name__}.")
        self.model = model
        name = objective or rule.objective_name
        network = replace(describe(model, init, activation), objective_name=name)
        self.learner = rule.learner(constrained(network, weights or rule.weights))
        layers = self.learner.network.layers
        require(
            rule.named_theta.fits(layers),
            f"the rule has coefficients for {len(rule.theta)} layers, the model has {layers}; "
            f"give a model with {len(rule.theta)} layers.",
        )
        require_factor(lr)
        parameters = [layer.weight for layer in linear_layers(model)]
        with torch.inference_mode(False):  # inference tensors could not be changed later
            theta = rule.tensor(torch.float64, parameters[0].device)
            super().__init__(parameters, {"lr": lr, "theta": theta, "rule": identity(self.learner)})
            self._draw_feedback(parameters, generator)
        self._watch()
        self._warn_of_coarse_weights(parameters[0].dtype, stacklevel=3)

    def step(  # type: ignore[override]
        self, label: Any = None, *, closure: Callable[[], Any] | None = None
    ) -> Any:
        """Learn from the model's last call in training mode; each call can be learned from once.

        Args:
            label: the example's class, a whole number or a vector of probabilities; after a call
                with [n, input], n classes, or probabilities [n, class]. With the objective mse, a
                vector [output], or n of them, [n, output]. A function is taken as the closure.
            closure: a function that calls the model and returns the label.

        Returns:
            The closure's result; None without a closure.

        Raises:
            UserError: if the model has not been called since the last step, the label is invalid,
                the model is no longer the one that the optimizer was made for, or weights would not
                be finite; nothing is changed then.
        """
        if callable(label):
            require(closure is None, "a step takes one closure, got two; give one.")
            label, closure = None, label
        if closure is None:
            self._learn(label)
            return None
        require(label is None, "a step takes a label or a closure, got both; give one of them.")
        self._signals.drop()
        with torch.enable_grad():
            returned = closure()
        self._learn(returned)
        return returned

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse all parameters except the model's weights, which the constructor passes."""
        require(
            not self.param_groups,
            "a RuleOptimizer trains only the weights of its model; make another optimizer for "
            "other parameters.",
        )
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the feedback's weights and `lr` from a `state_dict` of the same rule.

        Raises:
            UserError: if the state is from another rule or network; the message says what differs.
        """
        group = self.param_groups[0]
        feedback = [self.state[weight].get(FEEDBACK) for weight in group["params"]]
        saved = check_state(state_dict, group, {FEEDBACK: feedback})
        require_factor(saved.get("lr", 1.0))
        super().load_state_dict(complete_state(state_dict, group))
        # θ is the same; the state's copy may have lower precision or be on another device.
        self.param_groups[0]["theta"] = group["theta"]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which includes a copy of the model."""
        return {**super().__getstate__(), "model": self.model, "learner": self.learner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy; `load_state_dict` also calls this, with fewer entries."""
        super().__setstate__(state)
        if "model" in state:
            self._watch()

    def _watch(self) -> None:
        self._warned = False
        self._signals = ModelSignals(self.model, linear_layers(self.model))

    def _draw_feedback(self, weights: list[Tensor], generator: torch.Generator | None) -> None:
        require(
            generator is None or isinstance(generator, torch.Generator),
            f"generator must be a torch.Generator, got a {type(generator).__name__}; make one with "
            f"torch.Generator().manual_seed(0).",
        )
        generator = generator or torch.Generator(weights[0].device).manual_seed(0)
        dtype = computing_dtype(weights[0].dtype)
        own = State.stack([weight[None] for weight in weights])
        drawn = self.learner.system.complete(own, 1, generator, dtype)
        for weight, matrix in zip(weights, drawn.backward, strict=False):
            self.state[weight][FEEDBACK] = matrix[0].to(weight)

    def _warn_of_coarse_weights(self, dtype: torch.dtype, stacklevel: int) -> None:
        if dtype in HALF and not self._warned:
            self._warned = True
            warnings.warn(
                f"the model's weights are {dtype}: changes below about "
                f"{torch.finfo(dtype).eps / 2:.1g} of a weight are lost in rounding; keep the "
                f"weights in float32, and use torch.autocast for speed.",
                stacklevel=stacklevel,
            )

    def _learn(self, label: Any) -> None:
        weights = self._weights()
        self._warn_of_coarse_weights(weights[0].dtype, stacklevel=5)  # torch wraps `step`
        call = self._signals.call()
        network, dtype = self.learner.network, computing_dtype(weights[0].dtype)
        with torch.no_grad(), torch.autocast(weights[0].device.type, enabled=False):
            forward = forward_of(call, network, dtype)
            target = targets(label, forward, network.objective)
            after = learn(
                self.learner, strength(self.param_groups[0], weights[0], dtype),
                [weight.to(dtype) for weight in weights],
                [None if matrix is None else matrix.to(dtype) for matrix in self._feedback()],
                forward, network.error_of(target),
            )  # fmt: skip
            require_finite(after, weights[0].dtype)
            self._store(after)
        self._signals.drop()

    def _weights(self) -> list[Tensor]:
        """Return the weights, after checking that the model still uses them."""
        own = self.learner.network
        described = describe(self.model, own.init, own.activation)
        network = replace(
            described, feedback_name=own.feedback_name, objective_name=own.objective_name
        )
        weights: list[Tensor] = self.param_groups[0]["params"]
        now = [layer.weight for layer in linear_layers(self.model)]
        require(
            network == own and all(a is b for a, b in zip(weights, now, strict=True)),
            "the model's layers, weights or activation were replaced after the optimizer was made; "
            "make a new RuleOptimizer for it.",
        )
        return weights

    def _feedback(self) -> list[Tensor | None]:
        """Return the feedback's weights, moved to the model's current device."""
        found: list[Tensor | None] = []
        for weight in self.param_groups[0]["params"]:
            kept = self.state[weight]
            if FEEDBACK in kept:
                kept[FEEDBACK] = kept[FEEDBACK].to(weight)
            found.append(kept.get(FEEDBACK))
        return found

    def _store(self, after: State) -> None:
        """Change the weights, and the feedback, of all layers that are not frozen."""
        weights = self.param_groups[0]["params"]
        for weight, matrix in zip(weights, after.weights, strict=True):
            if weight.requires_grad:
                weight.copy_(matrix[0])
        for weight, matrix in zip(weights, after.backward, strict=False):
            if weight.requires_grad:
                self.state[weight][FEEDBACK].copy_(matrix[0])
