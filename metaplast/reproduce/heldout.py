"""Variants that find a rule once and test it on held-out episodes of several kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from metaplast.base.errors import require
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.engines import choose_engine
from metaplast.meta.evaluation import evaluate
from metaplast.online.comparison import widths_for_depth
from metaplast.reproduce.experiment import Setting, decisive, plain
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.kind import DEFAULT
from metaplast.systems.system import System
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest, LabelKind
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.library import get_term
from metaplast.terms.term import Term


@dataclass(frozen=True)
class HeldoutSetup:
    """The data and the network on which a rule is tested.

    Attributes:
        column: ending of the name of the accuracies' column, after `accuracy_`.
        dataset: name of the source.
        at: position in the table, such as the depth.
        depth: number of weight matrices of a stack; the widths of `hidden` are stretched to it.
        shots, queries: support and query images of each class.
        labels: whether each class has its own output neuron, or classes are renumbered in each
            episode.
        hidden: widths of a stack's hidden layers.
        episodes: number of held-out tasks per seed.
        ways: classes of an episode.
    """

    column: str
    dataset: str
    at: int = 1
    depth: int = 5
    shots: int = 50
    queries: int = 10
    labels: LabelKind = "global"
    hidden: tuple[int, ...] = (170, 130, 100, 70)
    episodes: int = 25
    ways: int = 5

    def split(self, setting: Setting) -> EpisodeSplit:
        """Return the episodes."""
        request = EpisodeRequest(
            ways=self.ways,
            shots=self.shots,
            queries=self.queries,
            labels=self.labels,
            data_root=setting.data_root,
            # All seeds use the split of the discovery, so its test side is really held out.
            seed=0,
        )
        return open_source(self.dataset, request)

    def system(self, split: EpisodeSplit, config: DiscoveryConfig) -> System:
        """Return a stack of this depth, or the system of the rule's search if it is not a stack."""
        if config.system != DEFAULT:
            return config.build_system(split.inputs, split.outputs, timing=split.timing)
        widths = (split.inputs, *widths_for_depth(self.hidden, self.depth), split.outputs)
        return FullyConnected(widths)

    def accuracy(
        self, rule: Rule, seed: int, setting: Setting, config: DiscoveryConfig
    ) -> tuple[float, int]:
        """Return the mean accuracy over held-out episodes, and how many of them diverged.

        Args:
            rule: the rule to test.
            seed: the seed of the episodes and the networks.
            setting: the settings of the command.
            config: the configuration of the rule's search.
        """
        split = self.split(setting)
        system = self.system(split, config)
        # The search learned in the system's mini-batches, and so does the test.
        split, learner = split.bind(system), rule.learner(system)
        theta = rule.tensor()
        engine = choose_engine("auto", learner, theta.device)
        found = evaluate(
            learner, theta, split.test, engine, episodes=self.episodes, seed=seed,
            purpose=f"reproduce {self.column} {self.at}",
        )  # fmt: skip
        return found.band.mean, found.non_finite


@dataclass(frozen=True, eq=False)
class RuleVariant:
    """A rule, discovered with seed 0 or given, on held-out episodes of each seed.

    Attributes:
        name: the name of the variant.
        full: fields of `DiscoveryConfig` for finding the rule.
        setups: where it is tested.
        quick: fields that differ in the quick version.
        quick_setups: where it is tested in the quick version.
        takes_file: whether a rule given by the user replaces the discovery.
    """

    name: str
    full: Mapping[str, Any]
    setups: tuple[HeldoutSetup, ...]
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_setups: tuple[HeldoutSetup, ...] = ()
    takes_file: bool = False

    @property
    def own_terms(self) -> Sequence[Term]:
        """Candidates in addition to the configured ones."""
        return ()

    def config(self, setting: Setting) -> DiscoveryConfig:
        """Return how the rule is found."""
        changes = {**self.full, **(self.quick if setting.quick else {})}
        return DiscoveryConfig(**changes, data_root=setting.data_root)

    def _setups(self, setting: Setting) -> tuple[HeldoutSetup, ...]:
        return self.quick_setups if setting.quick else self.setups

    def _given(self, setting: Setting) -> Rule | None:
        if not self.takes_file or setting.rule is None:
            return None
        rule, own = Rule.load(setting.rule), self.config(setting)
        seed = rule.provenance.get("seed", own.seed)
        require(
            seed == own.seed or rule.provenance.get("dataset") != own.dataset_name,
            f"{setting.rule} was found with --seed {seed} and has seen classes that are held out "
            f"here; give a rule found with --seed {own.seed}.",
        )
        return rule

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers: the rule (or its search), the setups."""
        given = self._given(setting)
        found = {"find": decisive(self.config(setting))}
        setups = [plain(asdict(setup)) for setup in self._setups(setting)]
        return (found if given is None else {"rule": given.to_json()}) | {"sites": setups}

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return functions that open the data of the setups, and of any discovery."""
        setups: dict[str, Callable[[], object]] = {
            setup.dataset: partial(setup.split, setting) for setup in self._setups(setting)
        }
        if self._given(setting) is not None:
            return setups
        config = self.config(setting)
        return {**setups, config.dataset_name: lambda: Discovery(config).split}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return the given rule, or discover it; an interrupted discovery continues."""
        rule = self._given(setting)
        if rule is None:
            # The rule is tested here, so the discovery's own baselines and test are not needed.
            config, place = self.config(setting), folder / "discovery"
            rule = Discovery.in_folder(config, place, terms=self.own_terms).find()
        return {"rule": rule.to_json(), "theta": rule.coefficients}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each setup."""
        rule = Rule.from_json(prepared["rule"])
        rows: list[Row] = []
        for setup in self._setups(setting):
            accuracy, bad = setup.accuracy(rule, seed, setting, self.config(setting))
            row = {AT: float(setup.at), f"accuracy_{setup.column}": accuracy, DIVERGED: float(bad)}
            rows.append(row)
        return rows


@dataclass(frozen=True, eq=False)
class GivenVariant(RuleVariant):
    """A rule whose coefficients are given, on held-out episodes of each seed.

    Attributes:
        terms: names of its terms.
        theta: their coefficients, shared by all layers.
        feedback: the source of the errors.
    """

    terms: tuple[str, ...] = ()
    theta: tuple[float, ...] = ()
    feedback: str = "fixed"

    def _given(self, setting: Setting) -> Rule:
        return Rule(tuple(map(get_term, self.terms)), (self.theta,), self.feedback)
