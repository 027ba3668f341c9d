"""The check, made once before an engine runs, that learner, θ, state and episodes fit together."""

from __future__ import annotations

from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.tensors import DTYPES, require_one, require_tensor, type_name
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.system import System
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.checks import require_state


def require_fit(learner: Learner, theta: Tensor, state: State, episodes: EpisodeBatch) -> None:
    """Raise `UserError` unless the four parts of an unroll fit together.

    This checks the shapes of θ, weights and inputs, the limits of the weights, dtypes and devices,
    and that the objective accepts the targets. `EpisodeBatch` has already checked itself.
    """
    for part, kind in ((learner, Learner), (episodes, EpisodeBatch)):
        require(
            isinstance(part, kind),
            f"an unroll takes a learner, theta, a state and an episode batch, got "
            f"{type_name(part)} where a {kind.__name__} belongs.",
        )
    require_tensor(theta, "theta")
    terms = len(learner.terms)
    allowed = ((terms,), (learner.sites, terms))
    each = (episodes.episodes, learner.sites, terms)
    require(
        tuple(theta.shape) in (*allowed, each),
        f"theta must be [term] or [site, term], that is {allowed[0]} or {allowed[1]}, "
        f"got {tuple(theta.shape)}.",
    )
    _require_inputs(learner, episodes)
    _require_targets(learner, episodes)
    require_state(state)
    _require_shapes(learner, state, episodes.episodes)
    _require_limits(learner.system, state)
    parts = [theta, *state.matrices.values(), *state.carry.values(), episodes.support_x]
    require_one("dtype", {str(part.dtype) for part in parts}, "theta, weights and images")
    require(
        theta.dtype in DTYPES,
        f"engines compute in float32 or float64, got {theta.dtype}; convert theta, weights and "
        f"images.",
    )
    require_one("device", {str(part.device) for part in parts}, "theta, weights and images")


def require_gradient(system: System) -> None:
    """Raise `UserError` if the loss of a system is not differentiable with respect to θ."""
    require(
        system.differentiable,
        f"the system {system.name} draws its actions, so its loss has no gradient with respect to "
        f"the coefficients; use --estimator es.",
    )


def _require_targets(learner: Learner, episodes: EpisodeBatch) -> None:
    """Raise `UserError` unless the objective accepts all targets."""
    batched = episodes.support_x.dim() == 1 + episodes.query_x.dim()
    sides = ((episodes.support, "support", 2 + batched), (episodes.query, "query", 2))
    for examples, what, axes in sides:
        learner.system.targets(
            examples.target,
            tuple(examples.input.shape[:axes]),
            what=f"{what} labels",
            dtype=episodes.support_x.dtype,
            device=examples.target.device,
            online=what == "support",
        )


def _require_inputs(learner: Learner, episodes: EpisodeBatch) -> None:
    system, shape = learner.system, tuple(episodes.query_x.shape)
    batched = episodes.support_x.dim() == 1 + len(shape)
    require(
        system.takes_batches or not batched,
        f"the system {system.name} learns examples one by one, got mini-batches, support images of "
        f"shape {tuple(episodes.support_x.shape)}; give them as [episode, step, …].",
    )
    require(
        len(shape) == 2 + system.input_axes,
        f"an input of the system {system.name} has {system.input_axes} axes after episode and "
        f"image, got query images of shape {shape}; flatten each image to a row of numbers."
        if system.input_axes == 1
        else f"an input of the system {system.name} has {system.input_axes} axes after episode "
        f"and query, got query inputs of shape {shape}; give them as [episode, query, …].",
    )
    require(
        shape[-1] == system.inputs,
        f"the network takes {system.inputs} inputs, but the images of the episodes have "
        f"{shape[-1]}; set the network's first width to that number.",
    )
    timing = system.sequence
    require(
        timing is None or shape[2] == timing.frames,
        f"the network reads sequences of {0 if timing is None else timing.frames} frames, but the "
        f"sequences of the episodes have {shape[2]}; give both the same timing.",
    )


def _require_shapes(learner: Learner, state: State, episodes: int) -> None:
    system = learner.system
    wanted: dict[str, tuple[int, ...]] = {
        name: (episodes, *shape) for name, shape in system.shapes.items()
    }
    wanted |= {name: (episodes, length) for name, length in system.carried.items()}
    got = {name: tuple(x.shape) for name, x in {**state.matrices, **state.carry}.items()}
    for name in {**wanted, **got}:
        expected, found = (
            f"of shape {has[name]}" if name in has else "absent" for has in (wanted, got)
        )
        require(
            expected == found,
            f"{name} in the network's state must be {expected}, but it is {found}; draw the "
            f"weights with learner.draw().",
        )


def _require_limits(system: System, state: State) -> None:
    """Raise `UserError` unless all weights are within the limits of the system."""
    for name, limits in system.limits.items():
        require(
            limits.holds(state.matrices[name]),
            f"the initial weights {name} violate the constraint --weights {system.weights}; "
            f"draw them with learner.draw(), or project them onto the constraint first.",
        )
