"""The numbers of a purpose follow from the seed and its name, and from nothing else."""

import itertools

import pytest
import torch

from metaplast.base.seeds import generator

PATHS = [
    (),
    ("search",),
    ("search", 0),
    ("search", "episodes", 0),
    ("search", "episodes", 1),
    ("search", "episodes", 2**31 - 1),
    ("search", "weights", 0),
    ("serach", "episodes", 0),
    ("refit", "episodes", 0),
    ("episodes", "search", 0),
]


def numbers(seed, path):
    return torch.rand(4, generator=generator(seed, *path))


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_same_path_gives_the_same_numbers_whatever_was_drawn_before(path):
    expected = numbers(3, path)
    torch.rand(5)
    torch.rand(5, generator=generator(3, "something", "else"))
    assert torch.equal(numbers(3, path), expected)


def test_different_paths_and_seeds_differ():
    drawn = [tuple(numbers(seed, path).tolist()) for seed in range(4) for path in PATHS]
    assert len(set(drawn)) == len(drawn)


def test_neighbouring_purposes_are_not_correlated():
    rows = torch.stack([torch.randn(2000, generator=generator(0, "s", k)) for k in range(8)])
    correlations = torch.corrcoef(rows)
    pairs = [correlations[i, j].abs().item() for i, j in itertools.combinations(range(8), 2)]
    assert max(pairs) < 5 / 2000**0.5


def test_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    generator(0, "search")
    assert torch.equal(torch.rand(1), expected)
