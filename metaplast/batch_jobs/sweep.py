"""A grid of penalties and seeds: each run's rule, how often each term is kept, the best rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metaplast.base.bands import Band, mean_band
from metaplast.base.files import csv_text
from metaplast.base.scores import ScoreScale
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.result import DISCOVERED, Result
from metaplast.discovery.run import Discovery
from metaplast.engines import choose_engine
from metaplast.meta.evaluation import evaluate
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.complexity import complexity
from metaplast.terms.library import get_term


def judge(result: Result, *, seed: int) -> dict[str, Any]:
    """Return a rule's loss and score on tasks that are the same for every run of a sweep.

    The tasks come from the meta-training side of the split for `seed`, because choosing among rules
    must not use that split's held-out tasks. There are as many as in selection. Runs with another
    seed hold out other tasks, and some of those appear here.

    Args:
        result: the result of a run, whose own seed may differ.
        seed: the sweep's first seed.

    Returns:
        {"judged": {"loss": …, "score": …}}, one number per task; a non-finite loss is None.
    """
    config = replace(result.config, seed=seed)
    discovery = Discovery(config)
    learner = discovery.learner_for(result.rule.terms, result.rule.feedback)
    evaluation = evaluate(
        learner,
        result.rule.tensor(config.torch_dtype, config.torch_device),
        discovery.split.train,
        choose_engine(config.engine, learner, config.torch_device),
        episodes=config.validation,
        seed=seed,
        purpose="judge",
    )
    losses = [loss if math.isfinite(loss) else None for loss in evaluation.loss.tolist()]
    return {"judged": {"loss": losses, "score": evaluation.score.tolist()}}


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes:
        name: the name of its folder.
        l1: penalty.
        seed: the seed of all its random numbers.
        summary: as in `summary.json`, with the entries of `judge`.
        scale: how scores are named, bounded and shown.
    """

    name: str
    l1: float
    seed: int
    summary: dict[str, Any]
    scale: ScoreScale

    @classmethod
    def of(cls, name: str, config: DiscoveryConfig, summary: dict[str, Any]) -> Run:
        """Return the run with this configuration and summary."""
        scale = config.score_objective.score_scale
        return cls(name, config.penalty_weight, config.seed, summary, scale)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the rule's terms."""
        return tuple(self.summary["kept"])

    @property
    def searched(self) -> int:
        """Number of terms that the search left nonzero."""
        return len(Coefficients.from_plain(self.summary["before_refit"]).used)

    @property
    def score(self) -> float:
        """Mean held-out score."""
        return float(self.summary["heldout"][DISCOVERED]["mean"])

    @property
    def rivals(self) -> dict[str, float]:
        """Mean held-out score of each baseline, by name."""
        tests = self.summary["heldout"]
        return {name: float(test["mean"]) for name, test in tests.items() if name != DISCOVERED}

    @property
    def tested(self) -> int:
        """Number of terms that were left out in turn, on held-out tasks; 0 without selection."""
        return len(self.summary["without"])

    @property
    def missed(self) -> int:
        """Number of terms without which the refitted rule scores less on held-out tasks.

        The band of the difference, task by task, is below zero.
        """
        return sum(change["high"] < 0 for change in self.summary["without"].values())

    @property
    def diverged(self) -> int:
        """Number of held-out tasks on which the rule diverged."""
        return int(self.summary["heldout"][DISCOVERED]["non_finite"])

    @property
    def complexity(self) -> int:
        """Size of the formulas of the rule's terms; see `metaplast.terms.complexity`."""
        return sum(complexity(get_term(name)) for name in self.kept)

    @cached_property
    def losses(self) -> Tensor:
        """Loss on each task of `judge`, infinite where it diverged, [task]."""
        numbers = [math.inf if x is None else x for x in self.summary["judged"]["loss"]]
        return torch.tensor(numbers, dtype=torch.float64, device="cpu")

    @property
    def loss(self) -> float:
        """Mean of `losses`."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Candidate:
    """A set of terms that at least one run ended with.

    Attributes:
        best: the run with the lowest loss among those that ended with these terms.
        runs: how many runs ended with them.
        excess: band of the loss of `best` minus the loss of the best run of all, task by task; None
            if a task of `best` diverged.
    """

    best: Run
    runs: int
    excess: Band | None

    @property
    def is_equal(self) -> bool:
        """Whether the loss may be as low as the lowest: the band reaches down to 0."""
        return self.excess is not None and self.excess.low <= 0


def candidates(runs: Iterable[Run]) -> list[Candidate]:
    """Return every set of terms that runs ended with, simplest first."""
    groups: dict[frozenset[str], list[Run]] = {}
    for run in runs:
        groups.setdefault(frozenset(run.kept), []).append(run)
    bests = [min(group, key=lambda run: run.loss) for group in groups.values()]
    least = min(bests, key=lambda run: run.loss)
    made = [
        Candidate(best, len(group), _excess(best, least))
        for best, group in zip(bests, groups.values(), strict=True)
    ]
    return sorted(made, key=lambda c: (c.best.complexity, c.best.loss))


def _excess(run: Run, least: Run) -> Band | None:
    if not torch.isfinite(run.losses).all():
        return None
    return mean_band(run.losses - least.losses)


def recommend(found: Sequence[Candidate]) -> Candidate | None:
    """Return the simplest rule that is as good as the best; None if every rule diverged."""
    return next((candidate for candidate in found if candidate.is_equal), None)


def frequencies(runs: Sequence[Run]) -> dict[str, dict[float, float]]:
    """Return the share of seeds that kept each candidate term, by term, then by penalty."""
    penalties = sorted({run.l1 for run in runs})
    names = dict.fromkeys(name for run in runs for name in run.summary["before_refit"])
    table: dict[str, dict[float, float]] = {name: {} for name in names}
    for l1 in penalties:
        group = [run for run in runs if run.l1 == l1]
        for name in names:
            table[name][l1] = sum(name in run.kept for run in group) / len(group)
    return table


def runs_csv(runs: Sequence[Run]) -> str:
    """Return one row for each run."""
    rows = []
    for run in runs:
        own, key = run.summary["heldout"][DISCOVERED], run.scale.key
        row: dict[str, object] = {"l1": run.l1, "seed": run.seed, "terms_searched": run.searched}
        row |= {"terms_kept": len(run.kept), "terms_missed": run.missed if run.tested else ""}
        row |= {"complexity": run.complexity, key: own["mean"]}
        row |= {f"{key}_low": own["low"], f"{key}_high": own["high"]}
        row |= {"diverged": run.diverged}
        row |= {f"{key}_{rival}": mean for rival, mean in run.rivals.items()}
        row |= {"judged_loss": run.loss, "seconds": run.summary["seconds"], "run": run.name}
        rows.append(row)
    return csv_text(rows)


def terms_csv(runs: Sequence[Run]) -> str:
    """Return one row for each run, candidate term and, if θ is per layer, layer."""
    rows = []
    for run in runs:
        searched = Coefficients.from_plain(run.summary["before_refit"])
        final = Coefficients.from_plain(run.summary["rule"]).columns()
        for term, before in searched.columns().items():
            kept, after = term in final, final.get(term, [0.0] * searched.sites)
            for layer, pair in enumerate(zip(before, after, strict=True), start=1):
                place = layer if searched.is_per_layer else ""
                row = {"l1": run.l1, "seed": run.seed, "term": term, "layer": place}
                rows.append(row | {"searched": pair[0], "theta": pair[1], "kept": int(kept)})
    return csv_text(rows)
