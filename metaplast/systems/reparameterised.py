"""The factors of the reparameterised rules at fixed points: products with W, without an inverse."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from metaplast.terms.algebra import Signal, post, pre
from metaplast.terms.operator import Operator

# Left and right factor of each rule.
LINEARISED = post.signal("linearised_error"), pre.signal("linearised_rate")
UNGATED = post.signal("ungated_error"), pre.signal("ungated_rate")


class AtRest(NamedTuple):
    """The network at its fixed points, each [episode, sample, neuron].

    Attributes:
        rates: r = f(W r + W_x x); 0 where there is no fixed point.
        gain: G, the diagonal of f′(W r + W_x x).
        exists: 1 where there is a fixed point, else 0, [episode, sample, 1].
    """

    rates: Tensor
    gain: Tensor
    exists: Tensor


def linearised(operator: Operator, rest: AtRest, gradient: Tensor) -> dict[Signal, Tensor]:
    """Return (I − W G) G ∇ and (I − G W)ᵀ (I − G W) r."""
    local = rest.gain * gradient
    inner = rest.rates - rest.gain * operator.matmul(rest.rates)
    left, right = LINEARISED
    return {
        left: local - operator.matmul(rest.gain * local),
        right: inner - operator.transposed(rest.gain * inner),
    }


def ungated(operator: Operator, rest: AtRest, gradient: Tensor) -> dict[Signal, Tensor]:
    """Return (I − W G) ∇ and (I − W G)ᵀ (I − W G) r."""
    inner = rest.rates - operator.matmul(rest.gain * rest.rates)
    left, right = UNGATED
    return {
        left: gradient - operator.matmul(rest.gain * gradient),
        right: inner - rest.gain * operator.transposed(inner),
    }
