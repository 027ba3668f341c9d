"""The tests of a discovery on held-out tasks, all on the same tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from metaplast.discovery.loops import Loops
from metaplast.discovery.refits import WITH, WITHOUT
from metaplast.discovery.selection import Selection
from metaplast.meta.evaluation import Evaluation
from metaplast.systems.learner import Learner
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import Term


class HeldoutTests(NamedTuple):
    """The evaluations on held-out tasks.

    Attributes:
        heldout: those of the rule and the baselines, by name.
        without: those of the rule refitted without each of its terms, by name of the term.
        added: those of the rule refitted with a dropped term put back, by name of the term.
    """

    heldout: dict[str, Evaluation]
    without: dict[str, Evaluation]
    added: dict[str, Evaluation]


def evaluate_all(
    loops: Loops,
    rules: Mapping[str, tuple[Learner, Coefficients]],
    pool: Sequence[Term],
    selection: Selection | None,
) -> HeldoutTests:
    """Evaluate the rule, the baselines and the neighbours of the rule on held-out tasks.

    Args:
        loops: evaluates the rules.
        rules: learner and coefficients of the rule and the baselines, by name.
        pool: the terms that positions in the selection refer to.
        selection: contains the neighbours of the rule; None without selection.
    """
    heldout = {name: loops.test(name, *rule) for name, rule in rules.items()}
    if selection is None:
        return HeldoutTests(heldout, {}, {})
    without = loops.test_fits(WITHOUT, pool, selection.missed)
    return HeldoutTests(heldout, without, loops.test_fits(WITH, pool, selection.spare))
