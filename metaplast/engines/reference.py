"""The reference that the other engines are tested against: plain autodiff, one episode at a time.

It shares only the system with the fast engines. It computes each term's update as a full matrix,
and autograd differentiates the whole unroll through a `higher` optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.base.torch_settings import exact_run
from metaplast.engines.contract import Engine, Outcome, Problem
from metaplast.engines.fit import require_gradient
from metaplast.rules.differentiable import SignalOptimizer, higher
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented
from metaplast.systems.timed import log_taus
from metaplast.terms.term import Term, full_update


class ReferenceEngine(Engine):
    """Plain autodiff through `higher`, one episode at a time: slow but simple."""

    name = "reference"
    summary = "plain autodiff with higher, one episode at a time; any term; slow"
    takes_each = True

    @exact_run
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll the episodes one after another; see `Engine.run`."""
        if gradient:
            require_gradient(problem.learner.system)
        size = problem.episodes.episodes
        outcomes = [self._episode(problem.select(slice(i, i + 1)), gradient) for i in range(size)]
        return Outcome.joined(outcomes)

    def _episode(self, problem: Problem, gradient: bool) -> Outcome:
        learner, episodes = problem.learner, problem.episodes
        theta = problem.episode_theta.requires_grad_(gradient)
        module = PlasticModule(learner, problem.state)
        optimizer = PlasticityOptimizer(module.parameters(), learner)
        carry: Mapping[str, Tensor] = {
            name: vector.detach().requires_grad_(gradient)
            for name, vector in problem.state.carry.items()
        }
        logs = log_taus(State({}, carry), learner.clocks)
        with higher.innerloop_ctx(
            module, optimizer, track_higher_grads=gradient, override={"theta": [theta]}
        ) as (functional_module, differentiable):
            for t in range(episodes.steps):
                presented = functional_module(episodes.example(t), carry)
                differentiable.step_by(module.by_parameter(presented))
                carry = presented.carry
            final = State(module.named(tuple(functional_module.parameters())), carry)
            loss, score = learner.query(final, episodes.query)
        change = to_taus = None
        if gradient:
            change, *by_clock = torch.autograd.grad(
                loss.sum(), [theta, *logs], allow_unused=True, materialize_grads=True
            )
            change = problem.reduce(change)
            to_taus = torch.cat(by_clock, 1) if by_clock else None
        detached = final.map(torch.Tensor.detach)
        return Outcome(loss.detach(), score.detach(), change, detached, to_taus)


class PlasticModule(nn.Module):
    """A learner's matrices as parameters; its forward pass returns their synapses."""

    def __init__(self, learner: Learner, state: State) -> None:
        super().__init__()
        self.learner = learner
        self.names = tuple(state.matrices)
        matrices = [nn.Parameter(m.detach().clone()) for m in state.matrices.values()]
        self.matrices = nn.ParameterList(matrices)

    def named(self, matrices: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Return matrices by name, given in the order of the parameters."""
        return dict(zip(self.names, matrices, strict=True))

    def by_parameter(self, presented: Presented) -> list[Any]:
        """Return each parameter's synapses or the system's own change of it, or None."""
        found: dict[str, Any] = {**presented.synapses, **presented.own}
        return [found.get(name) for name in self.names]

    def forward(self, example: Examples, carry: Mapping[str, Tensor]) -> Presented:
        """Return the effects of one example; see `System.present`."""
        state = State(self.named(tuple(self.matrices)), carry)
        return self.learner.system.present(View.of(state), example, self.learner.reads)


class PlasticityOptimizer(torch.optim.Optimizer):
    """Tells `higher` which terms change each parameter. It takes no steps itself.

    `higher` replaces it with `DifferentiablePlasticity`, which is registered for it.

    Args:
        parameters: the system's matrices in order, each [1, row, column].
        learner: determines which terms change which parameter. θ is empty here;
            `DifferentiablePlasticity` receives it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learner: Learner) -> None:
        groups = {group.name: group for group in learner.system.groups}
        places = tuple(groups.get(name) for name in learner.system.shapes)
        theta = torch.zeros(0, dtype=torch.float32, device="cpu")
        given = learner.system.limits
        limits = tuple(given.get(name) for name in learner.system.shapes)
        super().__init__(
            parameters,
            {"terms": learner.terms, "places": places, "limits": limits, "theta": theta},
        )


class DifferentiablePlasticity(SignalOptimizer):
    """W ← P(W + Σ_k θ_k F^k), each F^k a full matrix, all recorded by autograd.

    P is the projection into the limits of the weights, if they have any.
    """

    def _update(self, grouped_grads: Any, **_: Any) -> None:
        # Signals and own changes are passed in place of gradients.
        for group, shown in zip(self.param_groups, grouped_grads, strict=True):
            parts = zip(group["params"], group["places"], group["limits"], shown, strict=True)
            for index, (matrix, place, limits, one) in enumerate(parts):
                if one is None:
                    continue
                if place is None:
                    group["params"][index] = one.apply(matrix)
                else:
                    terms = group["terms"]
                    after = matrix + _total(terms, group["theta"], place, one)
                    group["params"][index] = after if limits is None else limits.project(after)


def _total(terms: tuple[Term, ...], theta: Tensor, place: Group, synapses: Any) -> Any:
    return sum(
        theta[:, place.site, k, None, None] * full_update(term, synapses)
        for k, term in enumerate(terms)
        if place.serves(term)
    )


higher.register_optim(PlasticityOptimizer, DifferentiablePlasticity)
