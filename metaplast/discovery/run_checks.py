"""Checks that every part that a report reads from a run folder has the right type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from metaplast.base.bands import Band
from metaplast.base.plain_data import check, entry, number
from metaplast.discovery.result import DISCOVERED
from metaplast.discovery.run_config import CONFIG
from metaplast.discovery.run_folder import RULE
from metaplast.rules.rule import Rule

_SUMMARY = "the summary"
# The parts that every summary has, with their types.
_PARTS: Mapping[str, type | tuple[type, ...]] = MappingProxyType({
    "heldout": dict, "without": dict, "before_refit": dict, "divergences": list, "data": str,
    "dataset": str, "held_out": str, "engine": str, "test_episodes": int,
    "non_finite_episodes": int, "seconds": (int, float), "kept": list,
})  # fmt: skip


def check_summary(summary: Any) -> None:
    """Check a summary; see `metaplast.discovery.summary.summary`.

    Earlier versions did not write some parts; those may be missing.

    Raises:
        DataError: if a part is missing or has another type.
    """
    for name, kind in _PARTS.items():
        entry(summary, name, kind, _SUMMARY)
    _each(summary, "kept", _text)
    _each(summary, "divergences", _text)
    _each(summary, "notices", _text)
    check(DISCOVERED in summary["heldout"], f"{_SUMMARY} has no held-out test of the rule")
    _each_named(summary, "heldout", _check_test)
    _each_named(summary, "without", Band.from_json)
    _each_named(summary, "added", Band.from_json)
    _each_named(summary, "errors", number)
    _each(summary, "taus", _check_tau)
    _each(summary, "tried", _check_tried)
    _each(summary, "trials", _check_trial)
    lengths = [list(test.get("by_steps", {})) for test in summary["heldout"].values()]
    same = all(each == lengths[0] for each in lengths)
    check(same, f"the rules in {_SUMMARY} were tested with different numbers of support examples")


def check_origin(config: Mapping[str, Any], rule: Rule) -> None:
    """Check what a report says about the origin of a rule.

    Raises:
        DataError: if the versions or the network are not recorded.
    """
    if "versions" in config:
        entry(config, "versions", dict, CONFIG)
    if "system" not in rule.provenance:
        entry(rule.provenance, "widths", (list, tuple), f"the provenance in {RULE}")


def _each(summary: Any, part: str, checked: Callable[[Any, str], object]) -> None:
    """Check every entry of a list, if the summary has the list."""
    for each in entry(summary, part, list, _SUMMARY) if part in summary else ():
        checked(each, f"an entry of {part!r}")


def _each_named(summary: Any, part: str, checked: Callable[[Any, str], object]) -> None:
    """Check every entry of an object, if the summary has the object."""
    named = entry(summary, part, dict, _SUMMARY) if part in summary else {}
    for name, each in named.items():
        checked(each, f"{name!r} in {part!r}")


def _text(value: Any, where: str) -> None:
    check(isinstance(value, str), f"{where} must be text")


def _check_test(test: Any, where: str) -> None:
    Band.from_json(test, where)
    entry(test, "non_finite", int, where)
    check("loss" in test, f"{where} has no 'loss'")
    if test["loss"] is not None:
        number(test["loss"], f"the loss of {where}")
    _each_named(test, "by_steps", Band.from_json)


def _check_tau(tau: Any, where: str) -> None:
    entry(tau, "label", str, where)
    entry(tau, "of", str, where)
    number(entry(tau, "tau", (int, float), where), where)


def _check_tried(rule: Any, where: str) -> None:
    Band.from_json(rule, where)
    _each(rule, "terms", _text)
    entry(rule, "terms", list, where)


def _check_trial(trial: Any, where: str) -> None:
    entry(trial, "term", str, where)
    entry(trial, "entered", bool, where)
    if "tried_with" in trial:
        entry(trial, "tried_with", str, where)
    for name in ("change", "low", "high", "errors"):
        number(entry(trial, name, (int, float), where), where)
