"""Bandits: in each step, one of several arms is chosen, and some arms bring more reward."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import assignments
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.digest import Digest
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSource, EpisodeSplit

#: Largest number of arms, and of states.
MOST = 1000


@dataclass(frozen=True)
class Bandit:
    """In each state, one arm brings a reward of 1 with probability `good`, all others with `bad`.

    Attributes:
        arms: number of arms.
        states: number of states; the input is the one-hot vector of the current state.
        good: probability of a reward from the best arm.
        bad: probability of a reward from any other arm.
        steps: the steps of learning.
        queries: number of queries of the test, which go through the states in turn.
        dtype: the dtype of all numbers.
        device: where episodes are made.
    """

    arms: int
    states: int
    good: float
    bad: float
    steps: int
    queries: int
    dtype: torch.dtype
    device: torch.device

    # Inputs are zeros and ones.
    range_is_known = True

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return fresh episodes, in each of which the best arm of each state is drawn.

        The support targets are the rewards that every arm would bring. They are drawn in advance,
        so that all rules face the same rewards. The query targets are the probabilities. The noise
        draws the actions.
        """
        place, whole = generator.device, torch.int64
        best = torch.randint(
            self.arms, (episodes, self.states), generator=generator, dtype=whole, device=place
        )
        is_best = torch.nn.functional.one_hot(best, self.arms)
        chance = torch.tensor([self.bad, self.good], dtype=self.dtype, device=place)[is_best]
        state = torch.randint(
            self.states, (episodes, self.steps), generator=generator, dtype=whole, device=place
        )

        def uniform(last: int, dtype: torch.dtype) -> Tensor:
            shape = episodes, self.steps, last
            return torch.rand(shape, generator=generator, dtype=dtype, device=place)

        luck = uniform(self.arms, torch.float32)
        rewards = luck < _chosen(chance, state)
        asked = torch.arange(self.queries, dtype=torch.int64, device=place)
        asked = (asked % self.states).expand(episodes, -1)
        return EpisodeBatch(
            self._seen(state), rewards.to(self.dtype),
            self._seen(asked), _chosen(chance, asked),
            noise=uniform(1, self.dtype),
        )  # fmt: skip

    def _seen(self, state: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(state, self.states).to(self.dtype)

    def digest(self) -> str:
        """Return a digest of the settings."""
        found = Digest("bandit")
        found.plain([self.arms, self.states, self.good, self.bad, self.steps, self.queries])
        return found.value()


def _chosen(chance: Tensor, state: Tensor) -> Tensor:
    """Return the probabilities of all arms in some states, [episode, step, arm]."""
    return chance.gather(1, state[..., None].expand(-1, -1, chance.shape[-1]))


class BanditSource(EpisodeSource):
    """Bandits with one or several states, `bandit:arms=2,states=1,good=0.7,bad=0.3`."""

    name = "bandit"
    summary = (
        "arms that bring rewards, for the system choice; bandit:arms=N,states=N,good=P,bad=P "
        "(default 2, 1, 0.7, 0.3)"
    )
    default_for = MappingProxyType({"choice": "bandit"})
    shots = 500
    settings: Mapping[str, float] = MappingProxyType(
        {"arms": 2, "states": 1, "good": 0.7, "bad": 0.3}
    )

    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Return bandits; meta-training and the test differ only in their random numbers.

        Raises:
            UserError: if a setting is invalid.
        """
        found = self._read(request.argument)
        arms, states = int(found["arms"]), int(found["states"])
        steps, queries = request.sizes("numbers")
        sampler = Bandit(
            arms, states, found["good"], found["bad"], steps, queries, request.dtype,
            request.device,
        )  # fmt: skip
        where = f"in {states} states" if states > 1 else "in one state"
        return EpisodeSplit(
            sampler, sampler, "images", states, arms,
            f"bandit: {arms} arms {where}, rewards with probability {found['good']:g} and "
            f"{found['bad']:g}; {steps} steps",
            name="bandit", targets="numbers",
        )  # fmt: skip

    def _read(self, argument: str) -> dict[str, float]:
        """Return the settings, with defaults for those that are not given."""
        entries = argument.split(",") if argument else ()
        usage = "bandit:arms=2,good=0.7,bad=0.3"
        found = dict(self.settings)
        for name, text in assignments(self.name, entries, self.settings, usage).items():
            try:
                found[name] = float(text)
            except ValueError:
                raise UserError(
                    f"{name} of bandit must be a number, got {shown(text)}; write {usage}."
                ) from None
        for name, least in (("arms", 2), ("states", 1)):
            value = found[name]
            require(
                math.isfinite(value) and value == int(value) and least <= value <= MOST,
                f"{name} of bandit must be a whole number from {least} to {MOST}, got {value:g}.",
            )
        require(
            0 <= found["bad"] < found["good"] <= 1,
            f"good and bad of bandit must be probabilities with bad below good, got good "
            f"{found['good']:g} and bad {found['bad']:g}; write {usage}.",
        )
        return found


BANDIT = BanditSource()
