"""Refuse a discovery that does not fit into memory, before anything is computed."""

from __future__ import annotations

from metaplast.discovery.config import DiscoveryConfig
from metaplast.engines import choose_engine
from metaplast.engines.memory_need import episode_bytes, history_bytes, require_memory
from metaplast.systems.learner import Learner


def require_room(
    config: DiscoveryConfig, learner: Learner, *, refits: bool, own_data: bool, at_once: int
) -> None:
    """Check that the outer steps of a discovery fit into memory.

    Args:
        config: the configuration.
        learner: the learner with all candidate terms.
        refits: whether selection refits the candidates.
        own_data: whether a split was passed. The configuration does not say how many images its
            episodes have, so only the memory of the network is counted.
        at_once: how many such discoveries share the memory.

    Raises:
        UserError: if they do not fit.
    """
    device = config.torch_device
    engine = choose_engine(config.engine, learner, device)
    targets = learner.system.objective.target_kind or "classes"
    steps, queries = (0, 0) if own_data else config.request.sizes(targets)
    counts = {"--meta-batch": config.meta_batch}
    if refits:
        counts["--refit-batch"] = config.refit_batch
    exact = config.estimator == "gradient"
    each = episode_bytes(learner, engine.name, steps, queries, config.torch_dtype, gradient=exact)
    if not exact and engine.takes_each:
        each *= 2 * config.pairs + 1  # The rule and all perturbed ones run at once.
    kept = history_bytes(learner, engine.name, steps, config.torch_dtype) if exact else 0
    for flag, episodes in counts.items():
        require_memory(
            each, episodes, flag, learner.system.description, device, at_once=at_once, kept=kept
        )
