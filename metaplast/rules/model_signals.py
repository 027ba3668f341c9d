"""Read the signals of a model's last call without leaving anything on the model.

While at least one `ModelSignals` exists, one global forward hook is registered, which torch calls
for every module of the process; it looks up the called module by identity. So the model stays an
ordinary model: it can be copied, pickled and saved, and calling a copy does not affect the
original.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle

from metaplast.base.errors import UserError, require
from metaplast.systems.fully_connected import Forward, FullyConnected

_NO_CALL = (
    "a rule learns from the model's last call, and the model was not called since the last step; "
    "call the model first."
)
_EVALUATION = (
    "a rule learns from the model's last call in training mode, and the model is in evaluation "
    "mode; call model.train() before the call to learn from."
)
_COMPILED = (
    "a rule learns from the model's last call, and a compiled model does not show its signals; "
    "call the model itself, not compiled."
)
_INCOMPLETE = (
    "a rule learns from the model's last call, and that call did not use every layer with the "
    "weights that the optimizer trains; call the model with its own weights."
)


class Call(NamedTuple):
    """The signals of a call: the input of each layer, and the model's output."""

    inputs: tuple[Tensor, ...]
    output: Tensor


class Signals:
    """Collects the signals of a call layer by layer. Each thread has its own.

    Args:
        layers: number of layers.
        differentiable: whether to keep the signals on the autograd tape.
    """

    def __init__(self, layers: int, *, differentiable: bool = False) -> None:
        self._layers = layers
        self._differentiable = differentiable
        self._own = threading.local()

    def keep(self, index: int, signal: Tensor) -> None:
        """Keep a copy of the input of layer `index`, because the original may change in place."""
        pending: dict[int, Tensor] = self._own.__dict__.setdefault("pending", {})
        pending[index] = self._copy(signal)

    def finish(self, output: Tensor) -> None:
        """Store everything kept since the last `finish` as one call."""
        pending: dict[int, Tensor] = self._own.__dict__.pop("pending", {})
        if len(pending) < self._layers:
            self.drop(_INCOMPLETE)
        else:
            inputs = tuple(pending[index] for index in range(self._layers))
            self._own.last = Call(inputs, self._copy(output))

    def drop(self, why: str = _NO_CALL) -> None:
        """Forget the last call; `call` will give this reason."""
        self._own.last = why

    def call(self) -> Call:
        """Return the signals of the last call.

        Raises:
            UserError: if there was no call since the last `drop`.
        """
        last = getattr(self._own, "last", _NO_CALL)
        if isinstance(last, Call):
            return last
        raise UserError(last)

    def _copy(self, signal: Tensor) -> Tensor:
        signal = signal.to_dense() if signal.layout != torch.strided else signal
        return signal.clone() if self._differentiable else signal.detach().clone()


class ModelSignals(Signals):
    """The signals of an ordinary model's calls in training mode.

    Args:
        model: the model.
        layers: its Linear layers.
    """

    def __init__(self, model: nn.Module, layers: Sequence[nn.Linear]) -> None:
        super().__init__(len(layers))
        # These references keep the modules alive, so that their ids stay valid.
        self._model, self._linear = model, tuple(layers)
        self._weights = tuple(layer.weight for layer in layers)
        _watch(self, (*layers, model))

    def saw(self, place: int, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Record a call of the layer, or (last place) of the model."""
        if place == self._layers:
            if self._model.training:
                self.finish(output)
            else:
                self._own.__dict__.pop("pending", None)
        elif self._linear[place].weight is self._weights[place] and inputs:
            self.keep(place, inputs[0])

    def saw_compiled(self) -> None:
        """Record that the model was called compiled."""
        self.drop(_COMPILED)

    def call(self) -> Call:
        """Return the signals of the last call, see `Signals.call`."""
        require(getattr(self._model, "_compiled_call_impl", None) is None, _COMPILED)
        last = getattr(self._own, "last", _NO_CALL)
        require(last is not _NO_CALL or self._model.training, _EVALUATION)
        return super().call()


def forward_of(call: Call, network: FullyConnected, dtype: torch.dtype) -> Forward:
    """Return a call's signals, each [1, example, neuron].

    Raises:
        UserError: unless the model was called with [input] or [example, input].
    """
    first, widths = call.inputs[0], network.widths
    single = first.numel() == widths[0]
    examples = 1 if single else len(first)
    fits = single or first.ndim == 2
    sizes = zip((*call.inputs, call.output), widths, strict=True)
    require(
        fits and all(signal.numel() == examples * width for signal, width in sizes),
        f"a rule learns from inputs [{widths[0]}] or [example, {widths[0]}], and the model's first "
        f"layer was called with {list(first.shape)}; flatten the inputs.",
    )
    require(examples > 0, "a step takes at least one example, the model was called with none.")
    output = call.output.to(dtype).reshape(1, examples, -1)
    activities = [signal.to(dtype).reshape(1, examples, -1) for signal in call.inputs]
    return Forward((*activities, network.objective.activity(output)), output)


# For each module's id, by reader number: the reader, and the module's place in its model.
_places: dict[int, dict[int, tuple[weakref.ref[ModelSignals], int]]] = {}
_numbers = itertools.count()
_lock = threading.RLock()
_hooks: list[RemovableHandle] = []


def _watch(signals: ModelSignals, modules: Sequence[nn.Module]) -> None:
    """Report calls of modules to a `ModelSignals`, as long as it exists."""
    number = next(_numbers)
    identities = [id(module) for module in modules]
    weakref.finalize(signals, _forget, number, identities).atexit = False
    with _lock:
        for place, identity in enumerate(identities):
            _places.setdefault(identity, {})[number] = (weakref.ref(signals), place)
        if not _hooks:
            _hooks.append(register_module_forward_hook(_see))


def _forget(number: int, identities: Sequence[int]) -> None:
    with _lock:
        for identity in identities:
            _places[identity].pop(number)
            if not _places[identity]:
                del _places[identity]
        if not _places and _hooks:
            _hooks.pop().remove()


def _see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if torch.compiler.is_compiling():  # First, so that nothing below is traced.
        return
    places = _places.get(id(module))
    if places is not None:
        for reader, place in list(places.values()):
            signals = reader()
            if signals is not None:
                signals.saw(place, inputs, output)
    elif type(module).__name__ == "OptimizedModule":  # torch.compile returned it.
        for reader, _ in list(_places.get(id(getattr(module, "_orig_mod", None)), {}).values()):
            signals = reader()
            if signals is not None:
                signals.saw_compiled()
