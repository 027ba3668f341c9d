"""Classification: softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from metaplast.base.errors import require
from metaplast.systems.labels import class_targets
from metaplast.systems.objective import Objective


class CrossEntropy(Objective):
    """loss = −Σ_c p_c log y_c in nats, y = softmax(z), p the target's class probabilities.

    Targets are class indices [episode, sample] int64, or probabilities [episode, sample, class].
    """

    name = "cross-entropy"
    summary = "classes: softmax and cross-entropy, scored by accuracy"
    aliases = ("classification",)
    score_name = "accuracy"
    percent = True
    worst = 0.0
    best = 1.0
    least_effect = 0.002
    loss_unit = "nats"
    target_kind = "classes"
    activity_text = "softmax"
    loss_text = "the cross-entropy"
    error_text = "y_L − onehot(label)"
    error_latex = r"y_{L} - \mathrm{onehot}(\text{label})"
    error_code = "{y} - {t}"

    def activity(self, output: Tensor) -> Tensor:
        """Return softmax(z)."""
        return torch.softmax(output, -1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return −Σ_c p_c log y_c of each sample."""
        losses = functional.cross_entropy(
            output.flatten(0, 1), target.flatten(0, 1), reduction="none"
        )
        return losses.view(output.shape[:-1])

    def error(self, output: Tensor, target: Tensor) -> Tensor:
        """Return y − p."""
        return self.activity(output) - class_probabilities(target, output.shape[-1], output.dtype)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 if the largest output is that of the target's most probable class, else 0."""
        likeliest = target.argmax(-1) if target.is_floating_point() else target
        return (output.argmax(-1) == likeliest).to(output.dtype)

    def chance(self, outputs: int) -> float:
        """Return 1/C: each of C classes is equally likely."""
        return 1 / outputs

    def targets(
        self,
        given: object,
        shape: Sequence[int],
        neurons: int,
        *,
        what: str = "the label",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        online: bool = False,
    ) -> Tensor:
        """Return class indices, int64, or probabilities; see `labels.class_targets`.

        NaN probabilities are accepted, as in images: the run reports their episode as diverged.
        """
        found = class_targets(given, neurons, shape, what, device=device, dtype=dtype, nan=True)
        require(
            not (online and found.is_floating_point()),
            f"{what} must be class indices, got {found.dtype}; only query labels may be class "
            f"probabilities.",
        )
        return found


def class_probabilities(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Return labels as probabilities, [..., class].

    Args:
        labels: class indices [...] int64, or probabilities [..., class].
        classes: the number of classes.
        dtype: the dtype of the result.
    """
    if labels.is_floating_point():
        return labels.to(dtype)
    return functional.one_hot(labels, classes).to(dtype)


cross_entropy = CrossEntropy()
