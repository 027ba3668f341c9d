"""Episodes and states taken apart and put together again."""

import pytest
import torch
from support import BACKWARD, FORWARD, matrices_of, random_problem

from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch


def parts_of(whole):
    return [whole.select(slice(0, 1)), whole.select(slice(1, 3)), whole.select(torch.tensor([3]))]


@pytest.mark.parametrize("feedback", ["symmetric", "fixed", "direct"])
def test_states_are_put_together_as_they_were(feedback):
    whole = random_problem(FORWARD, feedback=feedback, episodes=4).state
    again = State.cat(parts_of(whole))
    assert tuple(again.matrices) == tuple(whole.matrices)
    assert all(map(torch.equal, matrices_of(again), matrices_of(whole)))


@pytest.mark.parametrize("prescribed", [False, True])
def test_batches_are_put_together_as_they_were(prescribed):
    problem = random_problem(BACKWARD, feedback="plastic", episodes=4)
    batch = problem.episodes
    whole = EpisodeBatch(
        batch.support_x, batch.support_y, batch.query_x, batch.query_y,
        problem.state if prescribed else None,
    )  # fmt: skip
    again = EpisodeBatch.cat(parts_of(whole))
    for name in ("support_x", "support_y", "query_x", "query_y"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    if not prescribed:
        assert again.initial is None
        return
    assert all(map(torch.equal, matrices_of(again.initial), matrices_of(whole.initial)))
