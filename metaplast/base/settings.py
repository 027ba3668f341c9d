"""Settings in groups: frozen dataclasses that inherit, so that each field is declared once.

A group declares its fields with type, default and help text, and checks them in `__post_init__`
after `super().__post_init__()`. A configuration inherits from its groups.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from metaplast.base.coerce import coerce

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Kind = TypeVar("Kind", bound="DataclassInstance")


@dataclass(frozen=True)
class Settings:
    """The root of all groups: converts the values of all fields before any group checks its own.

    Attributes:
        GROUP: heading of the class's own fields in the `--help` of a command.
    """

    GROUP: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Convert every field to its type.

        Raises:
            UserError: if a value has the wrong type.
        """
        coerce(self)


def part(kind: type[Kind], source: DataclassInstance, **changes: Any) -> Kind:
    """Return an instance of another dataclass, from the fields of `source` with the same names.

    Args:
        kind: the dataclass to make.
        source: a dataclass; its other fields are left out.
        changes: values of fields that differ from `source` or are not in it.

    Raises:
        UserError: if a value does not pass the checks of `kind`.
    """
    wanted, given = ({field.name for field in fields(each)} for each in (kind, source))
    shared = {name: getattr(source, name) for name in wanted & given}
    return kind(**shared | changes)
