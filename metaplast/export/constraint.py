"""The constraint on weights under which a rule was found, as code and in words."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

from metaplast.base.errors import require
from metaplast.export.python import LINE
from metaplast.rules.rule import Rule
from metaplast.systems.constraint import NONE, WeightConstraint, get_constraint

# Follows `{xp}.arange(n` in code, so that the result is on W's device.
_PLACES = {"torch": ", device=W.device"}


@dataclass(frozen=True)
class ConstraintCode:
    """The code of a constraint's two functions in a program.

    Attributes:
        written: the text after `--weights`.
        text: the constraint as a sentence, in lines of a docstring.
        projection: body of the function that returns the nearest allowed weights, in lines.
        beginning: body of the function that makes initial weights from drawn weights, in lines.
    """

    written: str
    text: tuple[str, ...]
    projection: tuple[str, ...]
    beginning: tuple[str, ...]


def constraint_of(rule: Rule) -> WeightConstraint | None:
    """Return the constraint under which a rule was found; None if weights may have any value.

    Raises:
        UserError: if the constraint is not installed.
    """
    found = None if rule.weights == NONE else get_constraint(rule.weights)
    return found if found is not None and found.constrains else None


def constraint_context(rule: Rule, library: str) -> dict[str, Any]:
    """Return what the templates of programs need of a rule's constraint.

    Raises:
        UserError: if the constraint is not installed, or cannot be written as code.
    """
    found = constraint_of(rule)
    if found is None:
        return {"constraint": None}
    projection, beginning = found.projection, found.beginning
    require(
        projection is not None and beginning is not None,
        f"a rule with --weights {found.written} cannot be exported as code, because that "
        f"constraint defines no code; export it as latex, markdown or json.",
    )
    place = _PLACES.get(library, "")
    code = (
        tuple(line.format(xp=library, place=place) for line in lines or ())
        for lines in (projection, beginning)
    )
    text = textwrap.wrap(f"{found.text[0].upper()}{found.text[1:]}.", LINE - 4)
    return {"constraint": ConstraintCode(found.written, tuple(text), *code)}
