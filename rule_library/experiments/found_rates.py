"""Variants that find a rule on few-shot tasks, and then train on a whole data set in mini-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from metaplast.base.notices import collected
from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.heldout import RuleVariant
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.rules.rule import Rule
from metaplast.terms.library import get_term
from metaplast.terms.term import Term
from rule_library.experiments.rate_classifier import learned_rows, open_images


def times(factor: float) -> str:
    """Return the column of the accuracy of a rule whose coefficients are multiplied by a factor."""
    return "accuracy" if factor == 1 else f"accuracy_times_{factor:g}"


@dataclass(frozen=True, eq=False)
class FoundVariant(RuleVariant):
    """A rule found with seed 0, tested on held-out tasks and on a whole data set.

    Attributes:
        stream: settings of the images, the networks and the mini-batches, as in a `RateVariant`.
        quick_stream: the settings that differ in the quick version.
        factors: factors on all coefficients; the images are learned with each of them.
        starts: candidate terms, in addition to those of `full`, with the coefficients from which
            the search starts.
    """

    stream: Mapping[str, Any] = field(default_factory=dict)
    quick_stream: Mapping[str, Any] = field(default_factory=dict)
    factors: tuple[float, ...] = (1.0,)
    starts: Mapping[str, float] = field(default_factory=dict)

    @property
    def own_terms(self) -> list[Term]:
        """The terms of `starts`, each with its start."""
        return [replace(get_term(name), initial=at) for name, at in self.starts.items()]

    def _stream(self, setting: Setting) -> dict[str, Any]:
        return {**self.stream, **(self.quick_stream if setting.quick else {})}

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        more = {"stream": plain(self._stream(setting)), "factors": list(self.factors)}
        more |= {"starts": dict(self.starts)}
        return super().settings(setting) | more

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return functions that open the data of the search, of the tasks, and the images."""
        stream = self._stream(setting)
        name = f"the images of {stream['dataset']}"
        return {**super().data(setting), name: lambda: open_images(stream, setting)}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each held-out setup, then a row for each record of the images."""
        rule, stream = Rule.from_json(prepared["rule"]), self._stream(setting)
        images = open_images(stream, setting)
        # Images that do not settle are counted as wrong; a notice for each would hide others.
        with collected():
            rows = super().run(seed, setting, prepared)
        for factor in self.factors:
            theta = [factor * value for value in rule.theta[0]]
            for row in learned_rows(rule.terms, theta, [seed], stream, images)[0]:
                named = {column: value for column, value in row.items() if factor == 1}
                rows.append({
                    **named, AT: row[AT], DIVERGED: row[DIVERGED], times(factor): row["accuracy"],
                })  # fmt: skip
        return rows
