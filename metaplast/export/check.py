"""Run generated code in a separate process and compare it with the engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from metaplast.base.errors import UserError, require
from metaplast.base.seeds import generator
from metaplast.export.exporter import CodeExporter, Network
from metaplast.export.objective import objective_of
from metaplast.export.text import one_line
from metaplast.rules.rule import Rule
from metaplast.systems.constrained import constrained
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.system import Examples, System
from metaplast.terms.algebra import W

TOLERANCE = 1e-10
STEPS = 5
STATES = 3
MOST_WEIGHTS = 50_000_000
_RUNNER = Path(__file__).with_name("_runner.py")
_SECONDS = 600


@dataclass(frozen=True)
class Check:
    """The difference between generated code and the engine.

    Attributes:
        steps: number of examples learned from each random state.
        states: number of random states.
        difference: the largest difference in any entry of a matrix, relative to the matrix's
            largest entry if that is above 1.
    """

    steps: int
    states: int
    difference: float

    def __str__(self) -> str:
        """Return a human-readable description of the comparison."""
        return (
            f"checked against the engine over {self.steps} steps from each of {self.states} "
            f"random states, largest difference {self.difference:.1g}"
        )


@dataclass(frozen=True)
class _Trial:
    """One random state with the examples to learn from it, and the engine's result."""

    start: State
    images: torch.Tensor
    labels: torch.Tensor  # classes, or vectors [step, output]
    end: State


def check(source: str, rule: Rule, network: Network, exporter: CodeExporter) -> Check:
    """Return the difference between the code and the engine, in float64 from random states.

    Raises:
        UserError: if the code's package is not installed, the code fails, or it differs from
            the engine by more than `TOLERANCE`.
    """
    require(
        importlib.util.find_spec(exporter.package) is not None,
        f"{exporter.name}: the code could not be checked and is therefore not written, because "
        f"{exporter.package} is not installed here; install it (pip install {exporter.package}) "
        f"and export again.",
    )
    weights = sum(rows * columns for rows, columns in _weights(network).values())
    require(
        weights <= MOST_WEIGHTS,
        f"{exporter.name}: a network of {weights} weights is too large to run the code on; give "
        f"--widths for one of at most {MOST_WEIGHTS}; the code works for larger ones too.",
    )
    network = replace(network, objective_name=objective_of(rule, network).name)
    learner = rule.learner(constrained(network, rule.weights))
    trials = [_trial(learner, rule, index) for index in range(STATES)]
    ends = _run(source, exporter, trials, len(_weights(network)))
    difference = max(
        (_distance(np.asarray(matrix), end)
         for trial, matrices in zip(trials, ends, strict=True)
         for matrix, end in zip(_matrices(trial.end), matrices, strict=True)),
        default=0.0,
    )  # fmt: skip
    require(
        difference <= TOLERANCE,
        f"{exporter.name}: the results of the code differ from the engine's by {difference:.3g}, "
        f"more than {TOLERANCE:g}, and it is therefore not written; please report this with the "
        f"rule.",
    )
    return Check(STEPS, STATES, difference)


def _trial(learner: Learner, rule: Rule, index: int) -> _Trial:
    """Return a random state, examples, and the engine's final state."""
    draw, system = generator(0, "export", index), learner.system
    start = state = learner.draw(1, draw, torch.float64)
    frames = () if system.sequence is None else (system.sequence.frames,)
    shape = (STEPS, *frames, system.inputs)
    images = torch.rand(shape, generator=draw, dtype=torch.float64, device="cpu")
    labels = _targets(system, draw)
    theta = rule.named_theta.for_sites(learner.sites)[None]
    for image, label in zip(images, labels, strict=True):
        state = learner.step(state, theta, Examples(image[None], label[None]))
    require(
        all(bool(torch.isfinite(m).all()) for m in state.matrices.values()),
        f"the rule diverges within {STEPS} steps from random weights, so code for it cannot be "
        f"checked; export a rule that learns.",
    )
    return _Trial(start, images, labels, state)


def _targets(system: System, draw: torch.Generator) -> torch.Tensor:
    """Return random targets of the kind that the objective takes."""
    shape = (STEPS, *system.target_shape)
    if system.objective.target_kind == "numbers":
        shape = (*shape, system.outputs)
        return torch.randn(shape, generator=draw, dtype=torch.float64, device="cpu")
    return torch.randint(system.outputs, shape, generator=draw, dtype=torch.int64, device="cpu")


def _weights(system: System) -> dict[str, tuple[int, int]]:
    """Return names and shapes of the forward weights, which come first in a state."""
    return {group.name: system.shapes[group.name] for group in system.groups if group.matrix == W}


def _matrices(state: State) -> list[np.ndarray]:
    return [matrix[0].numpy() for matrix in state.matrices.values()]


def _distance(expected: np.ndarray, got: np.ndarray) -> float:
    if got.shape != expected.shape or not np.isfinite(got).all():
        return np.inf
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    return float(np.abs(got - expected).max(initial=0)) / scale


def _run(
    source: str, exporter: CodeExporter, trials: Sequence[_Trial], weights: int
) -> list[list[np.ndarray]]:
    """Return the matrices that the code learns from each trial's start, the weights first."""
    with tempfile.TemporaryDirectory(prefix="metaplast-export-") as name:
        folder = Path(name)
        (folder / "exported.py").write_text(source, encoding="utf-8")
        (folder / "driver.py").write_text(exporter.driver, encoding="utf-8")
        for index, trial in enumerate(trials):
            arrays = {"images": trial.images.numpy(), "labels": trial.labels.numpy()}
            matrices = _matrices(trial.start)
            groups = {"weights": matrices[:weights], "feedback": matrices[weights:]}
            for kind, group in groups.items():
                arrays |= {f"{kind}{k}": matrix for k, matrix in enumerate(group)}
            np.savez(folder / f"start{index}.npz", **arrays)  # type: ignore[arg-type]
        _execute(folder, exporter)
        ends = []
        for index in range(len(trials)):
            with np.load(folder / f"end{index}.npz", allow_pickle=False) as saved:
                ends.append([saved[f"matrix{k}"] for k in range(len(saved.files))])
        return ends


def _execute(folder: Path, exporter: CodeExporter) -> None:
    # Neither the user's folder (-P) nor environment variables (-E) can change what is run; -I would
    # also hide packages installed with pip's --user.
    command = [sys.executable, "-E", "-P", str(_RUNNER), str(folder)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, encoding="utf-8", errors="replace",
            cwd=folder, timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{exporter.name}: the code did not end within {_SECONDS} s and is therefore not "
            f"written; export for a smaller network with --widths."
        ) from None
    if done.returncode != 0:
        last = one_line(done.stderr.strip().rpartition("\n")[2]) or f"exit code {done.returncode}"
        what = last.rstrip(".").replace(". ", "; ")
        raise UserError(
            f"{exporter.name}: the code fails ({what}) and is therefore not written; "
            f"please report this with the rule."
        )
