"""Digits of the engines and of a short discovery, written once and compared ever since.

    python tests/golden/digits.py            compare bit for bit, on the machine that wrote them
    python tests/golden/digits.py --write    write them again, only when digits are meant to change

The suite compares to 1e-12 instead (tests/golden/test_digits.py): another processor, or another
version of a library, may sum in another order.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from support import BACKWARD, FORWARD, matrices_of, named, normal, random_problem

from metaplast import DiscoveryConfig, discover
from metaplast.engines import get_engine

FILE = Path(__file__).with_suffix(".json")
FEEDBACKS = ("fixed", "symmetric", "symmetric-detached", "direct", "sign-symmetric", "plastic")
ACTIVATIONS = ("softplus:10", "tanh", "relu")
ENGINES = ("fused", "batched")
RULES = {
    "error": named("error_hebbian"),
    "found": named("error_hebbian", "error_error", "presynaptic_error", "oja"),
    "pool": FORWARD,
}


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield names, engines and the options of random problems."""
    for rule, feedback, activation, kind, engine in itertools.product(
        RULES, FEEDBACKS, ACTIVATIONS, ("shared", "per-layer"), ENGINES
    ):
        terms = RULES[rule]
        if rule == "pool" and feedback == "plastic":
            terms += BACKWARD
        options = {
            "terms": terms,
            "feedback": feedback,
            "activation": activation,
            "per_layer": kind == "per-layer",
            "widths": (5, 4, 4, 3),
        }
        yield f"{rule} {feedback} {activation} {kind} {engine}", engine, options


def engine_digits(engine: str, options: dict[str, Any]) -> list[float]:
    """Return loss, gradient with respect to θ, and a fixed projection of each final matrix."""
    outcome = get_engine(engine).run(random_problem(**options))
    matrices = matrices_of(outcome.final)
    shown = [(m * normal(*m.shape, seed=i)).sum() for i, m in enumerate(matrices)]
    assert outcome.theta_gradient is not None
    return [*outcome.loss.tolist(), *outcome.theta_gradient.flatten().tolist(), *map(float, shown)]


def discovery_digits() -> list[float]:
    """Return θ as searched and as found, and accuracies, of a short discovery."""
    config = DiscoveryConfig(
        terms="all", hidden=(12, 10), shots=5, queries=4, episodes=40, refit=32, refit_batch=8,
        validation=12, test_episodes=12, dtype="float64",
    )  # fmt: skip
    result = discover(config)
    rules = [*result.searched.theta, *result.rule.theta]
    accuracies = [found.score.tolist() for found in result.heldout.values()]
    return [x for row in (*rules, *accuracies) for x in row]


def all_digits() -> dict[str, list[float]]:
    """Return the digits of every case by name."""
    found = {name: engine_digits(engine, options) for name, engine, options in cases()}
    return {**found, "discovery": discovery_digits()}


def main(arguments: list[str]) -> int:
    """Write the file, or compare with it; return the exit code."""
    torch.set_num_threads(1)
    found = all_digits()
    if arguments == ["--write"]:
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(x)}" for name, x in found.items())
        FILE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
        return 0
    written = json.loads(FILE.read_text(encoding="utf-8"))
    off = {name: _distance(found.get(name, []), x) for name, x in written.items()}
    changed = {name: x for name, x in off.items() if x != 0}
    for name, distance in changed.items():
        print(f"{name}: off by {distance:.3g}")
    print(f"{len(written) - len(changed)} of {len(written)} equal bit for bit")
    return 1 if changed else 0


def _distance(found: list[float], written: list[float]) -> float:
    if len(found) != len(written):
        return math.inf
    return max(abs(a - b) for a, b in zip(found, written, strict=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
