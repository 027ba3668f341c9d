"""The interface of workers, which compute calls elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any


class Workers(ABC):
    """Computes calls elsewhere. A call that is lost with its worker is computed again."""

    @abstractmethod
    def map(self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the function's results, in the order of the calls.

        Args:
            function: a module-level function without side effects, so that it may be repeated.
            calls: its arguments.

        Raises:
            UserError: if the workers cannot be reached, or a call failed.
        """
