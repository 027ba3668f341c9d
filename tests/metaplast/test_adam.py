"""Our Adam is torch's, digit for digit and state for state, without what torch's loads."""

import copy

import pytest
import torch
from support import SMALL_RUN, normal, run_forked

from metaplast.meta.adam import Adam

PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


class Pair:
    """Both optimizers, each with a parameter of its own, and the same gradients."""

    def __init__(self, dtype, shape=(2, 5)):
        start = normal(*shape, dtype=dtype)
        self.parameters = [torch.nn.Parameter(start.clone()) for _ in range(2)]
        kinds = (Adam, torch.optim.Adam)
        self.both = [
            kind([parameter], lr=0.1)
            for kind, parameter in zip(kinds, self.parameters, strict=True)
        ]

    def step(self, number, rate):
        # Sizes over many orders of magnitude, so that every operation rounds.
        gradient = normal(*self.parameters[0].shape, seed=number) * 10.0 ** (number % 13 - 9)
        for optimizer, parameter in zip(self.both, self.parameters, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            parameter.grad = gradient.to(parameter.dtype)
            optimizer.step()

    def assert_equal(self):
        ours, theirs = self.parameters
        assert torch.equal(ours, theirs)
        ours, theirs = (optimizer.state_dict() for optimizer in self.both)
        # As text: 0 is not False in a checkpoint that is checked.
        mine, group = (
            {name: repr(value) for name, value in saved["param_groups"][0].items()}
            for saved in (ours, theirs)
        )
        assert mine == group
        assert ours["state"].keys() == theirs["state"].keys()
        for place, kept in theirs["state"].items():
            assert list(ours["state"][place]) == list(kept)
            for name, value in kept.items():
                mine = ours["state"][place][name]
                assert mine.dtype == value.dtype
                assert torch.equal(mine, value)


@PRECISIONS
def test_many_steps_are_those_of_torch(dtype):
    pair = Pair(dtype)
    pair.assert_equal()
    for number in range(300):
        pair.step(number, 0.1 / (1 + number))
        pair.assert_equal()


@PRECISIONS
def test_cleared_state_begins_anew_like_torch(dtype):
    pair = Pair(dtype)
    for number in range(20):
        if number in (7, 8, 15):
            for optimizer in pair.both:
                optimizer.state.clear()
            pair.assert_equal()
        pair.step(number, 0.03)
        pair.assert_equal()


@PRECISIONS
@pytest.mark.parametrize("swapped", [False, True], ids=["own", "the other's"])
@pytest.mark.parametrize("steps", [0, 9])
def test_either_continues_from_what_either_saved(dtype, swapped, steps):
    before, pair = Pair(dtype), Pair(dtype)
    for number in range(steps):
        before.step(number, 0.02)
    saved = [copy.deepcopy(optimizer.state_dict()) for optimizer in before.both]
    for i, optimizer in enumerate(pair.both):
        with torch.no_grad():
            pair.parameters[i].copy_(before.parameters[i])
        optimizer.load_state_dict(saved[i ^ swapped])
    assert pair.both[0].param_groups[0]["lr"] == (0.02 if steps else 0.1)
    pair.assert_equal()
    # Neither the parameter nor the moments are those of the one that saved.
    for number in range(steps, 20):
        pair.step(number, 0.01)
        before.step(number, 0.01)
        pair.assert_equal()
        assert torch.equal(pair.parameters[0], before.parameters[0])


def test_options_that_an_older_torch_did_not_save_are_filled_in():
    pair = Pair(torch.float64)
    pair.step(0, 0.1)
    saved = copy.deepcopy(pair.both[1].state_dict())
    del saved["param_groups"][0]["decoupled_weight_decay"]
    for optimizer in pair.both:
        optimizer.load_state_dict(copy.deepcopy(saved))
    pair.assert_equal()
    pair.step(1, 0.1)
    pair.assert_equal()


# A discovery of default settings, except that it is small; pages and figures come after it.
DISCOVER = """
import sys
from metaplast.commands import discover, guard
from metaplast.report.observer import ReportFiles
ReportFiles.finish = lambda self, result: None
code = guard(discover.main, sys.argv[1:])
print(*({"torch._dynamo", "sympy", "sklearn", "torchvision", "higher"} & sys.modules.keys()))
sys.exit(code)
"""


@pytest.mark.slow
def test_a_discovery_loads_no_compiler_of_torch_and_nothing_else_that_takes_long(tmp_path):
    options = [option for option in SMALL_RUN if not option.startswith("--engine")]
    arguments = ["-c", *options, "--quiet", f"--out={tmp_path / 'run'}"]
    ((code, out, errors),) = run_forked([[str(tmp_path), arguments, [], DISCOVER]], tmp_path)
    assert code == 0, errors
    assert out.splitlines()[-1] == ""
