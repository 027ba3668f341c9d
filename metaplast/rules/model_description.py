"""Describe an ordinary `nn.Sequential` as a network; refuse models that a rule cannot train."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from metaplast.base.errors import UserError, require
from metaplast.systems.fully_connected import FullyConnected

_EXPECTED = "a rule trains an nn.Sequential of Linear layers with activations between them"
_KINDS = (nn.Sequential, nn.Linear, nn.Softplus, nn.Tanh, nn.ReLU, nn.Flatten, nn.Identity)
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# torch's default. With this threshold or more, Softplus deviates from its formula by less than
# exp(-20)/β.
_LEAST_THRESHOLD = 20.0


def describe(
    model: nn.Module, init: str = "xavier", activation: str = "softplus:10"
) -> FullyConnected:
    """Return the network that a model of Linear layers implements.

    Args:
        model: Linear layers without biases, one kind of activation between them; Flatten and
            Identity may occur anywhere, Sequentials may be nested.
        init: how the network draws weights.
        activation: the activation to assume for a model of a single layer, which has no activation.

    Raises:
        UserError: if the model has another structure.
    """
    require(
        isinstance(model, nn.Sequential),
        f"{_EXPECTED}, got a {type(model).__name__}; give the Sequential itself.",
    )
    for module in _used(model):
        _check_forward(module)
    places = list(_leaves(model))
    for place, module in enumerate(places):
        require(
            isinstance(module, nn.Linear) == (place % 2 == 0),
            f"{_EXPECTED}, got {type(module).__name__} as number {place + 1}; alternate Linear "
            f"layers and activations, and end with a Linear layer, whose output is the logits.",
        )
    require(
        len(places) % 2 == 1,
        f"{_EXPECTED}; end with a Linear layer, whose output is the logits.",
    )
    layers = linear_layers(model)
    _check_layers(layers)
    kinds = {_activation(module) for module in places[1::2]}
    require(
        len(kinds) < 2,
        f"a rule trains a network with one activation, got {', '.join(sorted(kinds))}; use one.",
    )
    widths = (layers[0].in_features, *(layer.out_features for layer in layers))
    return FullyConnected(widths, next(iter(kinds), activation), init)


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """Return a model's Linear layers in order; a layer used twice appears twice."""
    return [module for module in _leaves(model) if isinstance(module, nn.Linear)]


def _leaves(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the Linear layers and the activations, in order."""
    skipped = nn.Sequential | nn.Flatten | nn.Identity
    return (module for module in _used(model) if not isinstance(module, skipped))


def _used(model: nn.Module) -> Iterator[nn.Module]:
    """Yield all modules in order of use; `modules()` would yield a repeated module only once."""
    yield model
    if isinstance(model, nn.Sequential):
        for module in model._modules.values():
            if module is not None:
                yield from _used(module)


def _check_forward(module: nn.Module) -> None:
    """Raise `UserError` if a module of a known kind computes something different."""
    kind = next((kind for kind in _KINDS if isinstance(module, kind)), None)
    if kind is None:
        return
    require(
        type(module).forward is kind.forward
        and type(module).__call__ is nn.Module.__call__
        and "forward" not in vars(module),
        f"a rule knows what an nn.{kind.__name__} computes, got a {type(module).__name__} with a "
        f"forward of its own; give a plain nn.{kind.__name__}.",
    )


def _check_layers(layers: list[nn.Linear]) -> None:
    require(
        all(layer.bias is None for layer in layers),
        "a rule trains layers without biases, got some with biases; make them with "
        "Linear(…, bias=False).",
    )
    weights = [_weight(layer) for layer in layers]
    require(
        len({id(weight) for weight in weights}) == len(weights),
        "a rule trains each weight in one place, got a Linear layer or its weight used twice; give "
        "each place a layer of its own.",
    )
    kinds = {(str(weight.dtype).removeprefix("torch."), str(weight.device)) for weight in weights}
    listed = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
    require(
        len(kinds) == 1 and weights[0].dtype in _DTYPES and weights[0].device.type != "meta",
        f"a rule trains floating-point weights of one dtype on one device, got {listed}; move the "
        f"whole model with model.to(…).",
    )


def _weight(layer: nn.Linear) -> Tensor:
    weight = layer._parameters.get("weight")
    if weight is None or hasattr(layer, "parametrizations"):
        raise UserError(
            "a rule changes a layer's weight itself, got a weight computed from other parameters "
            "(weight_norm, prune, a parametrization); remove that from the layer."
        )
    require(
        not nn.parameter.is_lazy(weight),
        "a rule trains layers that have their weights, got one without; call the model once "
        "before you make the optimizer.",
    )
    require(
        not weight.is_inference(),
        "a rule changes weights in place, got one made in torch.inference_mode(); make the model "
        "outside of it.",
    )
    return weight


def _activation(module: nn.Module) -> str:
    if isinstance(module, nn.Softplus):
        require(
            float(module.threshold) >= _LEAST_THRESHOLD,
            f"a rule trains networks of Softplus with a threshold of at least "
            f"{_LEAST_THRESHOLD:g}, got {float(module.threshold):g}; leave it at its default.",
        )
        return f"softplus:{float(module.beta)!r}"
    for kind, name in ((nn.Tanh, "tanh"), (nn.ReLU, "relu")):
        if isinstance(module, kind):
            return name
    raise UserError(
        f"a rule trains networks of Softplus, Tanh or ReLU, got {type(module).__name__}; "
        f"use one of these."
    )
