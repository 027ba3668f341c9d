"""Choose which arrays of a file are the inputs and the targets; shared by the array formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from episodes.arrays import Array
from episodes.from_file import listed
from metaplast.base.errors import UserError, require, shown

#: Usual names; if the user gives no names, the file must have exactly one name from each list.
INPUTS = ("x", "X", "inputs", "images", "data", "features")
TARGETS = ("y", "Y", "targets", "target", "labels", "label")


def chosen(
    label: str, known: Sequence[str], settings: Mapping[str, str], example: str
) -> tuple[str, str]:
    """Return the names of the inputs and of the targets.

    Args:
        label: the label of the data.
        known: names of all arrays in the file.
        settings: the user's settings; `x` and `y` name the arrays.
        example: the data as the user wrote them after `--dataset`.

    Raises:
        UserError: if there is no such array, or if none or several of the arrays have usual names.
    """
    found = []
    for key, what, usual in (("x", "inputs", INPUTS), ("y", "targets", TARGETS)):
        name = settings.get(key)
        if name is not None:
            require(
                name in known,
                f"{label} has no array {shown(name)}; it has {listed(known) or 'none'}.",
            )
            found.append(name)
            continue
        there = [each for each in usual if each in known]
        if len(there) != 1:
            raise UserError(
                f"{label} does not say which of its arrays ({listed(known) or 'none'}) has the "
                f"{what}; write --dataset {example},x=INPUTS,y=TARGETS with their names."
            )
        found.append(there[0])
    return found[0], found[1]


def words_for(inputs: Array) -> tuple[str, str]:
    """Return what descriptions call a sample and one of its numbers: in a table, or in images."""
    return ("sample", "input") if inputs.ndim == 2 else ("image", "pixel")
