"""The result of a discovery."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version

from metaplast.base.bands import Band
from metaplast.base.scores import ScoreScale
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.own import Own
from metaplast.discovery.taus import LearnedTau
from metaplast.meta.evaluation import Evaluation
from metaplast.meta.growth_settings import Trial
from metaplast.meta.record import Record
from metaplast.rules.recovery import Recovery
from metaplast.rules.rule import Rule
from metaplast.tasks.source import held_out_word
from metaplast.terms.term import Term

# Names of the stages of a run, and of the discovered rule in the test. `trial` returns the names of
# selection's trials, and a baseline's stage has the name of its rule.
SEARCH = "search"
REFIT = "refit"
SELECT = "select"
DISCOVERED = "discovered"
# A table of candidates has about this many rows at most; a pool may have hundreds.
MOST_SHOWN = 40
_TRIAL = re.compile(rf"{SELECT} \d+: ")


def trial(number: int, what: str) -> str:
    """Return the name of the stage of a trial of selection; trials are numbered in their order."""
    return f"{SELECT} {number}: {what}"


def tried_in(stage: str) -> str:
    """Return what a trial of selection tries, from the name of its stage; "" for other stages."""
    return stage.partition(": ")[2] if _TRIAL.match(stage) else ""


def trial_number(stage: str) -> int:
    """Return the number of a trial of selection, from the name of its stage; 0 for other stages."""
    return int(stage.split()[1].removesuffix(":")) if _TRIAL.match(stage) else 0


def unsupported(sign: int, errors: float) -> str:
    """Return why a dropped term was not put back, in a few words.

    Args:
        sign: the sign that its coefficient must have; see `sign_of`.
        errors: the gradient for it at the rule, in standard errors.
    """
    # A coefficient moves against the gradient.
    barred = f" to θ {'<' if sign > 0 else '>'} 0" if sign * errors > 0 else ""
    return f"gradient {abs(errors):.1f} s.e.{barred}"


def clearest(
    terms: Iterable[Term], first: Collection[str], errors: Mapping[str, float]
) -> tuple[Term, ...]:
    """Return the candidates that a table has room for, in the given order.

    Args:
        terms: all candidates.
        first: names of those that are always shown.
        errors: the gradient for each other one at the rule, in standard errors, by name; those with
            the largest are shown, too, `MOST_SHOWN` candidates in all.
    """
    terms = tuple(terms)
    rest = [term.name for term in terms if term.name not in first]
    rest.sort(key=lambda name: -abs(errors.get(name, 0.0)))
    shown = {*first, *rest[: max(0, MOST_SHOWN - len(first))]}
    return tuple(term for term in terms if term.name in shown)


def left_out(number: int) -> str | None:
    """Return the line below a table that leaves out this number of candidates; None for 0."""
    return f"and {number} more that were dropped, with smaller gradients" if number else None


@dataclass(frozen=True)
class Tried:
    """A rule that selection fitted and measured.

    Attributes:
        stage: name of the stage, such as "refit" or "select 3: without oja".
        terms: names of the rule's terms.
        score: score on validation tasks; if the rule is hopeless on the first ones, only on
            those.
    """

    stage: str
    terms: tuple[str, ...]
    score: Band


@dataclass(frozen=True)
class Result:
    """The result of a discovery.

    Attributes:
        rule: the kept terms, refitted.
        searched: all candidate terms as the penalised search left them.
        scale: units in which the search compared terms, by name.
        history: one record for each outer step, all stages in order.
        heldout: evaluation on held-out episodes by rule name; "discovered" first.
        without: evaluation of the rule refitted without each of its terms, on the same episodes.
        added: evaluation of the rule refitted with a dropped term put back, on the same episodes,
            for each dropped term that was tried again.
        divergences: explanations of the first episodes that diverged.
        config: the configuration.
        engine: name of the engine.
        held_out: whether "classes" or "images" were held out.
        description: the description of the data.
        seconds: wall time without interruptions.
        planted: the rule that generated the query labels, if there is one.
        own: data and terms passed from Python.
        errors: for each dropped term that was not put back, the gradient for it at the rule, in
            standard errors: too small to be worth a refit.
        trials: the candidates that the search tried, in order; empty if it trained all terms from
            the start.
        tried: the rules that selection fitted, in order.
        notices: what was left out of the computation and how often, one sentence for each kind,
            counted since the run was last started or resumed.
        taus: the time constants of the rule that were learned.
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
    errors: dict[str, float] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    notices: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()
    taus: tuple[LearnedTau, ...] = ()

    @property
    def dataset(self) -> str:
        """The configured data set, or the name of the data that were passed."""
        return self.config.dataset_name if self.own.data is None else self.own.data.label

    @property
    def score(self) -> ScoreScale:
        """How scores are named, bounded and shown."""
        return self.config.score_objective.score_scale

    @property
    def held_out_word(self) -> str:
        """What was held out, in words."""
        return held_out_word(self.held_out, self.config.score_objective.target_kind)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the terms in the rule."""
        return tuple(term.name for term in self.rule.terms)

    @property
    def recovery(self) -> Recovery | None:
        """Comparison with the planted rule, if there is one."""
        return None if self.planted is None else Recovery(self.planted, self.rule)

    def loss_without(self, term: str) -> Band:
        """Return the change of the held-out score after refitting without a term, with its band."""
        return self._changes["without"][term]

    def gain_with(self, term: str) -> Band:
        """Return the change of the held-out score with a dropped term put back, with its band."""
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
