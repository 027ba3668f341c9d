"""Whole terms as plain data: formula, use and citation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from torch import Tensor

from metaplast.base.errors import UserError
from metaplast.base.plain_data import check, entry, number
from metaplast.terms.algebra import Formula
from metaplast.terms.dense_formula import DenseFormula
from metaplast.terms.formula_data import (
    MOST_LETTERS,
    formula_data,
    is_same_formula,
    probe,
    read_formula,
    read_matrix,
    read_scalar,
)
from metaplast.terms.notation import LATEX
from metaplast.terms.synapses import Synapses
from metaplast.terms.term import BROADCAST, Term


def term_data(term: Term) -> dict[str, Any]:
    """Return a term as plain data; a torch function is described by its text and some results."""
    data: dict[str, Any] = {
        "formula": term.spell(),
        "locality": term.locality,
        "citation": term.citation,
        "summary": term.summary,
        "aliases": list(term.aliases),
        "initial": float(term.initial),
        "nonnegative": bool(term.nonnegative),
        "in_pool": bool(term.in_pool),
    }
    if term.reads_nonlocal:
        data["reads_nonlocal"] = True
    if isinstance(term.formula, Formula):
        return data | formula_data(term.formula)
    function: dict[str, Any] = {"latex": term.spell(LATEX), "values": probe(term.formula)}
    if term.scalars:
        function["scalars"] = sorted(term.scalars)
    return data | {"matrix": term.matrix.name, "function": function}


def is_declared(data: Mapping[str, Any]) -> bool:
    """Return whether the data of a term contain its formula."""
    return "monomials" in data


def read_term(name: str, data: Mapping[str, Any]) -> Term:
    """Return the term that `term_data` wrote.

    A file cannot hold a torch function, so such a term can be printed, but refuses to run.

    Raises:
        DataError: if the data have another format.
        UserError: if the name is not valid for a term.
    """
    proper = name.isidentifier() and name.islower() and len(name) <= MOST_LETTERS
    check(proper, f"the name of a term must be a lower-case identifier, got {name[:40]!r}")
    where = f"the term {name}"
    text = entry(data, "formula", str, where)
    declared = is_declared(data)
    formula = read_formula(data, where) if declared else _stand_in(name, text, data, where)
    aliases = entry(data, "aliases", list, where) if "aliases" in data else []
    check(all(isinstance(alias, str) for alias in aliases), f"an alias of {where} is not text")
    term = Term(
        name,
        formula,
        entry(data, "citation", str, where),
        summary=entry(data, "summary", str, where) if "summary" in data else "",
        aliases=tuple(aliases),
        initial=number(data.get("initial", 0.0), f"'initial' of {where}"),
        nonnegative=entry(data, "nonnegative", bool, where) if "nonnegative" in data else False,
        in_pool=entry(data, "in_pool", bool, where) if "in_pool" in data else True,
        reads_nonlocal=entry(data, "reads_nonlocal", bool, where)
        if "reads_nonlocal" in data
        else False,
    )
    check(
        text == term.spell(),
        f"{where} is written as {text[:80]!r}, but its monomials mean {term.spell()[:80]!r}",
    )
    return term


def _stand_in(name: str, text: str, data: Mapping[str, Any], where: str) -> DenseFormula:
    matrix = read_matrix(data, where)
    function = entry(data, "function", dict, where)
    latex = entry(function, "latex", str, where)
    names = entry(function, "scalars", list, where) if "scalars" in function else []
    scalars = frozenset(read_scalar(name, where) for name in names)
    local = entry(data, "locality", str, where) in ("local", BROADCAST)

    def update(_: Synapses) -> Tensor:
        refuse_function(name)

    return DenseFormula(matrix, update, frozenset(), local, text, latex, scalars)


def refuse_function(name: str) -> NoReturn:
    """Raise the error for a torch function, which a file cannot contain.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"the term {name} is a torch function, which a file cannot contain, and no installed "
        f"package offers it; give it from Python, as in Rule.load(path, terms=[{name}])."
    )


def means_the_same(term: Term, data: Mapping[str, Any]) -> bool:
    """Return whether a term matches data in `term_data`'s format, or in its earlier format.

    Raises:
        DataError: if the data do not describe a term.
    """
    if is_declared(data):
        read = read_term(term.name, data).formula
        return (
            isinstance(term.formula, Formula)
            and isinstance(read, Formula)
            and is_same_formula(term.formula, read)
        )
    if entry(data, "formula", str, f"the term {term.name}") != term.spell():
        return False
    function = data.get("function")
    if function is None:
        # Files of earlier versions describe a formula only by its text.
        return True
    if not isinstance(term.formula, DenseFormula) or data.get("matrix") != term.matrix.name:
        return False
    recorded, here = function.get("values"), probe(term.formula)
    if not recorded or here is None:
        return True
    return len(recorded) == len(here) and bool(np.allclose(recorded, here, rtol=1e-6, atol=1e-9))
