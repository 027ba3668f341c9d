"""Episodes in which a reservoir learns to draw a curve."""

from __future__ import annotations

import torch
from torch import Tensor

from metaplast.base.bands import Numbers
from metaplast.base.errors import require
from metaplast.base.tensors import require_count
from metaplast.systems.reservoir import Reservoir
from metaplast.tasks.batch import EpisodeBatch


def drawing_batch(
    system: Reservoir,
    target: Numbers,
    episodes: int,
    steps: int,
    queries: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> EpisodeBatch:
    """Return episodes in which a reservoir learns for `steps` steps and is tested for `queries`.

    Support examples are the steps of learning, with noise; query examples are those of the test.
    The input of a query is fed back to the reservoir. For a pen, this is the target. For an arm, it
    should be an earlier output, which is known only after learning, so it is zero here.

    Args:
        system: the reservoir that learns.
        target: one period, [step, 2]; learning begins at its first point.
        episodes: number of episodes, which differ in their noise.
        steps: the number of steps of learning.
        queries: steps of the test.
        generator: the generator of the noise.
        dtype: the dtype of all numbers.

    Raises:
        UserError: if a number is below 1, or the arm cannot reach the target.
    """
    require_count(episodes, "episodes")
    require_count(steps, "steps")
    require_count(queries, "queries")
    require(target.ndim == 2 and target.shape[1] == 2, "the target must be points, [step, 2].")
    system.task.require_reach(target)
    curve = torch.as_tensor(target, dtype=dtype, device=generator.device)

    def points(first: int, count: int) -> Tensor:
        places = torch.arange(first, first + count, dtype=torch.int64, device=curve.device)
        places = places % len(curve)
        return curve[places].expand(episodes, count, 2).contiguous()

    support, query = points(0, steps), points(steps, queries)
    fed = query if not system.task.is_arm else query.new_zeros(episodes, queries, system.inputs)
    return EpisodeBatch(
        support.new_zeros(episodes, steps, system.inputs), support, fed, query,
        noise=system.noise(episodes, steps, generator, dtype),
    )  # fmt: skip
