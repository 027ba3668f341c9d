"""The record of a run in the file of the rule that it found."""

from __future__ import annotations

from typing import Any

from metaplast.discovery.config import OBJECTIVE, DiscoveryConfig
from metaplast.discovery.own import Own
from metaplast.discovery.result import versions
from metaplast.systems.kind import DEFAULT
from metaplast.systems.system import System


def provenance_of(
    config: DiscoveryConfig,
    own: Own,
    description: str,
    system: System,
    engine: str,
    score: float | None,
) -> dict[str, Any]:
    """Return the record of a run for its rule file.

    Args:
        config: the configuration of the run.
        own: data and terms passed from Python.
        description: the data in one line.
        system: the system that learned.
        engine: name of the engine.
        score: mean score of the rule on held-out tasks; None without a test.
    """
    data: dict[str, Any] = {
        "dataset": config.dataset_name if own.data is None else own.data.label,
        "data": description,
        **_described(system, config),
        "seed": config.seed,
        "engine": engine,
        "versions": versions(),
    }
    if score is not None:
        data[f"heldout_{system.objective.score_scale.key}"] = score
    if own.data is not None:
        data["own_data"] = own.data.digest
    if own.terms:
        data["own_terms"] = [term.name for term in own.terms]
    return data


def _described(system: System, config: DiscoveryConfig) -> dict[str, Any]:
    """Return a description of the system.

    For the default system it has only the entries that version 1 wrote, and any constraint on the
    weights.
    """
    spec = system.spec()
    if config.system == DEFAULT and config.objective == OBJECTIVE:
        own = ("widths", "activation", "init", "weights")
        return {name: spec[name] for name in own if name in spec}
    return spec
