"""θ as one value: a coefficient for each term, shared by all sites or one row for each site.

A site is a row of θ: a layer of the fully connected stack, or a group of another system. Engines
and the outer loop compute with the bare tensor, [term] or [site, term]. All other code uses
`Coefficients`, which knows the terms and whether their coefficients are shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.plain_data import check, number
from metaplast.base.tensors import type_name
from metaplast.terms.term import Term

Rows = tuple[tuple[float, ...], ...]
# Far above any sensible network.
MOST_SITES = 10_000


@dataclass(frozen=True, eq=False)
class Coefficients:
    """θ_k of each term k, or θ_{s,k} of each site s and term k.

    Two values are equal if they have the same terms and numbers, and both are shared or both are
    per layer. The number of axes of the tensor decides this, so a per-layer θ with one row does not
    equal a shared θ.

    Attributes:
        names: the names of the terms, in order, each once.
        tensor: [term] if all sites share the coefficients, [site, term] if each has its own row.
    """

    names: tuple[str, ...]
    tensor: Tensor

    def __post_init__(self) -> None:
        """Check that the tensor fits the names.

        Raises:
            UserError: if θ is not a tensor, a name occurs twice, or the shape is wrong.
        """
        require(
            isinstance(self.tensor, Tensor),
            f"θ must be a tensor, got {type_name(self.tensor)}; convert it with torch.tensor(…).",
        )
        names, shape = tuple(self.names), tuple(self.tensor.shape)
        object.__setattr__(self, "names", names)
        require(len(set(names)) == len(names), f"each term may occur once, got {list(names)}.")
        require(
            len(shape) in (1, 2) and shape[-1] == len(names),
            f"θ of {len(names)} terms must be [term] or [site, term], got shape {shape}.",
        )

    @classmethod
    def initial(
        cls, terms: Sequence[Term], dtype: torch.dtype, sites: int | None = None
    ) -> Coefficients:
        """Return the terms' initial coefficients: shared, or one row for each site."""
        start = torch.tensor([term.initial for term in terms], dtype=dtype, device="cpu")
        start = start if sites is None else start.expand(sites, -1).clone()
        return cls(tuple(term.name for term in terms), start)

    @classmethod
    def from_rows(
        cls,
        names: Sequence[str],
        rows: Sequence[Sequence[float]],
        *,
        per_layer: bool,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Coefficients:
        """Return θ from rows of numbers; a shared θ has one row."""
        tensor = torch.tensor(rows, dtype=dtype, device=device)
        return cls(tuple(names), tensor if per_layer else tensor[0])

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Coefficients:
        """Return θ, in float64, from the data that `to_plain` gives.

        Raises:
            DataError: if a value is neither a finite number nor a list of finite numbers, if some
                values are numbers and others lists, or if the lists differ in length.
        """
        columns = [_column(name, value) for name, value in data.items()]
        sites = {len(column) for column in columns} or {1}
        check(len(sites) == 1, "its terms have coefficients for different numbers of layers")
        # A list of one coefficient means per-layer, a number means shared.
        lists = {isinstance(value, list) for value in data.values()}
        check(len(lists) < 2, "some of its coefficients are lists, others numbers")
        rows = list(zip(*columns, strict=True)) if columns else [()]
        return cls.from_rows(tuple(data), rows, per_layer=True in lists)

    @property
    def is_per_layer(self) -> bool:
        """True if each site has its own row, even if there is only one site."""
        return self.tensor.dim() == 2

    @property
    def rows(self) -> Tensor:
        """The coefficients as rows, [site, term]; one row if they are shared."""
        return self.tensor if self.is_per_layer else self.tensor[None]

    @property
    def sites(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def fits(self, sites: int) -> bool:
        """Return whether a system with this number of sites can use this θ."""
        return not self.is_per_layer or self.sites == sites

    def for_sites(self, sites: int) -> Tensor:
        """Return a row for each site, [site, term]; a shared row is repeated.

        Raises:
            UserError: if θ has rows for another number of sites.
        """
        require(
            self.fits(sites),
            f"θ has coefficients for each of {self.sites} layers, {sites} are needed.",
        )
        return self.tensor.expand(sites, -1)

    @property
    def largest(self) -> Tensor:
        """max_s |θ_{s,k}| of each term, [term]."""
        return self.rows.abs().amax(0)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the terms that have a coefficient other than zero."""
        nonzero = self.rows.ne(0).any(0).tolist()
        return tuple(name for name, is_used in zip(self.names, nonzero, strict=True) if is_used)

    def select(self, names: Iterable[str]) -> Coefficients:
        """Return the coefficients of some of the terms, in the order given.

        Raises:
            UserError: if there is no such term, or one is named twice.
        """
        names = tuple(names)
        return Coefficients(names, self.tensor[..., [self._place(name) for name in names]])

    def drop(self, name: str) -> Coefficients:
        """Return the coefficients of all terms but one.

        Raises:
            UserError: if there is no such term.
        """
        place = self._place(name)
        return self.select(self.names[:place] + self.names[place + 1 :])

    def insert(self, place: int, name: str) -> Coefficients:
        """Return the coefficients with another term inserted at a position, with coefficient zero.

        Raises:
            UserError: if θ already has the term.
        """
        names = (*self.names[:place], name, *self.names[place:])
        before, after = self.tensor[..., :place], self.tensor[..., place:]
        zero = self.tensor.new_zeros((*self.tensor.shape[:-1], 1))
        return Coefficients(names, torch.cat((before, zero, after), -1))

    def in_units(self, scale: Coefficients) -> Coefficients:
        """Return θ / scale, each coefficient in its own unit.

        Raises:
            UserError: if the scale belongs to other terms.
        """
        require(
            scale.names == self.names,
            f"the scale belongs to the terms {', '.join(scale.names)}, θ to "
            f"{', '.join(self.names)}; select the same terms in the same order.",
        )
        return Coefficients(self.names, self.tensor / scale.tensor)

    def like(self, tensor: Tensor) -> Coefficients:
        """Return the coefficients with the dtype and on the device of a tensor."""
        return Coefficients(self.names, self.tensor.to(tensor))

    def on(self, device: torch.device | str) -> Coefficients:
        """Return the coefficients on a device."""
        return Coefficients(self.names, self.tensor.to(device))

    def values(self, name: str) -> list[float]:
        """Return a term's coefficient at each site; a single one if it is shared.

        Raises:
            UserError: if there is no such term.
        """
        found: list[float] = self.rows[:, self._place(name)].tolist()
        return found

    def columns(self) -> dict[str, list[float]]:
        """Return `values` of all terms by name."""
        return dict(zip(self.names, self.rows.mT.tolist(), strict=True))

    def to_plain(self) -> dict[str, float | list[float]]:
        """Return θ by term name as files have it: a number, or a list with one for each layer."""
        columns = self.columns()
        return {n: v if self.is_per_layer else v[0] for n, v in columns.items()}

    def text(self, name: str) -> str:
        """Return a term's coefficient, or those of all layers, as text."""
        return ", ".join(map(number_text, self.values(name)))

    def range_text(self, name: str) -> str:
        """Return a term's coefficient, or its range over the layers, as text.

        If all layers show the same number, it is written once.
        """
        values = self.values(name)
        return " … ".join(dict.fromkeys(map(number_text, (min(values), max(values)))))

    def _place(self, name: str) -> int:
        require(name in self.names, f"θ has no term {name}, only {', '.join(self.names)}.")
        return self.names.index(name)

    def __eq__(self, other: object) -> bool:
        """Return whether terms, axes and numbers are the same; dtype and device may differ."""
        if not isinstance(other, Coefficients):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        """Return a hash that equal values share."""
        return hash(self._key())

    def _key(self) -> tuple[tuple[str, ...], bool, Rows]:
        rows = tuple(map(tuple, self.rows.tolist()))
        return self.names, self.is_per_layer, rows


def number_text(value: float) -> str:
    """Return a coefficient to four digits: the one way to print it outside equations."""
    return f"{value:.4g}"


def site_names(stem: str, sites: int, mark: str = "_") -> list[str]:
    """Return names for a term's values in a table: `stem`, or `stem_1`, `stem_2`, … if per site."""
    return [stem] if sites == 1 else [f"{stem}{mark}{site}" for site in range(1, sites + 1)]


def _column(name: str, value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value]
    check(0 < len(values) <= MOST_SITES, f"the coefficients of {name} are {len(values)}")
    return [number(each, f"the coefficient of {name}") for each in values]
