"""A batch of episodes in parts, each on a thread of its own.

Torch splits one operation among its threads. With many small operations, most of them wait; whole
episodes keep every core busy. The parts do not depend on the number of threads, so neither do the
digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

from metaplast.base.freed_memory import keep_freed_memory
from metaplast.base.threads import torch_on_one_thread
from metaplast.engines.contract import Outcome, Problem

# Largest number of episodes in a part: with fewer, the Python between the operations counts.
_MOST = 8
# Below so many numbers in the signals of one step, there are no parts: the Python between the
# operations, of which only one thread runs at a time, takes longest.
_LEAST = 2**16


def in_parts(problem: Problem, run: Callable[[Problem], Outcome]) -> Outcome:
    """Return what `run` returns for a problem, run in parts if they are large.

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
    return Outcome.joined(_run_all(parts, run, min(count, torch.get_num_threads())))


def _run_all(
    parts: list[Problem], run: Callable[[Problem], Outcome], threads: int
) -> list[Outcome]:
    with torch_on_one_thread():
        if threads > 1:
            try:
                with ThreadPoolExecutor(threads) as pool:
                    return list(pool.map(run, parts))
            except RuntimeError as error:
                # The system may allow no more threads: that must not end a long run.
                if "start new thread" not in str(error):
                    raise
        return [run(part) for part in parts]
