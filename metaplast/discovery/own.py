"""A user's own data and terms: passed from Python, or read from files that may change.

The run records them, and its outputs describe them. To continue the run, the user must pass the
same data again, and the terms that are torch functions, and must not have changed the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from metaplast.base.errors import UserError, require
from metaplast.base.plain_data import DataError, check, entry
from metaplast.systems.objective import TargetKind
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.derived import request_of
from metaplast.tasks.digest import SHOWN, Digestible, batch_digest, fixed_batch, plain_digest
from metaplast.tasks.source import EpisodeSampler, EpisodeSplit
from metaplast.terms.term import Term
from metaplast.terms.term_data import is_declared, means_the_same, read_term, term_data


@dataclass(frozen=True)
class OwnData:
    """Data passed as a split.

    Attributes:
        name: the name of the split, or the class of its sampler if it has no name.
        description: the description of the split.
        sampler: class of the sampler.
        held_out: "classes" or "images".
        inputs: numbers in one input, such as the pixels of an image.
        outputs: width of the last layer.
        support: support images in an episode.
        queries: query images in an episode.
        train: digest of the meta-training side.
        test: digest of the held-out side.
        is_asked: whether a source made the split for a request, so that its tasks have the
            configured sizes. False if the sampler is of the user's own class.
    """

    name: str
    description: str
    sampler: str
    held_out: str
    inputs: int
    outputs: int
    support: int
    queries: int
    train: str
    test: str
    is_asked: bool

    @classmethod
    def of(cls, split: EpisodeSplit, device: torch.device) -> OwnData:
        """Return the record of a split.

        A sampler that cannot report its data is identified by a few episodes from each side.
        """
        kind = type(split.train).__name__
        # In the order in which the run uses the sides.
        train, sizes = _side(split.train, split.targets, device)
        test, _ = _side(split.test, split.targets, device)
        return cls(
            split.name or kind, split.description, kind, split.held_out, split.inputs,
            split.outputs, *sizes, train, test, request_of(split.train) is not None,
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """Digest of both sides."""
        return plain_digest("split", [self.train, self.test])[:SHOWN]

    @property
    def label(self) -> str:
        """The label shown instead of a data set's name."""
        return f"own data: {self.name}"

    @property
    def line(self) -> str:
        """Name, sizes and digest."""
        drawn = "" if self.description.startswith(self.name) else f", drawn by {self.sampler}"
        return (
            f"own data: {self.description}{drawn} ({self.inputs} inputs, {self.outputs} outputs, "
            f"{self.support} support and {self.queries} query images in a task, digest "
            f"{self.digest})"
        )

    def differences(self, other: OwnData) -> list[str]:
        """Return one phrase for each difference from `other`; the name is not compared."""
        found = [
            f"{words} {getattr(other, name)} instead of {getattr(self, name)}"
            for name, words in _WORDS.items()
            if getattr(self, name) != getattr(other, name)
        ]
        for side, words in (("train", "meta-training"), ("test", "held-out")):
            if getattr(self, side) != getattr(other, side) and not found:
                found.append(f"other {words} images or labels")
        return found


_WORDS = {
    "sampler": "sampler", "held_out": "held out", "inputs": "inputs", "outputs": "outputs",
    "support": "support images", "queries": "query images",
}  # fmt: skip


def _side(
    sampler: EpisodeSampler, targets: TargetKind, device: torch.device
) -> tuple[str, tuple[int, int]]:
    """Return the digest of a side, and the numbers of support and query images in an episode."""
    request = request_of(sampler)
    if request is not None and isinstance(sampler, Digestible):
        return sampler.digest(), getattr(sampler, "sizes", None) or request.sizes(targets)
    batch = fixed_batch(sampler, device)
    if not isinstance(batch, EpisodeBatch):
        raise UserError(
            f"{type(sampler).__name__}.sample must return an EpisodeBatch, got "
            f"{type(batch).__name__}."
        )
    sizes = batch.support_x.shape[1], batch.query_x.shape[1]
    return sampler.digest() if isinstance(sampler, Digestible) else batch_digest(batch), sizes


@dataclass(frozen=True)
class Own:
    """Data and terms passed to a run from Python, and what it read from the user's files.

    Attributes:
        data: record of the split; None if the configuration names the data.
        terms: candidate terms, in addition to the configured ones.
        files: digest of what was read from the files that the configuration names; "" if it names
            no files.
    """

    data: OwnData | None = None
    terms: tuple[Term, ...] = ()
    files: str = ""
    _written: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    @property
    def names(self) -> str:
        """The names of the terms, separated by commas."""
        return ", ".join(term.name for term in self.terms)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `from_json`."""
        found: dict[str, Any] = {
            "data": None if self.data is None else asdict(self.data),
            "terms": {term.name: term_data(term) for term in self.terms},
        }
        # Left out if no file was read, as in earlier versions.
        return found | ({"files": self.files} if self.files else {})

    @classmethod
    def from_json(cls, data: Any) -> Own:
        """Read what `to_json` wrote. A term that is a torch function can then only be printed.

        Raises:
            DataError: if the format is wrong.
            UserError: if the name of a term is invalid.
        """
        written = entry(data, "terms", dict, "the record of own data and terms")
        check("data" in data, "the record of own data and terms has no 'data'")
        terms = tuple(read_term(name, each) for name, each in written.items())
        files = entry(data, "files", str, "the record of own data") if "files" in data else ""
        own = None if data["data"] is None else _read_data(data["data"])
        return cls(own, terms, files, written)

    def candidates(self, given: Sequence[Term], folder: str) -> tuple[Term, ...]:
        """Return a resumed run's own terms, each as passed again or, if not passed, as recorded.

        Raises:
            UserError: if a passed term does not belong to the run or differs from the recorded one,
                or a torch function is not passed.
        """
        names = {term.name for term in self.terms}
        strange = [term.name for term in given if term.name not in names]
        require(
            not strange,
            f"the run in {folder} does not have the term {', '.join(strange)}; leave it out, "
            f"or start a new run.",
        )
        own = {term.name: term for term in given}
        return tuple(self._candidate(term, own.get(term.name), folder) for term in self.terms)

    def _candidate(self, term: Term, given: Term | None, folder: str) -> Term:
        data = self._written.get(term.name) or term_data(term)
        if given is None:
            require(
                is_declared(data),
                f"the run in {folder} has the term {term.name}, a torch function; pass it again "
                f"from Python: Discovery.resume({folder!r}, terms=[{term.name}]).",
            )
            return term
        same = means_the_same(given, data)
        same = same and (given.initial, given.nonnegative) == (term.initial, term.nonnegative)
        require(
            same,
            f"the term {term.name} is not the one that the run in {folder} started with, "
            f"{term.spell()!r}; pass that one, or start a new run.",
        )
        return given

    def require_data(self, given: bool, folder: str) -> None:
        """Check that data are passed if, and only if, they were passed when the run started.

        Raises:
            UserError: if the data are missing, or passed although the run does not use them.
        """
        if self.data is None:
            require(
                not given,
                f"the run in {folder} uses the data that its configuration names, but a split was "
                f"passed; leave it out, or start a new run.",
            )
            return
        require(
            given,
            f"the run in {folder} uses {self.data.label} (digest {self.data.digest}); pass the "
            f"data again from Python: Discovery.resume({folder!r}, split=…).",
        )

    def require_same_data(self, other: OwnData | None, folder: str) -> None:
        """Check that the data passed again are the run's data.

        Raises:
            UserError: if the data differ; the message says how.
        """
        found = [] if self.data is None or other is None else self.data.differences(other)
        require(
            not found,
            f"the run in {folder} started with other data: {', '.join(found)}; pass the same "
            f"data, or start a new run.",
        )

    def require_same_files(self, now: str, dataset: str, folder: str) -> None:
        """Check that the contents of files have not changed since the run started.

        Args:
            now: digest of the current contents.
            dataset: the name of the data set in the configuration.
            folder: the folder of the run.

        Raises:
            UserError: if they have changed.
        """
        require(
            now == self.files,
            f"the data set {dataset} has changed since the run in {folder} started (digest {now} "
            f"instead of {self.files}); put the old file back, or start a new run.",
        )


def _read_data(data: Any) -> OwnData:
    where = "the record of own data"
    kinds: dict[Any, type[Any]] = {"int": int, "bool": bool, "str": str}
    return OwnData(
        **{each.name: entry(data, each.name, kinds[each.type], where) for each in fields(OwnData)}
    )


def read_own(data: Mapping[str, Any], path: object) -> Own | None:
    """Return the record of passed data and terms in a run's file; None in files of old versions.

    Raises:
        UserError: if the file is damaged.
    """
    if "own" not in data:
        return None
    try:
        return Own.from_json(data["own"])
    except DataError as error:
        raise UserError(f"{path} is damaged ({error}); start the run again.") from None


def own_terms(own: Own | None, given: Iterable[Term] = ()) -> dict[str, Term]:
    """Return a run's own terms by name; a term that is passed again replaces the recorded one."""
    recorded = () if own is None else own.terms
    return {term.name: term for term in (*recorded, *given)}
