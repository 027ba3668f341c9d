"""Test other rules on the held-out tasks of a finished run, with the same initial weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metaplast.base.device import require_device
from metaplast.base.errors import UserError, require
from metaplast.base.paths import AnyPath, as_path
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.loops import HELDOUT
from metaplast.discovery.own import Own
from metaplast.discovery.run_config import read_config
from metaplast.engines import choose_engine
from metaplast.engines.memory_need import episode_bytes, require_memory
from metaplast.meta.evaluation import Evaluation, evaluate
from metaplast.rules.rule import Rule
from metaplast.systems.learner import Learner
from metaplast.tasks.lengths import with_lengths
from metaplast.tasks.library import open_source
from metaplast.tasks.source import EpisodeSplit

# Number of tasks that are unrolled together.
TOGETHER = 32


@dataclass(frozen=True, eq=False)
class HeldoutTasks:
    """The held-out tasks of a run, and the system that learned them.

    Attributes:
        config: the configuration of the run.
        split: the episodes.
        episodes: how many held-out tasks a rule is tested on.
    """

    config: DiscoveryConfig
    split: EpisodeSplit
    episodes: int

    @property
    def description(self) -> str:
        """The data in one line."""
        return self.split.description

    def learner(self, rule: Rule, name: str) -> Learner:
        """Return the run's system with another rule.

        Args:
            rule: the rule.
            name: its name in messages.

        Raises:
            UserError: if the rule needs another system, feedback or number of layers.
        """
        split = self.split
        system = self.config.build_system(
            split.inputs, split.outputs, feedback=rule.feedback, timing=split.timing
        )
        try:
            learner = rule.learner(system)
        except UserError as error:
            raise UserError(f"the rule {name} does not fit these tasks: {error}") from None
        theta = rule.named_theta
        require(
            theta.fits(learner.sites),
            f"the rule {name} has coefficients for each of {theta.sites} layers, but the system of "
            f"these tasks has {learner.sites}; give rules with shared coefficients, or rules of "
            f"the same depth.",
        )
        self._require_memory(learner)
        return learner

    def test(self, learner: Learner, rule: Rule, observe: Callable[[int], None]) -> Evaluation:
        """Return the evaluation of a rule; every rule sees the same tasks and initial weights.

        For the run's own rule these are the tasks of its own held-out test.

        Args:
            learner: the learner of the rule, as `learner` returns it.
            rule: the rule, for its coefficients.
            observe: receives the number of tasks done since the last call.
        """
        config = self.config
        engine = choose_engine(config.engine, learner, config.torch_device)
        return evaluate(
            learner, rule.tensor(config.torch_dtype, config.torch_device), self.split.test, engine,
            episodes=self.episodes, seed=config.seed, purpose=HELDOUT, chunk=TOGETHER,
            observe=observe,
        )  # fmt: skip

    def _require_memory(self, learner: Learner) -> None:
        config = self.config
        engine = choose_engine(config.engine, learner, config.torch_device)
        targets = learner.system.objective.target_kind or "classes"
        each = episode_bytes(
            learner, engine.name, *config.request.sizes(targets), config.torch_dtype, gradient=False
        )
        count = min(TOGETHER, self.episodes)
        require_memory(
            each, count, "--test-episodes", learner.system.description, config.torch_device
        )


def tasks_of(folder: AnyPath, episodes: int | None = None) -> HeldoutTasks:
    """Return the held-out tasks of a run.

    Args:
        folder: the folder of the run, which need not be finished.
        episodes: how many tasks; None for as many as in the run's own test.

    Raises:
        UserError: if there is no run, or its data have changed or cannot be opened here.
    """
    folder = as_path(folder, "folder")
    asked = read_config(folder)
    config, own = asked.config, asked.own or Own()
    if own.data is not None:
        raise UserError(
            f"the run in {folder} used {own.data.label}, which was passed from Python; name "
            f"another run with --on, to use its tasks."
        )
    require_device(config.torch_device)
    split = with_lengths(open_source(config.dataset_name, config.request), config.lengths)
    if own.files:
        own.require_same_files(split.digest, config.dataset_name, str(folder))
    system = config.build_system(split.inputs, split.outputs, timing=split.timing)
    count = config.test_episodes if episodes is None else episodes
    return HeldoutTasks(config, split.bind(system), count)
