"""A rule as a `torch.optim.Optimizer` for an ordinary `nn.Sequential`.

Its differentiable twin, for loops written with `higher`, is in `metaplast.differentiable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.errors import UserError, require
from metaplast.learner import Learner, State
from metaplast.network import Forward, FullyConnected
from metaplast.rule import Rule

FEEDBACK = "feedback"


class RuleOptimizer(torch.optim.Optimizer):
    """Trains a model by a plasticity rule, one example at a time.

        optimizer = RuleOptimizer(model, rule)
        model(x)  # one example, [input] or [1, input]
        optimizer.step(label)  # its class index

    Forward hooks on the Linear layers keep what the model's last call saw: the input of layer ℓ
    is y_{ℓ-1}, the output of the last one is z_L. From these and the label the optimizer makes
    the rule's own error pass. No loss is backpropagated and no gradient is read. The weights of
    the feedback are in the optimizer's state, under "feedback" of each layer's weight, [pre, post]
    (direct feedback: [pre, class]), and so in its `state_dict`.

    Args:
        model: Linear layers without biases, one kind of activation between them, its output the
            logits; Flatten and Identity may occur anywhere.
        rule: what changes the weights.
        init: how the feedback's weights are drawn, "xavier" or "normal:STD".
        activation: whose σ' the synthetic input error e_0 takes in a model of a single layer, which
            has no activation of its own.
        generator: draws them; None takes a fresh one with seed 0.

    Raises:
        UserError: if the model is of another kind, or the rule does not fit it.
    """

    def __init__(
        self,
        model: nn.Module,
        rule: Rule,
        *,
        init: str = "xavier",
        activation: str = "softplus:10",
        generator: torch.Generator | None = None,
    ) -> None:
        self.learner = Learner(describe(model, init, activation), rule.feedback, rule.terms)
        layers = self.learner.network.layers
        require(
            not rule.is_per_layer or len(rule.theta) == layers,
            f"the rule has coefficients for {len(rule.theta)} layers, the model has {layers}; "
            f"give a model of as many layers.",
        )
        weights = [layer.weight for layer in linear_layers(model)]
        theta = rule.tensor(weights[0].dtype, weights[0].device)
        super().__init__(weights, {"theta": theta})
        self._signals = Signals(model)
        network, dtype = self.learner.network, weights[0].dtype
        generator = generator or torch.Generator(weights[0].device).manual_seed(0)
        drawn = self.learner.feedback.draw(network, 1, generator, dtype)
        for weight, matrix in zip(weights, drawn, strict=False):
            self.state[weight][FEEDBACK] = matrix[0].to(weight.device)

    @torch.no_grad()
    def step(self, label: Tensor | int) -> None:  # type: ignore[override]
        """Learn the example that the model was last called with.

        Args:
            label: its class index, one number.

        Raises:
            UserError: if the model has not been called, or with several examples.
        """
        group = self.param_groups[0]
        forward = self._signals.forward()
        labels = torch.as_tensor(label, device=forward.logits.device)
        require(labels.numel() == 1, f"a step takes one label, got {labels.numel()}.")
        output_error = self.learner.network.output_error(forward, labels.reshape(1, 1))
        after = learn(
            self.learner, group["theta"], group["params"],
            [self.state[weight].get(FEEDBACK) for weight in group["params"]],
            forward, output_error,
        )  # fmt: skip
        for weight, matrix in zip(group["params"], after.weights, strict=True):
            weight.copy_(matrix[0])
        for weight, matrix in zip(group["params"], after.backward, strict=False):
            self.state[weight][FEEDBACK].copy_(matrix[0])


def learn(
    learner: Learner,
    theta: Tensor,
    weights: list[Tensor],
    feedback: list[Tensor | None],
    forward: Forward,
    output_error: Tensor,
) -> State:
    """Return one network's state after learning one example; differentiable.

    Args:
        learner: network, feedback and terms.
        theta: [term] or [layer, term].
        weights: W_1 … W_L, each [post, pre].
        feedback: the feedback's own weights; None where it has none.
        forward: signals, each [1, 1, neuron].
        output_error: e_L, [1, 1, class].
    """
    state = State(
        tuple(weight[None] for weight in weights),
        tuple(matrix[None] for matrix in feedback if matrix is not None),
    )
    shape = (1, learner.network.layers, len(learner.terms))
    return learner.learn(state, theta.expand(shape), forward, output_error)


class Signals:
    """What a model's last call saw, kept by forward hooks on its Linear layers.

    Args:
        model: as `RuleOptimizer` takes it.
        differentiable: whether to keep the signals on the autograd tape.
    """

    def __init__(self, model: nn.Module, *, differentiable: bool = False) -> None:
        layers = linear_layers(model)
        self._inputs: list[Tensor | None] = [None] * len(layers)
        self._differentiable = differentiable
        self.logits: Tensor | None = None
        for index, layer in enumerate(layers):
            layer.register_forward_hook(self._keep(index))

    def _keep(self, index: int) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept = inputs[0] if self._differentiable else inputs[0].detach()
            self._inputs[index] = kept
            if index == len(self._inputs) - 1:
                self.logits = output if self._differentiable else output.detach()

        return hook

    def forward(self) -> Forward:
        """Return the signals of the last call, each [1, 1, neuron].

        Raises:
            UserError: if there was none, or it was not of one example.
        """
        inputs = [signal for signal in self._inputs if signal is not None]
        if self.logits is None or len(inputs) < len(self._inputs):
            raise UserError("a rule learns from the model's last call; call the model first.")
        require(
            inputs[0].numel() == inputs[0].shape[-1],
            f"a rule learns one example at a time, the model was last called with inputs of shape "
            f"{tuple(inputs[0].shape)}; call it with one.",
        )
        logits = self.logits.reshape(1, 1, -1)
        activities = [signal.reshape(1, 1, -1) for signal in inputs]
        return Forward((*activities, torch.softmax(logits, -1)), logits)


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """Return a model's Linear layers, the first one first."""
    return [module for module in _leaves(model) if isinstance(module, nn.Linear)]


def _leaves(model: nn.Module) -> Iterator[nn.Module]:
    for module in model.children():
        if isinstance(module, nn.Sequential):
            yield from _leaves(module)
        elif not isinstance(module, nn.Flatten | nn.Identity):
            yield module


def describe(
    model: nn.Module, init: str = "xavier", activation: str = "softplus:10"
) -> FullyConnected:
    """Return the network that a model of Linear layers is; `activation` is a single layer's.

    Raises:
        UserError: if the model is of another kind.
    """
    expected = "a rule trains an nn.Sequential of Linear layers with activations between them"
    require(
        isinstance(model, nn.Sequential), f"{expected}, got a {type(model).__name__}; write one."
    )
    leaves = list(_leaves(model))
    for place, module in enumerate(leaves):
        require(
            isinstance(module, nn.Linear) == (place % 2 == 0),
            f"{expected}, got {type(module).__name__} in place {place + 1}; take turns of Linear "
            f"and activation.",
        )
    require(len(leaves) % 2 == 1, f"{expected}, ending in a Linear layer; let the last be Linear.")
    layers = linear_layers(model)
    require(
        all(layer.bias is None for layer in layers),
        "a rule trains layers without biases, got some with; make them by Linear(…, bias=False).",
    )
    kinds = {_activation(module) for module in leaves[1::2]}
    require(
        len(kinds) < 2,
        f"a rule trains a network with one activation, got {', '.join(sorted(kinds))}; use one.",
    )
    widths = (layers[0].in_features, *(layer.out_features for layer in layers))
    return FullyConnected(widths, next(iter(kinds), activation), init)


def _activation(module: Any) -> str:
    if isinstance(module, nn.Softplus):
        return f"softplus:{float(module.beta)!r}"
    for kind, name in ((nn.Tanh, "tanh"), (nn.ReLU, "relu")):
        if isinstance(module, kind):
            return name
    raise UserError(
        f"a rule trains networks of Softplus, Tanh or ReLU, got {type(module).__name__}; "
        f"use one of these."
    )
