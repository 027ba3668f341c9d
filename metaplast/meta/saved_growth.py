"""The state of a growing rule in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from metaplast.base.plain_data import check, entry
from metaplast.meta.evidence import Candidate
from metaplast.meta.growth_settings import Trial

# The parts of a state in a checkpoint, and those that earlier versions did not have.
_PARTS = ("active", "trying", "queue", "done", "fitted", "scores", "gradients", "before", "trials")
_NEWER = ("probed", "evidence", "waiting", "joins")


class SavedGrowth:
    """The part of `Growth` that checkpoints save and restore; see there for the attributes."""

    active: Tensor
    done: bool
    trials: list[Trial]
    fitted: Tensor | None
    before: Tensor | None
    _names: tuple[str, ...]
    # The candidates that are tried now, and those that come next.
    _trying: list[Candidate]
    _queue: list[Candidate]
    # Whether the queue is tried all at once next; None to try candidates only one by one.
    _joins: bool | None
    # Mean gradient for each term at the fitted rule, as it is and in standard errors, [2, term].
    _evidence: Tensor | None
    # Whether values were tried at the fitted rule; None to try none.
    _probed: bool | None
    # Which candidates wait until no other helps, and whether they still do; None if they never did.
    _later: Tensor
    _is_waiting: bool | None
    # The results of the current look.
    _scores: list[Tensor]
    _gradients: list[Tensor]

    def state(self) -> dict[str, Any]:
        """Return everything a checkpoint needs: plain containers, numbers and tensors."""
        tensors = {"fitted": self.fitted, "before": self.before, "evidence": self._evidence}
        return {
            "active": self.active.clone(),
            "trying": [asdict(candidate) for candidate in self._trying],
            "queue": [asdict(candidate) for candidate in self._queue],
            "done": self.done,
            "scores": list(self._scores),
            "gradients": list(self._gradients),
            "trials": [asdict(trial) for trial in self.trials],
            "probed": self._probed,
            "waiting": self._is_waiting,
            "joins": self._joins,
            **tensors,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned.

        Raises:
            DataError: if it does not fit the terms.
        """
        where = "the growth of the rule"
        parts = {*_PARTS, *(key for key in _NEWER if key in state)}
        check(set(state) == parts, f"{where} must have the parts {', '.join(_PARTS)}")
        active = state["active"]
        fits = isinstance(active, Tensor) and active.shape == self.active.shape
        check(fits and active.dtype == torch.bool, f"{where} belongs to other terms")
        rows = [*entry(state, "scores", list, where), *entry(state, "gradients", list, where)]
        evidence = state.get("evidence")
        rows += [row for row in (state["fitted"], state["before"], evidence) if row is not None]
        finite = all(isinstance(row, Tensor) and bool(row.isfinite().all()) for row in rows)
        check(finite, f"{where} has tensors that are not finite")
        terms, pairs = len(active), [*state["scores"], state["before"]]
        wide = [*state["gradients"], state["fitted"], evidence]
        fits = all(row is None or row.shape[-1:] == (2,) for row in pairs)
        fits = fits and all(row is None or row.shape[-1:] == (terms,) for row in wide)
        check(fits, f"{where} has tensors of the wrong shape")
        self.active = active.clone()
        self.done = entry(state, "done", bool, where)
        trying = state["trying"]
        if not isinstance(trying, list):  # Earlier versions tried one candidate at a time.
            trying = [] if trying is None else [trying]
        self._trying = [Candidate.read(data, terms) for data in trying]
        self._queue = [Candidate.read(data, terms) for data in entry(state, "queue", list, where)]
        self.fitted, self.before, self._evidence = state["fitted"], state["before"], evidence
        # A search that an earlier version began continues as it would have there: candidates do not
        # join each other, no values are tried, and none wait. Its own checkpoints say so with None.
        self._joins, self._probed, self._is_waiting = (
            None if state.get(name) is None else entry(state, name, bool, where)
            for name in ("joins", "probed", "waiting")
        )
        self._scores, self._gradients = list(state["scores"]), list(state["gradients"])
        self.trials = [
            Trial.read(data, self._names) for data in entry(state, "trials", list, where)
        ]
