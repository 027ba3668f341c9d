"""θ while an outer loop learns it; the loop has no other copy of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metaplast.terms.coefficients import Coefficients


class LearnedTheta:
    """θ = scale ⊙ u of a learner's terms, and the latest θ to average.

    Args:
        start: initial θ.
        scale: units of θ, shaped like it.
        window: how many of the latest θ `fitted` averages; 0 for the current one.

    Attributes:
        u: scaled coefficients, [term] or [site, term]; the parameter that the optimizer moves.
        scale: units of θ.
        window: how many of the latest θ `fitted` averages.
        latest: θ at the last steps, at most `window` of them, each before its step changed it.
    """

    def __init__(self, start: Coefficients, scale: Tensor, window: int) -> None:
        self.u = torch.nn.Parameter(start.tensor / scale)
        self.scale = scale
        self.latest: tuple[Tensor, ...] = ()
        self.window = window
        self._names = start.names

    @property
    def tensor(self) -> Tensor:
        """θ now, as engines take it, [term] or [site, term]."""
        return self.u.detach() * self.scale

    def named(self, tensor: Tensor) -> Coefficients:
        """Return a tensor shaped like θ, such as u or the scale, with the names of the terms."""
        return Coefficients(self._names, tensor)

    def passed(self, theta: Tensor) -> None:
        """Remember θ of a step, for `fitted`."""
        if self.window:
            self.latest = (*self.latest, theta)[-self.window :]

    @property
    def fitted(self) -> Coefficients:
        """The mean of the latest θ, computed in float64; the current θ if none is kept."""
        if not self.latest:
            return self.named(self.tensor)
        rows = [self.named(theta).rows for theta in self.latest]
        # [step, term, site]: the order of axes decides in which order the mean sums.
        stacked = torch.stack(rows).to("cpu", torch.float64).mT.contiguous()
        return self.named(stacked.mean(0).mT.to(self.u).reshape(self.u.shape))

    def recall(self, history: Sequence[dict[str, list[float]]]) -> None:
        """Take the latest θ from a log, for a checkpoint of an earlier version.

        Args:
            history: θ of each step by term name; a value for each site, one if it is shared.
        """
        if not self.window:
            return
        for theta in history[-self.window :]:
            rows = list(zip(*(theta[name] for name in self._names), strict=True))
            per_layer, like = self.u.dim() == 2, self.u
            found = Coefficients.from_rows(
                self._names, rows, per_layer=per_layer, dtype=like.dtype, device=like.device
            )
            self.passed(found.tensor)
