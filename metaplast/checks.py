"""What every engine may rely on: an episode batch is whole, and fits the learner and θ.

A batch is checked where it is made, the rest where a `Problem` is made; engines check nothing.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from metaplast.errors import UserError, require
from metaplast.labels import require_in_range, require_probabilities, whole_numbers

if TYPE_CHECKING:
    from metaplast.episode import EpisodeBatch
    from metaplast.learner import Learner, State

DTYPES = (torch.float32, torch.float64)


def require_count(value: object, what: str, least: int = 1) -> int:
    """Return a count as a Python int.

    Raises:
        UserError: if it is not a whole number of at least `least`; a bool and a float are none.
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    require(
        is_whole and int(value) >= least,  # type: ignore[call-overload]
        f"{what} must be a whole number of at least {least}, got {value!r}.",
    )
    return int(value)  # type: ignore[call-overload, no-any-return]


def require_tensor(value: object, what: str) -> None:
    """Raise `UserError` unless `value` is a dense tensor with numbers in it."""
    require(
        isinstance(value, Tensor),
        f"{what} must be a torch tensor, got {_type(value)}; convert it with torch.as_tensor.",
    )
    assert isinstance(value, Tensor)
    require(
        value.layout == torch.strided and value.device.type != "meta",
        f"{what} must be a dense tensor, got one of layout {value.layout} on {value.device}; "
        f"convert it with .to_dense().",
    )


def checked_labels(labels: Tensor, images: Tensor, what: str, *, soft: bool) -> Tensor:
    """Return the labels of images [episode, image, pixel]: int64 indices, or probabilities.

    Args:
        labels: [episode, image] whole numbers or, where `soft`, [episode, image, class] numbers.
        images: what they label.
        what: "support" or "query".
        soft: whether they may be probabilities.

    Raises:
        UserError: if there are more or fewer than images, or they are no labels.
    """
    require_tensor(labels, f"{what} labels")
    shape, wanted = tuple(labels.shape), tuple(images.shape[:2])
    other = " or class probabilities [episode, query, class]" if soft else ""
    if soft and labels.is_floating_point():
        require(
            len(shape) == 3 and shape[:2] == wanted and shape[2] >= 1,
            f"class probabilities must be [episode, query, class], that is one row for each query "
            f"image, {wanted[0]} × {wanted[1]}, got shape {shape}; give one row for each image.",
        )
        return labels
    indices = whole_numbers(labels)
    if indices is None:
        raise UserError(
            f"{what} labels must be class indices (whole numbers){other}, got {labels.dtype}; "
            f"convert them with .long() if they are classes."
        )
    require(
        shape == wanted,
        f"{what} labels must be [episode, image] class indices{other}, one for each {what} image, "
        f"that is {wanted}, got {shape}; give one for each image"
        + ("." if len(shape) < 3 else ", or probabilities as floating point."),
    )
    return indices


def _require_images(images: Tensor, what: str) -> None:
    require_tensor(images, f"{what} images")
    require(
        images.dim() == 3,
        f"{what} images must be [episode, image, pixel], got shape {tuple(images.shape)}; flatten "
        f"each image to a row of pixels and give the episodes an axis.",
    )
    require(
        images.is_floating_point(),
        f"{what} images must be floating point, in [0, 1] as a rule, got {images.dtype}; convert "
        f"them, bytes by .float() / 255.",
    )
    episodes, count, pixels = images.shape
    require(
        episodes >= 1 and count >= 1 and pixels >= 1,
        f"an episode batch needs at least one episode with at least one {what} image of one pixel, "
        f"got {what} images of shape {tuple(images.shape)}.",
    )


def checked_batch(batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
    """Return a batch's support and query labels, whole numbers as int64.

    Raises:
        UserError: if tensors are of wrong kind or shape, empty, of different numbers of episodes
            or pixels, or on different devices.
    """
    _require_images(batch.support_x, "support")
    _require_images(batch.query_x, "query")
    support, query = tuple(batch.support_x.shape), tuple(batch.query_x.shape)
    require(
        support[0] == query[0],
        f"support and query must be of the same episodes, got {support[0]} and {query[0]} "
        f"episodes; give each episode both.",
    )
    require(
        support[2] == query[2],
        f"support and query images must be of one size, got {support[2]} and {query[2]} pixels.",
    )
    support_y = checked_labels(batch.support_y, batch.support_x, "support", soft=False)
    query_y = checked_labels(batch.query_y, batch.query_x, "query", soft=True)
    tensors = [batch.support_x, support_y, batch.query_x, query_y]
    if batch.initial is not None:
        matrices = state_matrices(batch.initial)
        _require_episodes(matrices, support[0])
        tensors += matrices
    _require_one("device", {str(tensor.device) for tensor in tensors}, "images, labels and weights")
    _require_one(
        "dtype",
        {str(x.dtype) for x in (batch.support_x, batch.query_x)},
        "support and query images",
    )
    return support_y, query_y


def state_matrices(state: State) -> list[Tensor]:
    """Return all the matrices of a state.

    Raises:
        UserError: if it is no state.
    """
    is_pair = isinstance(state, tuple) and hasattr(state, "weights") and hasattr(state, "backward")
    groups: tuple[object, ...] = tuple(state) if is_pair else ()
    require(
        is_pair and all(isinstance(group, tuple | list) for group in groups),
        f"weights must be a State, got {_type(state)}; draw one with learner.draw(), or write "
        f"State(weights, backward) with a tuple of matrices each.",
    )
    matrices = [*state.weights, *state.backward]
    for matrix in matrices:
        require_tensor(matrix, "each matrix of a state")
    return matrices


def _require_episodes(matrices: Sequence[Tensor], episodes: int) -> None:
    got = [tuple(matrix.shape) for matrix in matrices]
    require(
        all(len(shape) == 3 and shape[0] == episodes for shape in got),
        f"prescribed weights must be [episode, row, column] for {episodes} episodes, got shapes "
        f"{got}.",
    )


def _require_one(kind: str, found: set[str], what: str) -> None:
    require(
        len(found) == 1,
        f"{what} must share one {kind}, got {' and '.join(sorted(found))}; convert them.",
    )


def require_fit(learner: Learner, theta: Tensor, state: State, episodes: EpisodeBatch) -> None:
    """Raise `UserError` unless an unroll's four parts fit each other.

    The batch itself was checked where it was made; here are θ's and the weights' shapes, the
    range of labels, dtypes and devices.
    """
    from metaplast.episode import EpisodeBatch
    from metaplast.learner import Learner

    for part, kind in ((learner, Learner), (episodes, EpisodeBatch)):
        require(
            isinstance(part, kind),
            f"an unroll takes a learner, theta, a state and an episode batch, got {_type(part)} "
            f"where a {kind.__name__} belongs.",
        )
    require_tensor(theta, "theta")
    network, terms = learner.network, len(learner.terms)
    allowed = ((terms,), (network.layers, terms))
    require(
        tuple(theta.shape) in allowed,
        f"theta must be [term] or [layer, term], that is {allowed[0]} or {allowed[1]}, "
        f"got {tuple(theta.shape)}.",
    )
    pixels = episodes.support_x.shape[-1]
    require(
        pixels == network.widths[0],
        f"the network takes {network.widths[0]} inputs, the episodes have images of {pixels} "
        f"pixels; set the network's first width to that.",
    )
    _require_classes(episodes, network.widths[-1])
    matrices = state_matrices(state)
    _require_shapes(learner, state, episodes.episodes)
    parts = [theta, *matrices, episodes.support_x]
    found = {part.dtype for part in parts}
    require(
        len(found) == 1,
        f"theta, weights and images must share one dtype, got {sorted(map(str, found))}; "
        f"convert them.",
    )
    require(
        theta.dtype in DTYPES,
        f"engines compute in float32 or float64, got {theta.dtype}; convert theta, weights and "
        f"images.",
    )
    _require_one("device", {str(part.device) for part in parts}, "theta, weights and images")


def _require_classes(episodes: EpisodeBatch, classes: int) -> None:
    require_in_range(episodes.support_y, classes, "support labels")
    if not episodes.query_y.is_floating_point():
        require_in_range(episodes.query_y, classes, "query labels")
        return
    shape = tuple(episodes.query_y.shape)
    require(
        shape[-1] == classes,
        f"class probabilities must be [episode, query, class], here {(*shape[:-1], classes)}, got "
        f"{shape}; set the network's last width to the number of classes.",
    )
    # A not-a-number passes, as in images: the guard reports the episode that it spoils.
    require_probabilities(episodes.query_y, "query labels", nan=True)


def _require_shapes(learner: Learner, state: State, episodes: int) -> None:
    network = learner.network
    widths = network.widths
    expected = [*zip(widths[1:], widths[:-1], strict=True), *learner.feedback.shapes(network)]
    wanted = [(episodes, *shape) for shape in expected]
    got = [tuple(matrix.shape) for matrix in (*state.weights, *state.backward)]
    require(
        got == wanted and len(state.weights) == network.layers,
        f"the weights must be of shapes {wanted}, got {got}; draw them with learner.draw().",
    )


def require_batch(batch: object, episodes: int, sampler: object) -> EpisodeBatch:
    """Return what a sampler drew.

    Raises:
        UserError: if it is no batch, or of another number of episodes than was asked for.
    """
    from metaplast.episode import EpisodeBatch

    name = type(sampler).__name__
    if not isinstance(batch, EpisodeBatch):
        raise UserError(
            f"{name}.sample() must return an EpisodeBatch, got {_type(batch)}; return one."
        )
    require(
        batch.episodes == episodes,
        f"{name}.sample() must return as many episodes as it is asked for, {episodes}, got "
        f"{batch.episodes}.",
    )
    return batch


def _type(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
