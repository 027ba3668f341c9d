"""Compare rules that train networks online, all on the same networks, images and order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import require, require_within
from metaplast.online.entrants import (
    Entrant,
    Fit,
    check_depth,
    collect_entrants,
    known_entrant,
    objective_warnings,
    read_entrant,
)
from metaplast.online.train import OnlineRun, OnlineSettings, train_online
from metaplast.online.tuning import Quality, Scale, Search, Trial
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import MOST_LAYERS
from metaplast.systems.system import System
from metaplast.tasks.stream import StreamSplit

# Names from `entrants` were once defined here and can still be imported from here.
__all__ = [
    "Entrant",
    "EntrantResult",
    "Fit",
    "check_depth",
    "collect_entrants",
    "evaluate_entrant",
    "known_entrant",
    "objective_warnings",
    "read_entrant",
    "tune",
    "widths_for_depth",
]

# Tuning takes many trials, so each uses fewer networks and held-out images than the comparison.
TUNING_SEEDS = 3
TUNING_IMAGES = 500


@dataclass(frozen=True)
class EntrantResult:
    """The results of an entrant.

    Attributes:
        entrant: the rule, with the coefficients that were used.
        run: scores, losses and measures of its networks.
        searched: names of the tuned coefficients; empty for a rule used unchanged.
        trials: all trials of the tuning.
        at_edge: names of tuned coefficients whose best value lies at a limit of the search.
    """

    entrant: Entrant
    run: OnlineRun
    searched: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()
    at_edge: tuple[str, ...] = ()


def widths_for_depth(hidden: Sequence[int], depth: int | None) -> tuple[int, ...]:
    """Return hidden widths for a network of `depth` weight matrices, shaped like `hidden`.

    The widths are interpolated linearly from those of `hidden` to depth − 1 layers. This is our
    choice: the papers do not give the widths of deeper networks. If the depth is None, the result
    is `hidden`.

    Raises:
        UserError: if the depth is out of range, or `hidden` is empty and the depth is above 1.
    """
    if depth is None:
        return tuple(hidden)
    require_within("--depth", depth, 1, MOST_LAYERS)
    if depth == 1:
        return ()
    require(bool(hidden), "--depth above 1 needs widths of hidden layers; give --hidden.")
    places = np.linspace(0, len(hidden) - 1, depth - 1)
    return tuple(round(w) for w in np.interp(places, range(len(hidden)), hidden).tolist())


def tune(
    entrant: Entrant,
    network: System,
    split: StreamSplit,
    settings: OnlineSettings,
    like: Tensor,
    observe: Callable[[Trial], None] | None = None,
    *,
    whole: bool = False,
) -> tuple[Entrant, Search]:
    """Return a rule with the best coefficients on the tuning half, and the search that found them.

    Args:
        entrant: the rule, and what to tune.
        network: the network of the comparison.
        split: only `split.tuning` is used.
        settings: settings of the comparison; tuning draws networks and images of its own.
        like: a tensor with the dtype and device to use.
        observe: called after each trial.
        whole: whether every term must have a coefficient other than 0; see `Search`.
    """
    learner = entrant.rule.learner(network)
    separate = _tuning_settings(settings)
    own = entrant.rule.tensor(like.dtype, like.device)
    scaled = entrant.fit == "scale"

    def theta_of(values: tuple[float, ...]) -> Tensor:
        return values[0] * own if scaled else like.new_tensor(values)

    def attempt(values: tuple[float, ...]) -> Trial:
        run = train_online(learner, theta_of(values), split.tuning, separate, probes={})
        loss = float(run.loss[:, -1].nan_to_num(torch.inf).mean())
        quality = Quality(float(run.score[:, -1].mean()), -loss)
        trial = Trial(values, quality, int(run.diverged.sum()))
        if observe is not None:
            observe(trial)
        return trial

    search = Search((Scale(),) if scaled else learner.terms, attempt, whole)
    best = search.run().theta
    # float64, so that files contain exactly the values that were tried.
    values = torch.tensor(best, dtype=torch.float64, device="cpu")
    theta = values[0] * entrant.rule.tensor(torch.float64) if scaled else values
    rule = Rule.of(learner.terms, theta, entrant.rule.feedback, entrant.rule.provenance)
    return replace(entrant, rule=rule), search


def _tuning_settings(settings: OnlineSettings) -> OnlineSettings:
    """Return settings for the trials of a search: fewer networks and images, drawn separately."""
    return replace(
        settings,
        records=settings.records[-1:],
        seeds=min(settings.seeds, TUNING_SEEDS),
        queries=min(settings.queries, TUNING_IMAGES),
        purpose="tuning",
    )


def evaluate_entrant(
    entrant: Entrant,
    network: System,
    split: StreamSplit,
    settings: OnlineSettings,
    like: Tensor,
    observe_trial: Callable[[Trial], None] | None = None,
    observe: Callable[[int], None] | None = None,
) -> EntrantResult:
    """Return an entrant's results on the final half, after tuning it if necessary.

    Args:
        entrant: the rule, and what to tune.
        network: the system that learns.
        split: `split.tuning` is used to tune, `split.final` for the results.
        settings: how networks are trained.
        like: a tensor with the dtype and device to use.
        observe_trial: called after each trial of the tuning.
        observe: as for `train_online`.

    Raises:
        UserError: if the rule does not fit the network.
    """
    check_depth(entrant, network)
    found: Search | None = None
    if entrant.is_tuned:
        entrant, found = tune(entrant, network, split, settings, like, observe_trial)
    learner = entrant.rule.learner(network)
    theta = entrant.rule.tensor(like.dtype, like.device)
    run = train_online(learner, theta, split.final, settings, observe=observe)
    if found is None:
        return EntrantResult(entrant, run)
    names = tuple(each.name for each in found.terms)
    return EntrantResult(entrant, run, names, tuple(found.trials.values()), tuple(found.at_edge))
