"""The oracle: one episode at a time, plain autodiff through a `higher` optimizer.

Nothing is shared with the fast engines but the network and the feedback: each term's update is
written out as a full matrix, term by term, and autograd differentiates the whole unroll.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.differentiable import SignalOptimizer, higher
from metaplast.learner import Learner, Operators, State
from metaplast.term import Synapses, Term, full_update
from metaplast.torch_settings import exact_run
from metaplast.unroll.contract import Engine, Outcome, Problem


class ReferenceEngine(Engine):
    """Plain autodiff through `higher`, one episode at a time; slow, obvious, the oracle."""

    name = "reference"
    summary = "plain autodiff with higher, one episode at a time; any term; slow"

    @exact_run
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll the episodes one after another; see `Engine.run`."""
        size = problem.episodes.episodes
        outcomes = [self._episode(problem.select(slice(i, i + 1)), gradient) for i in range(size)]
        gradients = [o.theta_gradient for o in outcomes if o.theta_gradient is not None]
        return Outcome(
            torch.cat([o.loss for o in outcomes]),
            torch.cat([o.accuracy for o in outcomes]),
            torch.cat(gradients) if gradient else None,
            State.cat([o.final for o in outcomes]),
        )

    def _episode(self, problem: Problem, gradient: bool) -> Outcome:
        learner, episodes = problem.learner, problem.episodes
        theta = problem.episode_theta.requires_grad_(gradient)
        module = PlasticModule(learner, problem.state)
        optimizer = PlasticityOptimizer(module.parameters(), learner.terms)
        with higher.innerloop_ctx(
            module, optimizer, track_higher_grads=gradient, override={"theta": [theta]}
        ) as (functional_module, differentiable):
            for t in range(episodes.steps):
                synapses = functional_module(episodes.support_x[:, t], episodes.support_y[:, t])
                differentiable.step_by(synapses)
            final = module.sort(tuple(functional_module.parameters()))
            loss, accuracy = learner.query(final, episodes.query_x, episodes.query_y)
        change = None
        if gradient:
            (change,) = torch.autograd.grad(
                loss.sum(), theta, allow_unused=True, materialize_grads=True
            )
            change = problem.reduce(change)
        detached = State(*(tuple(m.detach() for m in group) for group in final))
        return Outcome(loss.detach(), accuracy.detach(), change, detached)


class PlasticModule(nn.Module):
    """A learner's matrices as parameters; its forward pass yields their synapses."""

    def __init__(self, learner: Learner, state: State) -> None:
        super().__init__()
        self.learner = learner
        matrices = [*state.weights, *state.backward]
        self.matrices = nn.ParameterList([nn.Parameter(m.detach().clone()) for m in matrices])

    def sort(self, matrices: Sequence[Tensor]) -> State:
        """Return a flat list of matrices as a state."""
        layers = self.learner.network.layers
        return State(tuple(matrices[:layers]), tuple(matrices[layers:]))

    def forward(self, x: Tensor, label: Tensor) -> list[Synapses | None]:
        """Return for each matrix the signals at its synapses."""
        operators = Operators.of(self.sort(tuple(self.matrices)))
        forward = self.learner.synapses(operators, x, label)
        backward: list[Synapses | None] = [None] * len(operators.backward)
        if self.learner.feedback.is_plastic:
            backward = [s.at(b) for b, s in zip(operators.backward, forward, strict=True)]
        return [*forward, *backward]


class PlasticityOptimizer(torch.optim.Optimizer):
    """Marks the parameters that a plasticity rule changes; `higher` runs its differentiable twin.

    Args:
        parameters: forward, then backward matrices, each [1, row, column].
        terms: of the rule; θ is given to the twin, so that it can be differentiated.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], terms: Sequence[Term]) -> None:
        super().__init__(
            parameters,
            {"terms": tuple(terms), "theta": torch.zeros(0, dtype=torch.float32, device="cpu")},
        )


class DifferentiablePlasticity(SignalOptimizer):
    """W ← W + Σ_k θ_k F^k(W, y, e), each F^k a full matrix, all of it on the autograd tape."""

    def _update(self, grouped_grads: Any, **_: Any) -> None:
        # In the place of gradients come the signals.
        for group, synapses in zip(self.param_groups, grouped_grads, strict=True):
            places: dict[str, Iterator[int]] = {}
            theta, terms = group["theta"], group["terms"]
            for index, (matrix, ends) in enumerate(zip(group["params"], synapses, strict=True)):
                if ends is None:
                    continue
                kind = "W" if index < theta.shape[1] else "B"
                layer = next(places.setdefault(kind, iter(range(theta.shape[1]))))
                group["params"][index] = matrix + sum(
                    theta[:, layer, k, None, None] * full_update(term, ends)
                    for k, term in enumerate(terms)
                    if term.matrix.name == kind
                )


higher.register_optim(PlasticityOptimizer, DifferentiablePlasticity)
