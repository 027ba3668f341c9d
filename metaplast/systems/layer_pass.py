"""One layer of an `nn.Sequential` at one input, with the products that predictive coding needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm

from metaplast.base.errors import UserError, require, sentence, shown
from metaplast.base.tensors import type_name
from metaplast.systems.layer_difference import Base, hooks


class Layer:
    """A layer f_ℓ of a model.

    Args:
        module: the layer.
        number: ℓ, counted from 1.
    """

    def __init__(self, module: nn.Module, number: int) -> None:
        self.module = module
        self.name = f"layer {number} ({type(module).__name__})"

    def at(self, given: Tensor, *, clamped: bool = False) -> LayerPass:
        """Return the layer's pass over an input; no error is carried back to a clamped input."""
        # Copied, because the layer may work in place.
        leaf = given.detach().clone()
        if not clamped:
            leaf.requires_grad_()
        with explained(f"{self.name} cannot be called with its input", "give it one that it takes"):
            return LayerPass(self, leaf, self.module(leaf if clamped else leaf.clone()))

    def steady_at(self, given: Tensor) -> LayerPass:
        """Return the same as `at`, for a layer that is called again in every sweep.

        Raises:
            UserError: if the layer draws random numbers, so that its output differs from call to
                call.
        """
        is_lazy = any(map(nn.parameter.is_lazy, self.module.parameters()))
        before = _random_states(given.device)
        found = self.at(given)
        steady = all(map(torch.equal, before, _random_states(given.device)))
        require(
            steady or is_lazy,  # A lazy layer draws its weights at its first call.
            f"strict calls each layer in every sweep, but {self.name} draws random numbers at each "
            f"call; use fixed or exact.",
        )
        return found

    def base(self, given: Tensor) -> Base:
        """Return the layer at `given`, ready to compute how its output changes with its input."""
        return Base(self.module, given.detach())

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters to train."""
        return [p for p in self.module.parameters() if p.requires_grad]


class LayerPass:
    """A layer's output at one input, with the graph between them."""

    def __init__(self, layer: Layer, given: Tensor, output: Any) -> None:
        require(
            isinstance(output, Tensor) and output.is_floating_point(),
            f"{layer.name} must return one floating-point tensor, got {_shown(output)}; nest it in "
            f"a module that does.",
        )
        if given.requires_grad and not output.requires_grad:
            raise _fixed(layer)
        self._layer, self._given, self._graph = layer, given, output
        self.output = output.detach()

    def back(self, error: Tensor) -> Tensor:
        """Return Jᵀ ε, shaped like the layer's input."""
        (found,) = self._grad([self._given], error)
        if found is None:
            raise _fixed(self._layer)
        return found

    def add_gradients(self, error: Tensor) -> None:
        """Add (∂f/∂parameters)ᵀ ε to `.grad` of the parameters."""
        parameters = self._layer.parameters
        if parameters and self._graph.requires_grad:
            with self._differentiated():
                torch.autograd.backward(self._graph, error, retain_graph=True, inputs=parameters)

    def _grad(self, leaves: Iterable[Tensor], error: Tensor) -> tuple[Tensor | None, ...]:
        with self._differentiated():
            return torch.autograd.grad(
                self._graph, list(leaves), error, retain_graph=True, allow_unused=True
            )

    def _differentiated(self) -> AbstractContextManager[None]:
        return explained(f"{self._layer.name} cannot be differentiated", "replace it")


@contextmanager
def explained(what: str, mend: str) -> Iterator[None]:
    """Turn an error that torch raises in a user's module or loss into a `UserError`."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as failed:
        why = " ".join(sentence(failed).split()).rstrip(".").replace(". ", "; ")
        raise UserError(f"{what} ({shown(why)}); {mend}.") from failed


def _random_states(device: torch.device) -> list[Tensor]:
    """Return the states of torch's global generators, from which a module may draw."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _fixed(layer: Layer) -> UserError:
    return UserError(
        f"{layer.name} cannot be differentiated: its output has no gradient with respect to its "
        f"input; replace it."
    )


def _shown(output: object) -> str:
    return f"one of {output.dtype}" if isinstance(output, Tensor) else type_name(output)


def layers_of(model: object, *, repeated: bool) -> list[Layer]:
    """Return the layers of a plain `nn.Sequential`.

    Args:
        model: the user's model.
        repeated: whether every layer is called several times for one example.

    Raises:
        UserError: if the model is not a plain `nn.Sequential`; has hooks, no layer, nothing to
            train or parameters made in inference mode; or, with `repeated`, has a layer whose
            output differs from call to call.
    """
    require(
        isinstance(model, nn.Sequential)
        and type(model).forward is nn.Sequential.forward
        and "forward" not in vars(model),
        f"predictive coding takes a plain nn.Sequential, whose modules are the layers, got "
        f"{type_name(model)}; write the model as one.",
    )
    assert isinstance(model, nn.Sequential)
    require(len(model) > 0, "predictive coding takes at least one layer, got an empty Sequential.")
    require(
        not any(hooks(model)),
        "predictive coding calls the modules of a model one by one and not the model itself, whose "
        "hooks would not run; register them on its modules.",
    )
    parameters = [p for p in model.parameters() if not nn.parameter.is_lazy(p)]
    require(
        not any(p.is_inference() for p in parameters),
        "predictive coding trains parameters, got some made in torch.inference_mode(); make the "
        "model outside of it.",
    )
    require(
        any(p.requires_grad for p in model.parameters()),
        "predictive coding trains parameters that require gradient, got a model that has none; "
        "call model.requires_grad_().",
    )
    layers = [Layer(module, number) for number, module in enumerate(model, 1)]
    for layer in layers if repeated else ():
        for module in layer.module.modules():
            require(
                not _changes(module),
                f"strict calls each layer in every sweep, but {type(module).__name__} in "
                f"{layer.name} draws random numbers or updates statistics at each call in "
                f"training mode; call its eval(), or use fixed or exact.",
            )
    return layers


def _changes(module: nn.Module) -> bool:
    """Return whether a module's output or state changes from call to call."""
    if not module.training:
        return False
    if isinstance(module, parametrizations._SpectralNorm):
        return True
    if any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values()):
        return True
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats
    return isinstance(module, nn.RReLU)
