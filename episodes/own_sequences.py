"""A source made from a user's own sequences, with a target at the end or at each step."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from torch import Tensor

from episodes.arrays import Array, as_inputs, as_labels
from episodes.own_source import Scale, input_pool, with_targets
from episodes.pool import LabelledPool
from episodes.scaling import require_scaling
from episodes.source import Held, PoolSource
from metaplast.base.errors import require, shown
from metaplast.systems.timing import Timing
from metaplast.tasks.source import EpisodeSource


def from_sequences(
    sequences: Any,
    targets: Any,
    *,
    name: str = "sequences",
    held_out_classes: Any = None,
    scale: Scale = "auto",
    target_scale: Scale = "auto",
) -> EpisodeSource:
    """Return a source over sequences in memory, which are copied, for `--system recurrent`.

    Args:
        sequences: [sequence, time, feature] real numbers, all of one length; without the last axis
            if there is one feature.
        targets: the targets to learn:

            - at the end: classes, whole numbers or text [sequence], or numbers, floating point
              [sequence] or [sequence, output];
            - at each step: classes, whole numbers [sequence, time], or numbers, floating point
              [sequence, time, output].
        name: what messages and descriptions call the data.
        held_out_classes: as for `from_tensors`; only with one class for each sequence.
        scale: as for `from_tensors`; all steps share the scale of a feature.
        target_scale: as for `from_tensors`; all steps share the scale of an output.

    Raises:
        UserError: if sequences differ in length, or another requirement is not met.
    """
    require(isinstance(name, str), f"the name of the data must be text, got {shown(name)}.")
    require_scaling(name, scale)
    require_scaling(name, target_scale, "target_scale")
    _require_one_length(name, sequences)
    inputs, labels = as_inputs(name, sequences), as_labels(name, targets)
    inputs = inputs[..., None] if inputs.ndim == 2 else inputs
    _check_shapes(name, inputs, labels)
    each = _is_each(labels)
    timing = Timing(frames=inputs.shape[1], show=1, time=inputs.shape[1], each=each)
    pool = replace(input_pool(name, inputs, scale), timing=timing)
    if not each:
        _warn_of_one_number_a_step(name, labels, timing.time)
        pool = with_targets(name, pool, labels, held_out_classes, target_scale)
    else:
        pool = _with_each(name, pool, labels, held_out_classes, target_scale)
    summary = f"{len(inputs)} sequences of your own, {timing.description}"
    return PoolSource(name, summary, Held(pool), shots=10)


def _is_each(targets: Array) -> bool:
    """Return whether targets have an axis of time steps."""
    return bool(targets.ndim == (3 if targets.dtype.kind == "f" else 2))


def _with_each(
    name: str, pool: LabelledPool, targets: Array, held_out: Any, target_scale: Scale
) -> LabelledPool:
    """Return a pool with targets at each step, in which all sequences count as one class."""
    require(
        held_out is None,
        f"{name} has a target at each step and no class for a whole sequence, so held_out_classes "
        f"means nothing; leave it out.",
    )
    # For checks and notes, each step counts as a sample.
    steps = with_targets(name, pool, targets.reshape(-1, *targets.shape[2:]), None, target_scale)
    found = steps.labels if steps.targets is None else steps.targets
    require(
        steps.targets is not None or bool(found.any()),
        f"{name} must have two classes or more, got one class at all steps, so there is nothing to "
        f"learn; check the targets.",
    )
    return replace(steps, labels=pool.labels, targets=found.view(*targets.shape))


def _check_shapes(name: str, inputs: Tensor, targets: Array) -> None:
    require(
        inputs.ndim == 3 and inputs.numel() > 0,
        f"{name} must have sequences [sequence, time, feature], got shape {tuple(inputs.shape)}; "
        f"reshape them.",
    )
    wanted = tuple(inputs.shape[: 2 if _is_each(targets) else 1])
    most = 3 if targets.dtype.kind == "f" else 2
    require(
        targets.shape[: len(wanted)] == wanted and 1 <= targets.ndim <= most and targets.size > 0,
        f"{name} must have targets [sequence] or [sequence, output], or at each step "
        f"[sequence, time] for classes or [sequence, time, output] for numbers, got shape "
        f"{targets.shape} for sequences of shape {tuple(inputs.shape)}; reshape them.",
    )


def _warn_of_one_number_a_step(name: str, targets: Array, steps: int) -> None:
    """Warn if targets [sequence, output] look like one number at each step."""
    if targets.ndim == 2 and targets.shape[1] == steps:
        warnings.warn(
            f"{name}: floating-point targets of shape {targets.shape} are {steps} outputs at the "
            f"end of a sequence; if they are one number at each of its {steps} steps, give them as "
            f"[sequence, time, output], as targets[..., None] is.",
            stacklevel=3,
        )


def _require_one_length(name: str, sequences: Any) -> None:
    """Raise `UserError` if a list holds sequences of unequal length."""
    if not isinstance(sequences, list | tuple):
        return
    lengths = {len(each) for each in sequences if hasattr(each, "__len__")}
    require(
        len(lengths) < 2,
        f"{name}: all sequences must have one length, got {min(lengths, default=0)} to "
        f"{max(lengths, default=0)} time steps; pad or cut them.",
    )
