"""Which arrays of a file are the inputs and which the targets: shared by the formats of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from episodes.arrays import Array
from episodes.from_file import listed
from metaplast.base.errors import UserError, require, shown

#: Usual names, of which a file should have one.
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
        example: what to write after `--dataset`.

    Raises:
        UserError: if there is no such array, or the usual names leave it open.
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
                f"{label} does not say which array has the {what}, it has "
                f"{listed(known) or 'none'}; write --dataset {example},x=INPUTS,y=TARGETS with "
                f"their names."
            )
        found.append(there[0])
    return found[0], found[1]


def words_for(inputs: Array) -> tuple[str, str]:
    """Return what descriptions call a sample and a number of it: those of images, or of a table."""
    return ("sample", "input") if inputs.ndim == 2 else ("image", "pixel")
