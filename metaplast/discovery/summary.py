"""The outcome of a run as plain data: the content of summary.json."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from metaplast.discovery.result import Result, versions
from metaplast.discovery.run_config import config_digest
from metaplast.meta.evaluation import Evaluation


def summary(result: Result) -> dict[str, Any]:
    """Return the outcome of a run as plain data."""
    return _rule(result) | _tests(result) | _selection(result) | _run(result)


def _rule(result: Result) -> dict[str, Any]:
    return {
        "rule": result.rule.coefficients,
        "equation": str(result.rule),
        "kept": list(result.kept),
        "before_refit": result.searched.coefficients,
        "score": {"name": result.score.name, "key": result.score.key},
    }


def _tests(result: Result) -> dict[str, Any]:
    """Return the evaluations on held-out tasks."""
    return {
        "heldout": {name: _evaluated(each) for name, each in result.heldout.items()},
        "without": {name: result.loss_without(name).to_json() for name in result.without},
        "added": {name: result.gain_with(name).to_json() for name in result.added},
    }


def _evaluated(evaluation: Evaluation) -> dict[str, Any]:
    return {
        **evaluation.band.to_json(),
        "loss": _finite_mean(evaluation.loss),
        "non_finite": evaluation.non_finite,
    } | _by_steps(evaluation)


def _selection(result: Result) -> dict[str, Any]:
    """Return the evidence for the rule's terms, and the comparison with a planted rule."""
    return {
        "errors": result.errors,
        **({"taus": [each.to_json() for each in result.taus]} if result.taus else {}),
        "tried": [
            {"stage": each.stage, "terms": list(each.terms), **each.score.to_json()}
            for each in result.tried
        ],
        "trials": [asdict(trial) for trial in result.trials],
        "recovery": _recovery(result),
    }


def _run(result: Result) -> dict[str, Any]:
    """Return the data, the settings and the course of the run."""
    return {
        "held_out": result.held_out,
        "dataset": result.dataset,
        "data": result.description,
        "own": result.own.to_json(),
        "config": config_digest(result.config),
        "test_episodes": result.config.test_episodes,
        "episodes": result.config.episodes,
        # How many tasks each stage learned from: a stage with another round has more.
        "tasks": {record.stage: record.episodes for record in result.history},
        "non_finite_episodes": sum(record.non_finite for record in result.history),
        "divergences": list(result.divergences),
        "notices": list(result.notices),
        "seconds": result.seconds,
        "engine": result.engine,
        "seed": result.config.seed,
        "versions": versions(),
    }


def _by_steps(evaluation: Evaluation) -> dict[str, Any]:
    """Return the score for each number of steps; empty if all episodes have the same number."""
    found = evaluation.by_steps
    return {"by_steps": {str(k): band.to_json() for k, band in found.items()}} if found else {}


def _recovery(result: Result) -> dict[str, Any] | None:
    """Return the comparison with the planted rule, or None without a planted rule."""
    recovery = result.recovery
    if recovery is None:
        return None
    return {
        "rule": recovery.planted.coefficients,
        "equation": recovery.planted.equation(),
        "errors": recovery.errors,
        "missing": list(recovery.missing),
        "extra": list(recovery.extra),
        "recovered": recovery.is_recovered,
    }


def _finite_mean(values: Any) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.mean()) if len(finite) else None
