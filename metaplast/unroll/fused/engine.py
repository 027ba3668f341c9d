"""The fused engine: one episode, one core, weights that stay in its cache, and no stored weights.

Reversible: a step changes a matrix by M⁺ = (1 + g) M + Σ a ⊗ V_a, so the backward sweep has

    M = (M⁺ − Σ a ⊗ V_a) / (1 + g)

from the vectors of the step alone, and keeps no weights but every few hundred steps, or where decay
would make the division inexact. Every kept copy is compared with the rebuilt weights; where they
differ, the episode is run again with more copies, at last one a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metaplast.errors import UserError
from metaplast.learner import Learner
from metaplast.torch_settings import exact_run
from metaplast.unroll.contract import Engine, Outcome, Problem

# Largest |rebuilt − real| / max |real| in a matrix for which a gradient is returned.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


class ReversalError(UserError):
    """The weights rebuilt in the backward sweep differ from the real ones: no gradient."""


@dataclass(frozen=True)
class Settings:
    """How the engine trades memory, speed and precision.

    Attributes:
        threads: episodes at once; None takes torch's number of threads.
        drop_pixels: leave out input pixels that are zero in every image of an episode.
        spacing: most steps between two kept copies of the weights.
        decay_spacing: the same for rules with decay, which round every weight at every step.
        limit: most by which undoing the steps between two copies may enlarge an error.
        most_kept: bytes of kept copies up to which an episode whose weights could not be rebuilt is
            run again, with copies at shorter intervals.
    """

    threads: int | None = None
    drop_pixels: bool = True
    spacing: int = 500
    decay_spacing: int = 100
    limit: float = 8.0
    most_kept: int = 2**29


class FusedEngine(Engine):
    """One episode on each core, compiled by numba; exact and reversible."""

    name = "fused"
    summary = "one episode a core, compiled, reversible; CPU only; any declared term"

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def refusal(self, learner: Learner, device: torch.device) -> str | None:
        """Return why this engine cannot serve `learner` on `device`, None if it can."""
        if device.type != "cpu":
            return f"the fused engine runs on the CPU, not on {device}; use --engine batched."
        dense = learner.forward_plasticity.dense + learner.backward_plasticity.dense
        if dense:
            name = learner.terms[dense[0][0]].name
            return (
                f"the fused engine takes declared formulas only, and {name} is a dense torch "
                f"function; use --engine batched, or leave the term out."
            )
        try:
            import numba  # noqa: F401
        except ImportError:
            return "the fused engine needs numba, which is not installed; use --engine batched."
        except ValueError as error:
            raise UserError(
                f"numba cannot be loaded ({error}); check the environment variable "
                f"NUMBA_NUM_THREADS, and start again."
            ) from None
        return None

    @exact_run
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll all episodes; see `Engine.run`.

        An episode in which undoing the steps is too inexact, as on the brink of divergence, is
        unrolled again with more copies of the weights kept, at last one for each step.

        Raises:
            ReversalError: if the copies would take more than `Settings.most_kept`.
        """
        from metaplast.unroll.fused.batch import Batch

        return Batch(problem, self.settings, gradient).run()
