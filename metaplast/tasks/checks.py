"""Checks that an episode batch is complete, so that every engine can rely on it.

A batch is checked when it is made; `engines.fit` checks that it fits the learner and θ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from metaplast.base.errors import UserError, require
from metaplast.base.tensors import require_one, require_tensor, type_name
from metaplast.systems.kind import all_systems
from metaplast.systems.labels import whole_numbers
from metaplast.systems.objective import Objective, all_objectives
from metaplast.systems.state import State
from metaplast.systems.system import System

if TYPE_CHECKING:
    from metaplast.tasks.batch import EpisodeBatch
    from metaplast.tasks.source import EpisodeSplit
    from metaplast.tasks.stream import StreamSplit


def checked_targets(targets: Tensor, inputs: Tensor, what: str, axes: int = 2) -> Tensor:
    """Return the targets of inputs [episode, sample, …]: int64 classes, or vectors.

    Args:
        targets: [episode, sample] whole numbers, or [episode, sample, output] floating point: class
            probabilities, or other vectors that the objective accepts. If sequences have a target
            at each step, that axis comes after the samples.
        inputs: the inputs that the targets belong to.
        what: "support" or "query".
        axes: number of axes before an input's own: 2, or 3 for mini-batches
            [episode, step, sample, …].

    Raises:
        UserError: if there are more or fewer targets than inputs, or the targets have an
            unsupported shape or dtype.
    """
    require_tensor(targets, f"{what} labels")
    shape, wanted = tuple(targets.shape), tuple(inputs.shape[:axes])
    vectors = "class probabilities [episode, query, class]"
    sizes = " × ".join(map(str, wanted))
    if targets.is_floating_point() and len(shape) != axes:
        require(
            len(shape) > axes and shape[:axes] == wanted and targets.numel() > 0,
            f"class probabilities and other target vectors must be [episode, query, class], that "
            f"is one row for each {what} image, {sizes}, got shape {shape}; give one row for each "
            f"image.",
        )
        return targets
    indices = whole_numbers(targets)
    if indices is None:
        raise UserError(
            f"{what} labels must be class indices (whole numbers) or {vectors}, got "
            f"{targets.dtype}; convert them with .long() if they are classes, or give numbers to "
            f"learn as vectors [episode, query, output]."
        )
    # In sequences, each step may have a target.
    per_step = inputs.dim() > 3 and len(shape) == 3 and shape[:2] == wanted
    require(
        shape == wanted or per_step,
        f"{what} labels must be [episode, image] class indices or {vectors}, one for each {what} "
        f"image, that is {wanted}, got {shape}; give one for each image"
        + ("." if len(shape) < 3 else ", or probabilities as floating point."),
    )
    return indices


def _require_inputs(inputs: Tensor, what: str) -> None:
    require_tensor(inputs, f"{what} images")
    require(
        inputs.dim() >= 3,
        f"{what} images must be [episode, image, input], got shape {tuple(inputs.shape)}; flatten "
        f"each image to a row of numbers and give the episodes an axis.",
    )
    require(
        inputs.is_floating_point(),
        f"{what} images must be floating point, in [0, 1] as a rule, got {inputs.dtype}; convert "
        f"them, bytes by .float() / 255.",
    )
    require(
        inputs.numel() >= 1,
        f"an episode batch needs at least one episode with at least one {what} image of one input, "
        f"got {what} images of shape {tuple(inputs.shape)}.",
    )


def checked_batch(batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
    """Return a batch's support and query targets, with whole numbers converted to int64.

    Raises:
        UserError: if tensors have a wrong type or shape, are empty, have different numbers of
            episodes or inputs, or are on different devices.
    """
    _require_inputs(batch.support_x, "support")
    _require_inputs(batch.query_x, "query")
    support, query = tuple(batch.support_x.shape), tuple(batch.query_x.shape)
    require(
        support[0] == query[0],
        f"support and query must have the same number of episodes, got {support[0]} and {query[0]} "
        f"episodes; give each episode both.",
    )
    # Support examples may come in mini-batches, which have one more axis.
    batched = len(support) == 1 + len(query)
    require(
        support[2 + batched :] == query[2:],
        f"support and query images must have the same size, got {_size(support)} and "
        f"{_size(query)} inputs.",
    )
    support_y = checked_targets(batch.support_y, batch.support_x, "support", 2 + batched)
    query_y = checked_targets(batch.query_y, batch.query_x, "query")
    tensors = [batch.support_x, support_y, batch.query_x, query_y]
    if batch.initial is not None:
        require_state(batch.initial)
        matrices = list(batch.initial.matrices.values())
        _require_episodes(matrices, support[0])
        tensors += matrices
    if batch.noise is not None:
        _require_noise(batch.noise, batch.support_x)
        tensors.append(batch.noise)
    require_one("device", {str(tensor.device) for tensor in tensors}, "images, labels and weights")
    require_one(
        "dtype",
        {str(x.dtype) for x in (batch.support_x, batch.query_x)},
        "support and query images",
    )
    return support_y, query_y


def _require_noise(noise: Tensor, inputs: Tensor) -> None:
    require_tensor(noise, "noise")
    require(
        noise.shape[:2] == inputs.shape[:2] and noise.dtype == inputs.dtype,
        f"noise must be [episode, step, …] in the images' dtype, that is {tuple(inputs.shape[:2])} "
        f"before its own axes and {inputs.dtype}, got shape {tuple(noise.shape)} and "
        f"{noise.dtype}; draw some for every step.",
    )


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape[2:]))


def require_state(state: object) -> None:
    """Raise `UserError` unless `state` is a state of dense tensors."""
    if not isinstance(state, State):
        raise UserError(
            f"weights must be a State, got {type_name(state)}; draw one with learner.draw(), or "
            f"write State.stack(weights, backward) with a list of matrices each."
        )
    for tensor in (*state.matrices.values(), *state.carry.values()):
        require_tensor(tensor, "each matrix of a state")


def _require_episodes(matrices: list[Tensor], episodes: int) -> None:
    got = [tuple(matrix.shape) for matrix in matrices]
    require(
        all(len(shape) == 3 and shape[0] == episodes for shape in got),
        f"prescribed weights must be [episode, row, column] for {episodes} episodes, got shapes "
        f"{got}.",
    )


def require_batch(batch: object, episodes: int, sampler: object) -> EpisodeBatch:
    """Return the batch that a sampler drew, after checking it.

    Raises:
        UserError: if `batch` is not a batch, or does not have the requested number of episodes.
    """
    from metaplast.tasks.batch import EpisodeBatch

    name = type(sampler).__name__
    if not isinstance(batch, EpisodeBatch):
        raise UserError(
            f"{name}.sample() must return an EpisodeBatch, got {type_name(batch)}; return one."
        )
    require(
        batch.episodes == episodes,
        f"{name}.sample() must return the requested number of episodes, {episodes}, got "
        f"{batch.episodes}.",
    )
    return batch


def require_inputs(split: EpisodeSplit | StreamSplit, system: System) -> None:
    """Check that a system reads the kind of inputs that the data have: vectors or sequences.

    Args:
        split: the split of episodes or a stream.
        system: the system that learns from it.

    Raises:
        UserError: if the system reads the other kind, or sequences with another timing.
    """
    if split.timing == system.sequence:
        return
    data = split.name or "the data"
    if split.timing is None:
        from metaplast.tasks.library import all_sources

        before = getattr(split, "prefix", "")
        sequential = [source.name for source in all_sources().values() if source.is_sequential]
        makers = [f"{before}{name}:{split.name}" for name in sequential]
        raise UserError(
            f"the system {system.name} reads sequences, but {data} has one vector for each "
            f"sample; write --dataset {' or '.join(makers)}, or give sequences of your own, "
            f"episodes.from_sequences(…)."
        )
    require(
        system.sequence is not None,
        f"the system {system.name} reads one vector for each sample, but {data} has sequences; "
        f"choose {' or '.join(_sequential())}, or other data.",
    )
    raise UserError(
        f"the system {system.name} was made for sequences of another timing than those of {data}; "
        f"make it with the timing of the split."
    )


def _sequential() -> list[str]:
    """Return the option that chooses each system that reads sequences."""
    names = [kind.name for kind in all_systems().values() if kind.reads_sequences]
    return [f"--system {name}" for name in sorted(names, reverse=True)]


def require_targets(split: EpisodeSplit | StreamSplit, objective: Objective) -> None:
    """Check that an objective takes the kind of targets that the data have: classes or numbers.

    Args:
        split: the split of episodes or a stream.
        objective: the objective of the system that learns from it; not checked if it names no kind
            of targets.

    Raises:
        UserError: if the objective takes the other kind.
    """
    if objective.target_kind in (None, split.targets):
        return
    fitting = [o.name for o in all_objectives().values() if o.target_kind == split.targets]
    mend = {
        "numbers": "classes are whole numbers, as from y.long() or y.astype(int)",
        "classes": "numbers are floating point, as from y.float() or y.astype(float), and a split "
        "of your own says EpisodeSplit(…, targets='numbers')",
    }
    raise UserError(
        f"--objective {objective.name} learns {objective.target_kind}, but "
        f"{split.name or 'the data'} has {split.targets} as targets; choose --objective "
        f"{' or '.join(fitting)}, or other data: in your own, {mend[split.targets]}; in a file, "
        f"write learn={objective.target_kind}."
    )
