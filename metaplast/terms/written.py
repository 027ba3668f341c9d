"""Errors for every operation that the algebra does not define, each one sentence.

Python calls these methods if a part of a formula does not define an operation, so the traceback
ends at the user's mistake. Operations with tensors and NumPy functions also end here.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NoReturn

import numpy as np

from metaplast.base.errors import UserError

WORKS = (
    "a formula is a sum of numbers times outer(…), W or B, such as "
    "-outer(post.error, pre.activity) + 0.5 * dot(post.error, post.error) * -W"
)


class FormulaError(UserError, TypeError):
    """A formula that is not a sum of monomials; raised where the term is written."""


def factor_of(value: object) -> float:
    """Return a number as a formula's factor.

    Raises:
        FormulaError: if `value` is not a finite real number; a bool is invalid.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise FormulaError(
            f"a formula is multiplied by a finite number or a gate, got {spelled(value)}; "
            f"write 0.5 * outer(post.activity, pre.activity), and a tensor as float(…)."
        )
    return float(value)


def spelled(part: object) -> str:
    """Return a part as a user wrote it; describe anything else by its type."""
    name = getattr(part, "written", None)
    if isinstance(name, str):
        return name
    if part is None or isinstance(part, bool | int | float | complex | str):
        return repr(part)[:60]
    return f"a {type(part).__name__}"


def _binary(symbol: str, *, reflected: bool = False) -> Any:
    def refuse(self: Part, other: object, *_: object) -> NoReturn:
        left, right = (other, self) if reflected else (self, other)
        self.refuse(f"{spelled(left)} {symbol} {spelled(right)}")

    return refuse


def _unary(text: str) -> Any:
    def refuse(self: Part, *_: object) -> NoReturn:
        self.refuse(text.format(spelled(self)))

    return refuse


class Part:
    """A part of a formula: it refuses the operations that its kind does not define."""

    @property
    def written(self) -> str:
        """The part as a user writes it."""
        return f"a {type(self).__name__}"

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return WORKS

    def refuse(self, operation: str) -> NoReturn:
        """Raise `FormulaError` for an operation that the algebra does not define.

        Raises:
            FormulaError: always.
        """
        raise FormulaError(
            f"{operation} is not a formula: {self.hint}; write any other function of the signals "
            f"as a DenseFormula."
        )

    __add__, __radd__ = _binary("+"), _binary("+", reflected=True)
    __sub__, __rsub__ = _binary("-"), _binary("-", reflected=True)
    __mul__, __rmul__ = _binary("*"), _binary("*", reflected=True)
    __truediv__, __rtruediv__ = _binary("/"), _binary("/", reflected=True)
    __floordiv__, __rfloordiv__ = _binary("//"), _binary("//", reflected=True)
    __mod__, __rmod__ = _binary("%"), _binary("%", reflected=True)
    __pow__, __rpow__ = _binary("**"), _binary("**", reflected=True)
    __matmul__, __rmatmul__ = _binary("@"), _binary("@", reflected=True)
    __and__, __rand__ = _binary("&"), _binary("&", reflected=True)
    __or__, __ror__ = _binary("|"), _binary("|", reflected=True)
    __lt__, __le__, __gt__, __ge__ = (_binary(symbol) for symbol in ("<", "<=", ">", ">="))
    __getitem__ = _binary("indexed by")
    __neg__, __pos__ = _unary("-{}"), _unary("+{}")
    __abs__, __invert__ = _unary("abs({})"), _unary("~{}")
    __float__, __int__ = _unary("float({})"), _unary("int({})")
    __bool__ = _unary("the truth of {}")

    def __array_ufunc__(
        self, function: np.ufunc, method: str, *arguments: object, **_: object
    ) -> Any:
        """Multiply by a NumPy number; refuse all other NumPy operations.

        Raises:
            FormulaError: for any other operation.
        """
        if function is np.multiply and method == "__call__":
            left, right = arguments
            return self * (left if right is self else right)
        self.refuse(f"NumPy's {function.__name__} of {spelled(self)}")

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: Any = None
    ) -> NoReturn:
        """Refuse torch's functions and operations with tensors.

        Raises:
            FormulaError: always.
        """
        part = next(a for a in (*arguments, *(options or {}).values()) if isinstance(a, Part))
        name = getattr(function, "__name__", "a torch function")
        part.refuse(f"torch's {name} of {spelled(part)}")
