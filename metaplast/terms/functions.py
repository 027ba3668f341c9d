"""Elementwise functions of signals: square, cube, sign, rectification, magnitude.

Each maps 0 to 0, so that zero signals stay zero: those of an input pixel that is always zero, or of
an occurrence that a system skips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor


@dataclass(frozen=True)
class Function:
    """An elementwise function f with f(0) = 0.

    Attributes:
        name: its key in files.
        apply: f in torch; its gradient is that of autograd, 0 where f has a kink.
        written: the text as a user writes it; `{0}` is the signal.
        text: its form in Unicode.
        ascii: its form in ASCII.
        latex: its form in LaTeX.
        code: its form in NumPy, torch and JAX; `{xp}` is the library.
        letters: what it adds to the letter of a signal in names of generated terms.
        words: its form in summaries.
        power: the exponent if it is a power, else 0.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    written: str
    text: str
    ascii: str
    latex: str
    code: str
    letters: str
    words: str
    power: int = 0


def _square(x: Tensor) -> Tensor:
    return x * x


def _cube(x: Tensor) -> Tensor:
    return x * x * x


_ALL = (
    Function("same", lambda x: x, "{0}", "{0}", "{0}", "{0}", "{0}", "", "{0}", power=1),
    Function(
        "square", _square, "{0}**2", "{0}²", "{0}^2", "{0}^{{2}}", "{0}**2", "2",
        "squared {0}", power=2,
    ),
    Function(
        "cube", _cube, "{0}**3", "{0}³", "{0}^3", "{0}^{{3}}", "{0}**3", "3", "cubed {0}",
        power=3,
    ),
    Function(
        "sign", torch.sign, "sign({0})", "sign({0})", "sign({0})", r"\operatorname{{sign}}({0})",
        "{xp}.sign({0})", "sign", "sign of the {0}",
    ),
    Function(
        "rectified", torch.relu, "rectified({0})", "[{0}]₊", "[{0}]_+", "[{0}]_{{+}}",
        "{xp}.clip({0}, 0.0, None)", "plus", "rectified {0}",
    ),
    Function(
        "magnitude", torch.abs, "magnitude({0})", "|{0}|", "|{0}|", r"\lvert {0} \rvert",
        "{xp}.abs({0})", "abs", "magnitude of the {0}",
    ),
)  # fmt: skip
FUNCTIONS: Mapping[str, Function] = MappingProxyType({each.name: each for each in _ALL})
# The exponents of powers by name, and their names by exponent.
POWERS: Mapping[int, str] = MappingProxyType({f.power: f.name for f in _ALL if f.power})
