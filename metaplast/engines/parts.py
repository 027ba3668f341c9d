"""Split a batch of episodes into parts, each on its own thread.

torch splits each operation among its threads. If operations are small, most of its threads are
idle, whereas threads that unroll whole episodes are busy all the time. The parts do not depend on
the number of threads, so the results do not either.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from metaplast.base.background import on_threads
from metaplast.base.freed_memory import keep_freed_memory
from metaplast.engines.contract import Outcome, Problem

# Largest number of episodes in a part. In smaller parts, the Python code between the operations
# would cost more.
_MOST = 8
# Problems with fewer numbers in the signals of one step are not split: most of the time would go
# into the Python code between the operations, which only one thread can run at a time.
_LEAST = 2**16


def in_parts(problem: Problem, run: Callable[[Problem], Outcome]) -> Outcome:
    """Return the outcome of a problem, run in parts if it is large.

    Only systems that read sequences are split: their steps consist of a few long operations.
    """
    sequence, state = problem.learner.system.sequence, problem.state.matrices
    episodes = problem.episodes.episodes
    if sequence is None or problem.theta.device.type != "cpu":
        return run(problem)
    width = sum(matrix.shape[-1] for matrix in state.values())
    keep_freed_memory()
    count = -(-episodes // _MOST)
    if count < 2 or episodes * sequence.time * width < _LEAST:
        return run(problem)
    bounds = [round(part * episodes / count) for part in range(count + 1)]
    parts = [problem.select(slice(*pair)) for pair in itertools.pairwise(bounds)]
    return Outcome.joined(on_threads(run, parts, torch.get_num_threads()))
