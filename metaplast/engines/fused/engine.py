"""The fused engine: one episode per core; weights stay in its cache and are not stored per step.

It is reversible: a step changes a matrix by M⁺ = (1 + g) M + Σ a ⊗ V_a, so the backward sweep
computes

    M = (M⁺ − Σ a ⊗ V_a) / (1 + g)

from only the vectors of the step. It keeps copies of the weights (checkpoints) every few hundred
steps, and more often where decay would make the division inexact. Every checkpoint is compared with
the rebuilt weights; if they differ, the episode is rerun with more checkpoints, up to one per step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metaplast.base.errors import UserError
from metaplast.base.torch_settings import exact_run
from metaplast.engines.contract import Engine, Outcome, Problem
from metaplast.engines.fused.served import keeps_only_traces, signals_of, source_of, stack_of
from metaplast.engines.fused_recurrent.served import is_recurrent
from metaplast.engines.fused_recurrent.served import refusal as recurrent_refusal
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.objectives.cross_entropy import CrossEntropy
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Formula
from metaplast.terms.term import Term

# Largest |rebuilt − real| / max |real| in a matrix for which a gradient is returned.
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


class ReversalError(UserError):
    """The weights rebuilt in the backward sweep are too inexact, so there is no gradient."""


@dataclass(frozen=True)
class Settings:
    """Settings that trade memory, speed and precision of the engine.

    Attributes:
        threads: number of episodes in parallel; None for torch's number of threads.
        drop_pixels: whether to leave out input pixels that are zero in every image of an episode.
        spacing: largest number of steps between two kept copies of the weights.
        decay_spacing: the same for rules with decay, which round every weight at every step.
        limit: largest factor by which undoing the steps between two copies may amplify an error.
        most_kept: largest number of bytes that the copies may take when an episode whose weights
            could not be rebuilt is rerun with copies at shorter intervals.
    """

    threads: int | None = None
    drop_pixels: bool = True
    spacing: int = 500
    decay_spacing: int = 100
    limit: float = 8.0
    most_kept: int = 2**29


class FusedEngine(Engine):
    """One episode per core, compiled by numba; exact and reversible."""

    name = "fused"
    summary = "one episode a core, compiled, reversible; CPU only; declared terms, traces"

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def refusal(self, learner: Learner, device: torch.device) -> str | None:
        """Return why this engine cannot run `learner` on `device`, or None if it can."""
        if device.type != "cpu":
            return f"the fused engine runs on the CPU, not on {device}; use --engine batched."
        own = recurrent_refusal if is_recurrent(learner.system) else _stack_refusal
        refusal = _common_refusal(learner) or own(learner)
        if refusal is not None:
            return refusal
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

        If undoing the steps of an episode is too inexact, for example close to divergence, the
        episode is unrolled again with more kept copies of the weights, up to one per step.

        Raises:
            UserError: if the engine does not support the learner, or each episode has its own θ.
            ReversalError: if the copies would take more than `Settings.most_kept`, or the weights
                cannot be rebuilt even with one copy per step.
        """
        refusal = self.refusal(problem.learner, problem.episodes.support_x.device)
        if refusal is not None:
            raise UserError(refusal)
        if problem.theta.dim() == 3:
            raise UserError(
                "the fused engine needs the same theta for all episodes, got one for each; use "
                "--engine batched."
            )
        if is_recurrent(problem.learner.system):
            from metaplast.engines.fused_recurrent.batch import Batch as RecurrentBatch

            threads = self.settings.threads or torch.get_num_threads()
            return RecurrentBatch(problem, threads, gradient).run()
        from metaplast.engines.fused.batch import Batch

        return Batch(problem, self.settings, gradient).run()


def _has_power(term: Term) -> bool:
    return isinstance(term.formula, Formula) and any(m.power for m in term.formula.monomials)


def _unkept(learner: Learner) -> str:
    """Return why the kernel cannot keep what a learner's terms remember between steps."""
    names = [t.name for t in learner.terms if t.eligibilities or t.broadcast]
    return (
        f"the fused engine supports traces of signals, but no eligibilities or scalars, used by "
        f"{', '.join(names) or 'the system'}; use --engine batched, or leave the term out."
    )


def _term_refusal(learner: Learner) -> str | None:
    dense = learner.forward_plasticity.dense + learner.backward_plasticity.dense
    if dense:
        name = learner.terms[dense[0][0]].name
        return (
            f"the fused engine supports only declared formulas, but the term {name} is a torch "
            f"function; use --engine batched, or leave the term out."
        )
    if learner.forward_plasticity.weighted or learner.backward_plasticity.weighted:
        names = [t.name for t in learner.terms if _has_power(t)]
        return (
            f"the fused engine does not support powers of the weights, used by {', '.join(names)}; "
            f"use --engine batched, or leave the term out."
        )
    return None


def _common_refusal(learner: Learner) -> str | None:
    """Return why neither kernel can run a learner, or None if one of them may."""
    system = learner.system
    if system.limits:
        return (
            f"the fused engine does not support constraints on weights, got --weights "
            f"{system.weights}; use --engine batched."
        )
    if learner.clocks:
        return (
            "the fused engine does not compute the gradient of time constants, which --learn-tau "
            "needs; use --engine batched."
        )
    return None


def _stack_refusal(learner: Learner) -> str | None:
    """Return why the kernel for stacks cannot run a learner, or None if it can."""
    return _system_refusal(learner) or _signal_refusal(learner) or _term_refusal(learner)


def _system_refusal(learner: Learner) -> str | None:
    system = learner.system
    if not keeps_only_traces(system):
        return _unkept(learner)
    if isinstance(system, Wrapped):
        system = system.innermost
    if type(system) is not FullyConnected:
        return (
            f"the fused engine supports only the fully connected stack and the recurrent network, "
            f"got the system {system.name}; use --engine batched."
        )
    if type(system.objective) is not CrossEntropy:
        return (
            f"the fused engine supports only the cross-entropy, got --objective "
            f"{system.objective.name}; use --engine batched."
        )
    if source_of(system) is None:
        return (
            f"the fused engine does not support the feedback {system.feedback.name}; "
            f"use --engine batched."
        )
    return None


def _signal_refusal(learner: Learner) -> str | None:
    """Return why the kernel cannot compute a signal that terms read, or None if it can."""
    offered = {signal.kind for signal in signals_of(learner)} & {*stack_of(learner).feedback.offers}
    if not offered:
        return None
    return (
        f"the fused engine does not compute the signals {', '.join(sorted(offered))} of the "
        f"feedback {stack_of(learner).feedback.name}; use --engine batched."
    )
