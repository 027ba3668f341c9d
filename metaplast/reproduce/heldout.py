"""Variants that find a rule once, and test it on held-out episodes of several kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from metaplast.comparison import widths_for_depth
from metaplast.config import DiscoveryConfig
from metaplast.discovery import Discovery
from metaplast.episode import EpisodeRequest, EpisodeSplit, LabelKind
from metaplast.errors import require
from metaplast.evaluation import evaluate
from metaplast.library import open_source
from metaplast.network import FullyConnected
from metaplast.reproduce.contract import Setting, decisive, plain
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.rule import Rule
from metaplast.unroll import choose_engine


@dataclass(frozen=True)
class Site:
    """Where a rule is tested.

    Attributes:
        column: of the accuracies.
        dataset: name of the source.
        at: place in the table, such as the depth.
        depth: number of weight matrices; the widths of `hidden` are stretched to it.
        shots, queries: images of each class.
        labels: each class its own output neuron, or renumbered in each episode.
        hidden: widths of the hidden layers.
        episodes: held-out tasks of one seed.
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

    def split(self, setting: Setting) -> EpisodeSplit:
        """Return the episodes."""
        request = EpisodeRequest(
            shots=self.shots,
            queries=self.queries,
            labels=self.labels,
            data_root=setting.data_root,
            # One split for all seeds, that of the discovery: its test side is held out.
            seed=0,
        )
        return open_source(self.dataset, request)

    def accuracy(self, rule: Rule, seed: int, setting: Setting) -> tuple[float, int]:
        """Return the mean accuracy over held-out episodes, and how many of them diverged."""
        split = self.split(setting)
        widths = (split.inputs, *widths_for_depth(self.hidden, self.depth), split.outputs)
        learner = rule.learner(FullyConnected(widths))
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
        name: of the variant.
        full: fields of `DiscoveryConfig` to find the rule with.
        sites: where it is tested.
        quick: fields that differ in the quick version.
        quick_sites: where it is tested then.
        takes_file: whether the rule that the user gives takes the place of a discovery.
    """

    name: str
    full: Mapping[str, Any]
    sites: tuple[Site, ...]
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_sites: tuple[Site, ...] = ()
    takes_file: bool = False

    def config(self, setting: Setting) -> DiscoveryConfig:
        """Return how the rule is found."""
        changes = {**self.full, **(self.quick if setting.quick else {})}
        return DiscoveryConfig(**changes, data_root=setting.data_root)

    def _sites(self, setting: Setting) -> tuple[Site, ...]:
        return self.quick_sites if setting.quick else self.sites

    def _given(self, setting: Setting) -> Rule | None:
        if not self.takes_file or setting.rule is None:
            return None
        rule, own = Rule.load(setting.rule), self.config(setting)
        seed = rule.provenance.get("seed", own.seed)
        require(
            seed == own.seed or rule.provenance.get("dataset") != own.dataset_name,
            f"{setting.rule} was found with --seed {seed}, and met classes that are held out here; "
            f"give a rule found with --seed {own.seed}.",
        )
        return rule

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return all that decides the numbers: how the rule is found or what it is, and sites."""
        given = self._given(setting)
        found = {"find": decisive(self.config(setting))}
        sites = [plain(asdict(site)) for site in self._sites(setting)]
        return (found if given is None else {"rule": given.to_json()}) | {"sites": sites}

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return what opens the data of the discovery, where there is one, and of the sites."""
        sites: dict[str, Callable[[], object]] = {
            site.dataset: partial(site.split, setting) for site in self._sites(setting)
        }
        if self._given(setting) is not None:
            return sites
        config = self.config(setting)
        return {**sites, config.dataset_name: lambda: Discovery(config).split}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return the rule, discovered unless it is given; an interrupted discovery goes on."""
        rule = self._given(setting)
        if rule is None:
            rule = Discovery.in_folder(self.config(setting), folder / "discovery").run().rule
        return {"rule": rule.to_json(), "theta": rule.coefficients}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each site."""
        rule = Rule.from_json(prepared["rule"])
        rows: list[Row] = []
        for site in self._sites(setting):
            accuracy, bad = site.accuracy(rule, seed, setting)
            row = {AT: float(site.at), f"accuracy_{site.column}": accuracy, DIVERGED: float(bad)}
            rows.append(row)
        return rows
