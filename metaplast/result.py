"""What a discovery found."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version

from metaplast.bands import Band
from metaplast.config import DiscoveryConfig
from metaplast.evaluation import Evaluation
from metaplast.outer_loop import Record
from metaplast.own import Own
from metaplast.recovery import Recovery
from metaplast.rule import Rule

# Names of the stages of a run, and of its rule among those that are tested. Trials of the
# selection are numbered after SELECT in the order in which they are first run.
SEARCH = "search"
REFIT = "refit"
SELECT = "select"
DISCOVERED = "discovered"


@dataclass(frozen=True)
class Result:
    """What a discovery found.

    Attributes:
        rule: the kept terms, refitted.
        searched: all candidate terms as the penalised search left them.
        scale: units in which the search compared terms, by name.
        history: one record for each outer step, all stages in order.
        heldout: evaluation on held-out episodes by rule name; "discovered" first.
        without: evaluation of the rule refitted without each of its terms, same episodes.
        added: evaluation of the rule refitted with each dropped term put back, same episodes.
        divergences: the first episodes that diverged, explained.
        config: what was asked for.
        engine: name of the engine that ran.
        held_out: whether "classes" or "images" were held out.
        description: of the data.
        seconds: wall time, interruptions left out.
        planted: the rule that made the query labels, where one did.
        own: data and terms that were given from Python.
    """

    rule: Rule
    searched: Rule
    scale: dict[str, list[float]]
    history: tuple[Record, ...]
    heldout: dict[str, Evaluation]
    without: dict[str, Evaluation]
    added: dict[str, Evaluation]
    divergences: tuple[str, ...]
    config: DiscoveryConfig
    engine: str
    held_out: str
    description: str
    seconds: float
    planted: Rule | None = None
    own: Own = field(default_factory=Own)

    @property
    def dataset(self) -> str:
        """The configured data set, or the name of the data that were given."""
        return self.config.dataset_name if self.own.data is None else self.own.data.label

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the terms in the rule."""
        return tuple(term.name for term in self.rule.terms)

    @property
    def recovery(self) -> Recovery | None:
        """How the rule compares with the planted one, where there is one."""
        return None if self.planted is None else Recovery(self.planted, self.rule)

    def loss_without(self, term: str) -> Band:
        """Return the change of held-out accuracy, refitted without a term, with its band."""
        return self._changes["without"][term]

    def gain_with(self, term: str) -> Band:
        """Return the change of held-out accuracy with a dropped term put back, with its band."""
        return self._changes["added"][term]

    @cached_property
    def _changes(self) -> dict[str, dict[str, Band]]:
        own, groups = self.heldout[DISCOVERED], {"without": self.without, "added": self.added}
        return {
            group: {name: own.change(other) for name, other in found.items()}
            for group, found in groups.items()
        }


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("metaplast", "torch", "numpy")},
    }
