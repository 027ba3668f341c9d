"""What a discovery is doing, in plain words."""

from __future__ import annotations

from metaplast.discovery.loops import ASKED, PROBE
from metaplast.discovery.refits import (
    AGAIN,
    CONFIRMATION,
    EVERY,
    INSTEAD,
    LONGER,
    LOOK,
    WITH,
    WITHOUT,
)
from metaplast.discovery.result import DISCOVERED, REFIT, SEARCH, trial_number, tried_in

_PLAIN = {
    SEARCH: "searching",
    REFIT: "refitting",
    LOOK: "measuring the effect of each term",
    CONFIRMATION: "checking the rule on fresh tasks",
    ASKED: "checking which terms the gradient supports",
    PROBE: "trying values of candidates",
    DISCOVERED: "the rule",
}
_REFITS = {
    AGAIN: "refitting the same terms",
    LONGER: "refitting the same terms once more",
    EVERY: "refitting every term",
}


def training(stage: str, left: int) -> str:
    """Return what an outer loop does.

    Args:
        stage: name of the loop.
        left: how many refits selection is still expected to begin.
    """
    number = trial_number(stage)
    if not number:
        return _PLAIN.get(stage, f"learning {stage}")
    return f"{_asked(tried_in(stage))}, {number} of {number + left}"


def _asked(what: str) -> str:
    """Return what a trial of the selection tests."""
    kind, _, names = what.partition(" ")
    if kind == WITHOUT:
        many = names.count(",") + 1
        return f"testing whether {names if many == 1 else f'{many} terms'} " + (
            "is needed" if many == 1 else "are needed"
        )
    if kind == WITH and INSTEAD in names:
        return f"testing {names}"
    if kind == WITH:
        return f"testing whether {names} helps after all"
    return _REFITS.get(what, what)


def testing(name: str) -> str:
    """Return what an evaluation does, from the name of the rule or the stage that it evaluates."""
    kind, _, term = name.partition(" ")
    if trial_number(name):
        return _asked(tried_in(name))
    if name in (LOOK, CONFIRMATION, ASKED, PROBE):
        return _PLAIN[name]
    if kind in (WITHOUT, WITH) and term:
        return f"held-out test {kind} {term}"
    return f"held-out test of {_PLAIN.get(name, name)}"
