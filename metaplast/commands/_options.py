"""Command-line options from frozen dataclasses, by way of tyro."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import PrimitiveConstructorSpec

Options = TypeVar("Options")


def registry() -> tyro.constructors.ConstructorRegistry:
    """Return tyro's type registry with `1,2,3` for tuples of numbers."""
    made = tyro.constructors.ConstructorRegistry()
    kinds: dict[tuple[Any, ...], Callable[[str], Any]] = {(int, ...): int, (float, ...): float}

    @made.primitive_rule
    def _numbers(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        # By what is in it: with a default of two entries tyro writes the type in another way.
        read = kinds.get(get_args(info.type))
        if read is None or get_origin(info.type) is not tuple:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="N,N,…",
            instance_from_str=lambda texts: tuple(
                read(part) for part in texts[0].split(",") if part.strip()
            ),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(map(str, value))],
        )

    return made


def parse(kind: type[Options], arguments: Sequence[str], **options: Any) -> Options:
    """Return the options in `arguments` as an instance of a dataclass; exit with 2 on a mistake."""
    options_given: Options = tyro.cli(kind, args=list(arguments), registry=registry(), **options)
    return options_given
