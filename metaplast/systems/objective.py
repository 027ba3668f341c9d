"""The objective of a system: the loss, its gradient at the output, and the reported score."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from metaplast.base.errors import UserError, require
from metaplast.base.registry import find, lookup
from metaplast.base.scores import ScoreScale
from metaplast.base.tensors import type_name

OBJECTIVES = "metaplast.objectives"

#: The targets of samples: class indices or probabilities, or vectors of real numbers.
TargetKind = Literal["classes", "numbers"]


class Objective(ABC):
    """A loss of a system's output, and a score for the output's quality.

    Laws of every objective, checked by one test suite:

    - `error` is the gradient of `loss` with respect to the output, ∂loss/∂z, of each sample;
    - `loss`, `error` and `score` treat samples independently: they take no mean over samples;
    - the score is larger when the output is better;
    - `least_score` is finite; its mean over an episode's samples is the lowest score that counts;
    - no method is random or depends on torch's global state.

    Shapes: output z [episode, sample, neuron], the net input of the last layer; a target is what
    `targets` returns.

    Attributes:
        name: the text after `--objective`.
        summary: one line for `--help`.
        aliases: other names accepted on input.
        score_name: name of the score, such as "accuracy".
        percent: whether the score is a share, shown as a percentage.
        worst: the lowest possible score; may be −∞.
        best: the highest possible score; may be ∞.
        least_effect: the least gain in score for which a term is kept, unless the user sets it.
        loss_unit: unit of the loss, such as "nats"; empty if it has none.
        target_kind: "classes" or "numbers"; None if only `targets` decides. With None, no programs
            can be exported.
        activity_text: the output neurons' σ in a word, for documents and programs; programs can
            compute "softmax" and "linear". "" to print only the objective's name.
        loss_text: the loss in words, after "the error comes from"; "" to print only the name.
        error_text: e_L in Unicode, for programs.
        error_latex: e_L in LaTeX, for documents.
        error_code: NumPy code of e_L from {y}, the activity of the output neurons, and {t}, the
            target as a vector, with {xp} for the array library. None if rules with this objective
            cannot be exported as code.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    score_name: ClassVar[str]
    percent: ClassVar[bool] = False
    worst: ClassVar[float]
    best: ClassVar[float] = math.inf
    least_effect: ClassVar[float]
    loss_unit: ClassVar[str] = ""
    target_kind: ClassVar[TargetKind | None] = None
    activity_text: ClassVar[str] = ""
    loss_text: ClassVar[str] = ""
    error_text: ClassVar[str] = "∂loss/∂z_L"
    error_latex: ClassVar[str] = r"\partial\,\text{loss} / \partial z_{L}"
    error_code: ClassVar[str | None] = None

    @abstractmethod
    def activity(self, output: Tensor) -> Tensor:
        """Return the activity of the output neurons, the signal that terms read, [..., neuron]."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample, [episode, sample]."""

    @abstractmethod
    def error(self, output: Tensor, target: Tensor) -> Tensor:
        """Return ∂loss/∂output of each sample, [episode, sample, neuron]."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the score of each sample's output, [episode, sample]; larger is better."""

    def checked_error(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the result of `error`, after checking it.

        Raises:
            UserError: if the method returned anything but a tensor of the output's shape.
        """
        return self._checked("error", self.error(output, target), output.shape)

    def checked_quality(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the results of `loss` and `score`, after checking them.

        Raises:
            UserError: if a method returned anything but a tensor [episode, sample].
        """
        shape = output.shape[:-1]
        loss = self._checked("loss", self.loss(output, target), shape)
        return loss, self._checked("score", self.score(output, target), shape)

    def _checked(self, method: str, value: object, shape: torch.Size) -> Tensor:
        """Return `value`, a method's result, after checking that it is a tensor of this shape."""
        if isinstance(value, Tensor) and value.shape == shape:
            return value
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type_name(value)
        raise UserError(
            f"{method}() of the objective {self.name} must return a tensor of shape "
            f"{tuple(shape)}, got {got}; check what {type(self).__name__}.{method} returns."
        )

    def least_score(self, target: Tensor) -> Tensor:
        """Return the lowest score that counts for each sample, [episode, sample]; finite.

        A diverged episode gets this score, and no episode gets a lower one, so a mean over episodes
        is always finite. An objective whose `worst` is infinite must define this method.
        """
        if not math.isfinite(self.worst):
            raise UserError(f"{type(self).__name__} has no lowest score; define least_score().")
        return torch.full(target.shape[:2], self.worst, dtype=torch.float32, device=target.device)

    def chance(self, outputs: int) -> float | None:
        """Return the mean score of guessing among this number of outputs; None if undefined."""
        return None

    @property
    def score_scale(self) -> ScoreScale:
        """Name, limits and display of the score."""
        return ScoreScale(self.score_name, self.percent, self.worst, self.best)

    @property
    def loss_axis(self) -> str:
        """The label of an axis, or the head of a column, that shows losses."""
        return f"loss, {self.loss_unit}" if self.loss_unit else "loss"

    @abstractmethod
    def targets(
        self,
        given: object,
        shape: Sequence[int],
        neurons: int,
        *,
        what: str = "the target",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        online: bool = False,
    ) -> Tensor:
        """Return targets in the format of the other methods, [*shape] or [*shape, neuron].

        Args:
            given: the user's targets: a tensor, an array or a number.
            shape: (), (episode,) or (episode, sample).
            neurons: number of outputs.
            what: the name of the targets in error messages.
            dtype: the dtype of the result, unless the targets are class indices.
            device: the device of the result.
            online: whether they are targets of support examples, which every engine must support.

        Raises:
            UserError: if the targets are invalid for this objective.
        """

    def finite_targets(
        self, given: object, shape: Sequence[int], neurons: int, like: Tensor, *, many: bool = False
    ) -> Tensor:
        """Return `targets` with the dtype and device of a tensor; NaN and infinity are refused.

        Args:
            given: the user's targets, as for `targets`.
            shape: () or (example,).
            neurons: number of outputs.
            like: gives dtype and device.
            many: whether error messages say "labels" or "targets".

        Raises:
            UserError: if the targets are invalid for this objective.
        """
        noun = "label" if self.target_kind == "classes" else "target"
        what = f"the {noun}s" if many else f"the {noun}"
        found = self.targets(given, shape, neurons, what=what, dtype=like.dtype, device=like.device)
        require(
            not found.is_floating_point() or bool(torch.isfinite(found).all()),
            f"{what} must be finite numbers, got one that is not a number; repair it.",
        )
        return found


@dataclass(frozen=True, eq=False)
class ErrorAt:
    """The function z_L → e_L of an objective and a target."""

    objective: Objective
    target: Tensor

    def __call__(self, output: Tensor) -> Tensor:
        """Return e_L, [episode, sample, neuron]."""
        return self.objective.checked_error(output, self.target)


def all_objectives() -> Mapping[str, Objective]:
    """Return every installed objective by name."""
    return find(OBJECTIVES, Objective)  # type: ignore[type-abstract]


def get_objective(name: str) -> Objective:
    """Return the objective with this name or alias.

    Raises:
        UserError: if there is no such objective (the message suggests the nearest name), or it has
            neither a lowest score nor a `least_score`.
    """
    found = lookup("objective", name, all_objectives())
    require(
        math.isfinite(found.worst) or type(found).least_score is not Objective.least_score,
        f"the objective {found.name} has no lowest score (worst is {found.worst}), so "
        f"{type(found).__name__} must define least_score(); add it to its package.",
    )
    return found
