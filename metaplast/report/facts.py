"""The origin of a rule: the facts about its run, or what its file records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from metaplast.discovery.result import SEARCH
from metaplast.report.run import FinishedRun
from metaplast.rules.rule import Rule
from metaplast.tasks.source import held_out_word


def _search(run: FinishedRun) -> str:
    """Return the settings of the search, in words."""
    config, growth = run.config["config"], run.asked.growth
    tasks, step = f"{config['episodes']} tasks", f"{config['meta_lr']:g}"
    rounds = math.ceil(len(run.stages.get(SEARCH, [])) / run.asked.outer.steps)
    if growth is None and rounds > 1:
        tasks, step = f"{rounds} rounds of {tasks}", f"{step} (doubled in each further round)"
    if growth is not None:
        batch = config["meta_batch"]
        tasks = f"{growth.train * batch} tasks for each entry, judged on {growth.look * batch}"
    return (
        f"{tasks}, {config['meta_batch']} in a step, {config['optimizer']} {step}, "
        f"{config['penalty']} penalty"
    )


def facts(run: FinishedRun) -> dict[str, str]:
    """Return the facts about the rule's origin, by name."""
    config, provenance = run.config["config"], run.rule.provenance
    held_out = held_out_word(run.summary["held_out"], run.objective.target_kind)
    versions = run.config.get("versions", {})
    return {
        "data": run.summary["data"],
        "tasks": f"{_sizes(run)}; {held_out} held out for the test",
        "network": _network(config, provenance),
        "feedback": run.rule.feedback,
        "candidates": f"{config['terms']}{_own_terms(run)} ({len(run.terms)} terms), "
        f"θ {config['theta']}",
        "search": _search(run),
        "selection": f"refits on {config['refit']} tasks, judged on {config['validation']} others"
        if run.refit_at is not None
        else "none",
        **_taus(run),
        "seed": str(config["seed"]),
        "engine": f"{run.summary['engine']}, {config['device']}, {config['dtype']}",
        "time": f"{run.summary['seconds']:.0f} s",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _taus(run: FinishedRun) -> dict[str, str]:
    """Return the time constants that were learned, in words; nothing if there are none."""
    learned = run.summary.get("taus", [])
    words = [f"{each['label']} became τ={each['tau']:.4g}" for each in learned]
    return {"learned time constants": ", ".join(words)} if words else {}


def _sizes(run: FinishedRun) -> str:
    """Return the sizes of a task, as configured or as a user's own sampler makes them."""
    own = None if run.own is None else run.own.data
    if own is not None and not own.is_asked:
        return f"{own.support} support and {own.queries} query images, by {own.sampler}"
    targets = run.objective.target_kind or "classes"
    return run.asked.request.described(targets, run.asked.lengths)


def _own_terms(run: FinishedRun) -> str:
    return f" and own terms: {run.own.names}" if run.own is not None and run.own.terms else ""


def _network(config: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Return a description of the network or system that learned."""
    if "system" in provenance:
        own = ("widths", "activation", "init", "weights")
        parts = (f"{k} {v}" for k, v in provenance.items() if k in own)
        return ", ".join((str(provenance["system"]), *parts))
    widths = "-".join(map(str, provenance["widths"]))
    weights = f", weights {provenance['weights']}" if "weights" in provenance else ""
    return f"{widths}, {config['activation']}, {config['init']}{weights}"


def rule_facts(rule: Rule) -> dict[str, str]:
    """Return what a rule's file records about its origin, by name; empty for a bare rule."""
    given = dict(rule.provenance)
    found = {"data": str(given.pop("data", given.pop("dataset", "")))}
    given.pop("dataset", None)
    parts = [given.pop(name, None) for name in ("system", "widths", "activation", "init")]
    words = ["-".join(map(str, p)) if isinstance(p, list) else str(p) for p in parts if p]
    found["network"] = ", ".join(words)
    found["feedback"] = rule.feedback
    versions = given.pop("versions", {})
    if isinstance(versions, Mapping):
        found["versions"] = ", ".join(f"{name} {version}" for name, version in versions.items())
    others = {name.replace("_", " "): _plain(value) for name, value in given.items()}
    return {name: text for name, text in (found | others).items() if text}


def _plain(value: Any) -> str:
    """Return a recorded value as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
