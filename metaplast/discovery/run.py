"""A whole discovery: search, prune, refit, learn the baselines, test on held-out tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from metaplast.base.device import require_device
from metaplast.base.errors import require
from metaplast.base.locks import locked, require_free
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.torch_settings import own_settings
from metaplast.discovery.config import OBJECTIVE, DiscoveryConfig
from metaplast.discovery.own import Own, OwnData, require_fit
from metaplast.discovery.result import DISCOVERED, REFIT, SEARCH, SELECT, Result, versions
from metaplast.discovery.run_config import CONFIG, Asked, begin_folder, read_config, write_config
from metaplast.discovery.selection import Fit, Selection, keep_terms, select
from metaplast.discovery.stages import CHECKPOINT, Stages
from metaplast.engines import Engine, choose_engine
from metaplast.engines.memory_need import episode_bytes, require_memory
from metaplast.meta.evaluation import Evaluation, evaluate
from metaplast.meta.outer_loop import OuterLoop, Record, StandstillError
from metaplast.rules.rule import Rule
from metaplast.systems.kind import DEFAULT
from metaplast.systems.learner import Learner
from metaplast.systems.system import System
from metaplast.tasks.library import open_source
from metaplast.tasks.source import EpisodeSampler, EpisodeSplit
from metaplast.terms.library import KnownRule, baselines, get_term
from metaplast.terms.term import Term

__all__ = ["CONFIG", "HELDOUT", "Discovery", "Observer", "write_config"]

# Names the random numbers of the test.
HELDOUT = "heldout"


class Observer(Protocol):
    """Observes a discovery: a progress bar, TensorBoard, files."""

    def begin(self, discovery: Discovery) -> None:
        """Receive the discovery that is about to run; called once, before the first step."""

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Receive the record of one outer step."""

    def tested(self, name: str, episodes: int) -> None:
        """Receive the number of newly finished held-out tasks of a rule."""

    def finish(self, result: Result) -> None:
        """Receive the result."""


class Discovery:
    """The order of a discovery's parts; `Stages` runs its outer loops and keeps them on disk.

    Args:
        config: the configuration.
        folder: holds the checkpoint and the configuration; made if needed. None for no checkpoint.
        observers: objects that observe the run.
        checkpoint_seconds: longest time between checkpoints.
        split: episodes to use instead of the configured source's; recorded as your own data. They
            must be made for the configuration's ways, shots and queries; the sizes of episodes from
            a sampler of your own class are recorded as they are.
        terms: candidate terms of your own, besides the configured ones.

    Attributes:
        stages: the outer loops: what they have done so far, including in earlier parts of the run.
    """

    def __init__(
        self,
        config: DiscoveryConfig,
        *,
        folder: AnyPath | None = None,
        observers: Iterable[Observer] = (),
        checkpoint_seconds: float = 20.0,
        split: EpisodeSplit | None = None,
        terms: Sequence[Term] = (),
    ) -> None:
        self.config = config
        self.choice = config.choice.extended(terms)
        self.folder = None if folder is None else as_path(folder, "folder")
        self._observers = tuple(observers)
        self.stages = Stages(self.folder, checkpoint_seconds, self._observe, lambda: self._identity)
        self._given_split = split
        self._own_terms = tuple(terms)
        # The configuration recorded in the folder; None until it is written or read.
        self._identity: Mapping[str, Any] | None = None
        self._resumed = False
        # Guesses for the progress bar until selection is over.
        pool = len(self.choice.terms)
        self._trials_left, self._tried = 2 * pool + 1, pool if self._refit else 0

    @classmethod
    def resume(
        cls,
        folder: AnyPath,
        *,
        split: EpisodeSplit | None = None,
        terms: Sequence[Term] = (),
        **options: Any,
    ) -> Discovery:
        """Return the discovery whose checkpoint is in `folder`, ready to continue.

        Args:
            folder: of the run.
            split: the data, if the run was given its own; they must be the same.
            terms: terms of your own again; needed only for torch functions.
            options: as for `Discovery`.

        Raises:
            UserError: if there is no run; its files are damaged, foreign or changed; data or terms
                are missing or differ; or this machine does not have the run's device.
        """
        folder = as_path(folder, "folder")
        asked = read_config(folder)
        require_free(folder)
        return cls._continued(folder, asked, split, terms, options)

    @classmethod
    def _continued(
        cls,
        folder: AnyPath,
        asked: Asked,
        split: EpisodeSplit | None,
        terms: Sequence[Term],
        options: dict[str, Any],
    ) -> Discovery:
        # Before the checkpoint is read, because its tensors are on the device.
        require_device(asked.config.torch_device)
        if asked.own is not None:
            asked.own.require_data(split is not None, str(folder))
            terms = asked.own.candidates(terms, str(folder))
        discovery = cls(asked.config, folder=folder, split=split, terms=terms, **options)
        discovery._identity = asked.identity
        discovery.stages.load()
        discovery._resumed = True
        if asked.own is not None:
            asked.own.require_same_data(discovery.own.data, str(folder))
        return discovery

    @classmethod
    def in_folder(
        cls,
        config: DiscoveryConfig,
        folder: AnyPath,
        *,
        split: EpisodeSplit | None = None,
        terms: Sequence[Term] = (),
        **options: Any,
    ) -> Discovery:
        """Return the discovery that was begun in `folder`; if there is none, begin it.

        Raises:
            UserError: if the folder holds damaged or foreign files, or another discovery.
        """
        folder = as_path(folder, "folder")
        if (folder / CONFIG).exists():
            asked = read_config(folder)
            require(
                asked.config == config,
                f"{folder} holds a discovery with other settings; give --out another folder.",
            )
            return cls._continued(folder, asked, split, terms, options)
        discovery = cls(config, folder=folder, split=split, terms=terms, **options)
        discovery._begin_folder()
        return discovery

    def placed(self, folder: AnyPath, **options: Any) -> Discovery:
        """Return the same discovery in a folder, with the data that are already open.

        Args:
            folder: of the run.
            options: observers and checkpoint_seconds, as for `Discovery`.
        """
        again = Discovery(
            self.config, folder=folder, split=self._given_split, terms=self._own_terms, **options
        )
        if "split" in vars(self):
            vars(again)["split"] = self.split
        return again

    def _begin_folder(self) -> None:
        """Make the folder and record the configuration, unless the run is continued."""
        if self.folder is not None and self._identity is None:
            begun = (self.folder / CHECKPOINT).exists()
            self._identity = begin_folder(self.folder, self.config, self.own, begun=begun)

    @cached_property
    def own(self) -> Own:
        """What was passed from Python: a record of the data, and the terms."""
        given = self._given_split is not None
        data = OwnData.of(self.split, self.config.torch_device) if given else None
        return Own(data, self._own_terms)

    @property
    def description(self) -> str:
        """The data in one line; the user's own data with sizes and digest."""
        return self.split.description if self.own.data is None else self.own.data.line

    @property
    def terms_line(self) -> str:
        """The requested candidate terms."""
        more = f" and own terms: {self.own.names}" if self._own_terms else ""
        return self.config.terms + more

    @cached_property
    def split(self) -> EpisodeSplit:
        """Episodes for meta-training and for the test, made for this run's network."""
        require_device(self.config.torch_device)
        split = self._given_split
        if split is None:
            split = open_source(self.config.dataset_name, self.config.request)
        else:
            require_fit(split, self.config)
        system = self.config.build_system(split.inputs, split.outputs)
        # Before the first matrix is made.
        self._require_memory(Learner(system, self.choice.terms))
        return split.bind(system)

    @cached_property
    def learner(self) -> Learner:
        """The network with all candidate terms."""
        return self.learner_for(self.choice.terms, self.config.feedback_name)

    @cached_property
    def engine(self) -> Engine:
        """The engine that computes outcomes."""
        return choose_engine(self.config.engine, self.learner, self.config.torch_device)

    @property
    def total_episodes(self) -> int:
        """Number of tasks in the whole run; until selection is over, its share is a guess."""
        search, refit = self.config.outer, self.config.refit_outer
        known = (1 + len(self._rivals)) * search.steps * search.meta_batch
        known += (1 + len(baselines()) + self._tried) * self.config.test_episodes
        if not self._refit:
            return known
        trials = sum(name == REFIT or name.startswith(SELECT) for name in self.stages.loops)
        each = refit.steps * refit.meta_batch + self.config.validation
        return known + (trials + self._trials_left) * each

    @property
    def _refit(self) -> int:
        return self.config.refit if self.choice.is_pool else 0

    @property
    def _rivals(self) -> list[KnownRule]:
        """The baselines other than the searched rule itself; with a pool, all of them."""
        pool = self.choice.is_pool
        return [rule for rule in baselines() if pool or self._learner_of(rule) != self.learner]

    def learner_for(self, terms: tuple[Term, ...], feedback: str) -> Learner:
        """Return a learner on this run's system."""
        inputs, outputs = self.split.inputs, self.split.outputs
        return Learner(self.config.build_system(inputs, outputs, feedback), terms)

    def _learner_of(self, rule: KnownRule) -> Learner:
        """Return the learner of a baseline: with the run's own feedback if that fits."""
        own = self.config.feedback_name
        # Without backward terms, plastic feedback is fixed feedback.
        own = "fixed" if own == "plastic" else own
        feedback = own if own in rule.feedback else rule.feedback[0]
        return self.learner_for(tuple(map(get_term, rule.terms)), feedback)

    @own_settings(grad=True)
    def run(self) -> Result:
        """Run everything that remains and return the result; the folder is locked during the run.

        Raises:
            UserError: if the data, the engine or the folder do not fit, another process uses the
                folder, or the machine has too little memory.
        """
        _ = self.engine  # Refuse before anything is made or shown.
        with nullcontext() if self.folder is None else locked(self.folder, make=True):
            if self._resumed:
                # Another process may have continued it since we looked.
                self.stages.load()
            return self._run()

    def check_memory(self, at_once: int = 1) -> None:
        """Refuse what cannot fit into memory before anything is made.

        Args:
            at_once: how many such discoveries share the memory.

        Raises:
            UserError: if it does not fit.
        """
        self._require_memory(self.learner, at_once)

    def _require_memory(self, learner: Learner, at_once: int = 1) -> None:
        config, device = self.config, self.config.torch_device
        engine = choose_engine(config.engine, learner, device)
        # Whoever gives a split decides how many images an episode has.
        images = config.ways if self._given_split is None else 0
        steps, queries = images * config.request.shots, images * config.queries
        counts = {"--meta-batch": config.meta_batch}
        counts |= {"--refit-batch": config.refit_batch} if self._refit else {}
        each = episode_bytes(learner, engine.name, steps, queries, config.torch_dtype)
        for flag, episodes in counts.items():
            require_memory(
                each, episodes, flag, learner.system.description, device, at_once=at_once
            )

    def _run(self) -> Result:
        self._begin_folder()
        for observer in self._observers:
            observer.begin(self)
        search = self.stages.run(SEARCH, self._search)
        kept = list(range(len(search.learner.terms)))
        if self.choice.is_pool:
            kept = keep_terms(
                search.fitted / search.progress.scale, search.learner.terms, self.config.threshold
            )
        theta = search.fitted[..., kept]
        selection = None
        if self._refit and kept:
            selection = self._select(search, kept)
            kept, theta = list(selection.fit.kept), selection.fit.theta
        terms = tuple(search.learner.terms[k] for k in kept)
        rivals = {rule.name: self.stages.run(rule.name, self._rival(rule)) for rule in self._rivals}
        tested = {DISCOVERED: (self.learner_for(terms, self.config.feedback_name), theta)}
        for rule in baselines():
            loop = rivals.get(rule.name, search)
            tested[rule.name] = (loop.learner, loop.fitted)
        heldout = {name: self._test(name, *pair) for name, pair in tested.items()}
        without, added = {}, {}
        if selection is not None:
            without = self._test_fits("without", search, selection.missed)
            added = self._test_fits("with", search, selection.spare)
        result = self._result(terms, theta, search, heldout, without, added)
        for observer in self._observers:
            observer.finish(result)
        return result

    def _loop(self, stage: str, learner: Learner, **options: Any) -> OuterLoop:
        initial = [t.initial for t in learner.terms]
        start = torch.tensor(initial, dtype=self.config.torch_dtype, device="cpu")
        if self.config.theta == "per-layer":
            start = start.expand(learner.sites, -1)
        settings = {"settings": self.config.outer, "start": start.clone(), **options}
        settings["start"] = settings["start"].to(self.config.torch_device)
        scale = self.stages.scale(stage)
        if scale is not None:
            settings["scale"] = scale.to(self.config.torch_device)
        return OuterLoop(
            stage,
            learner,
            self.split.train,
            choose_engine(self.config.engine, learner, self.config.torch_device),
            seed=self.config.seed,
            device=self.config.torch_device,
            **settings,
        )

    def _search(self) -> OuterLoop:
        # Per-layer coefficients begin with the refits: many candidates times many layers, all
        # moving at once, end where most tasks diverge.
        return self._loop(SEARCH, self.learner, tied=self._refit > 0)

    def _subset(self, search: OuterLoop, kept: Sequence[int]) -> Learner:
        """Return the learner with a subset of the pool's terms."""
        terms = tuple(search.learner.terms[k] for k in kept)
        return self.learner_for(terms, self.config.feedback_name)

    def _select(self, search: OuterLoop, kept: list[int]) -> Selection:
        """Refit the candidates, then choose a subset of them; see `selection.select`."""
        pool = search.learner.terms
        count = itertools.count(1)

        def without(fit: Fit, position: int) -> Fit:
            index = fit.kept.index(position)
            rest = [i for i in range(len(fit.kept)) if i != index]
            stage = f"{SELECT} {next(count)}: without {pool[position].name}"
            return self._fit(stage, search, [fit.kept[i] for i in rest], fit.theta[..., rest])

        def put_back(fit: Fit, position: int) -> Fit:
            more = sorted([*fit.kept, position])
            theta = fit.theta.new_zeros(*fit.theta.shape[:-1], len(more))
            theta[..., [more.index(k) for k in fit.kept]] = fit.theta
            stage = f"{SELECT} {next(count)}: with {pool[position].name}"
            return self._fit(stage, search, more, theta)

        def again(fit: Fit) -> Fit:
            return self._fit(f"{SELECT} {next(count)}: as it is", search, fit.kept, fit.theta)

        def fresh(fit: Fit, turn: int) -> Fit:
            purpose = "confirmation" + " again" * turn
            return self._validated("confirmation", search, fit.kept, fit.theta, purpose)

        start = self._fit(REFIT, search, kept, search.fitted[..., kept])
        selection = select(start, pool, without, put_back, again, fresh, self.config.least_effect)
        self._trials_left = 0
        self._tried = len(selection.missed) + len(selection.spare)
        return selection

    def _test_fits(
        self, kind: str, search: OuterLoop, fits: Mapping[int, Fit]
    ) -> dict[str, Evaluation]:
        """Return each fit's evaluation on the held-out episodes, by the term it concerns."""
        names = {k: search.learner.terms[k].name for k in fits}
        return {
            names[k]: self._test(f"{kind} {names[k]}", self._subset(search, fit.kept), fit.theta)
            for k, fit in fits.items()
        }

    def _fit(self, stage: str, search: OuterLoop, kept: Sequence[int], theta: Tensor) -> Fit:
        """Return the rule of some terms, refitted from `theta` without penalty, and validated."""
        learner = self._subset(search, kept)
        self._trials_left = max(0, self._trials_left - 1)
        try:
            loop = self.stages.run(
                stage,
                lambda: self._loop(
                    stage, learner, settings=self.config.refit_outer, start=theta.clone(),
                    scale=search.progress.scale[..., list(kept)], tasks=REFIT, cold=False,
                ),
            )  # fmt: skip
        except StandstillError:
            if stage == REFIT:
                raise
            # A rule that always diverges gets the worst score, so the term is kept.
            return Fit(tuple(kept), theta, theta.new_zeros(self.config.validation))
        # A decay that was clamped at zero is not part of the rule.
        return self._validated(stage, search, kept, loop.fitted, "validation").trimmed()

    def _validated(
        self, name: str, search: OuterLoop, kept: Sequence[int], theta: Tensor, purpose: str
    ) -> Fit:
        """Return the rule of some terms unchanged, with its accuracy on meta-training tasks."""
        learner = self._subset(search, kept)
        found = self._evaluate(name, learner, theta, self.split.train, purpose)
        return Fit(tuple(kept), theta, found.accuracy)

    def _rival(self, rule: KnownRule) -> Callable[[], OuterLoop]:
        settings = replace(self.config.outer, l1=0.0)
        return lambda: self._loop(rule.name, self._learner_of(rule), settings=settings)

    def _observe(self, loop: OuterLoop, record: Record) -> None:
        for observer in self._observers:
            observer.record(loop, record)

    def _test(self, name: str, learner: Learner, theta: Tensor) -> Evaluation:
        return self._evaluate(name, learner, theta, self.split.test, HELDOUT)

    def _evaluate(
        self, name: str, learner: Learner, theta: Tensor, sampler: EpisodeSampler, purpose: str
    ) -> Evaluation:
        episodes = self.config.test_episodes if purpose == HELDOUT else self.config.validation

        def observe(episodes: int) -> None:
            for observer in self._observers:
                observer.tested(name, episodes)

        engine = choose_engine(self.config.engine, learner, self.config.torch_device)
        return evaluate(
            learner, theta, sampler, engine,
            episodes=episodes, seed=self.config.seed, purpose=purpose, observe=observe,
        )  # fmt: skip

    def _result(
        self,
        terms: tuple[Term, ...],
        theta: Tensor,
        search: OuterLoop,
        heldout: dict[str, Evaluation],
        without: dict[str, Evaluation],
        added: dict[str, Evaluation],
    ) -> Result:
        feedback, pool = self.config.feedback_name, search.learner.terms
        scale = search.progress.scale.reshape(-1, len(pool))
        own = self.own
        provenance: dict[str, Any] = {
            "dataset": self.config.dataset_name if own.data is None else own.data.label,
            "data": self.description,
            **_described(self.learner.system, self.config),
            "seed": self.config.seed,
            "engine": self.engine.name,
            "versions": versions(),
            "heldout_accuracy": heldout[DISCOVERED].band.mean,
        }
        if own.data is not None:
            provenance["own_data"] = own.data.digest
        if own.terms:
            provenance["own_terms"] = [term.name for term in own.terms]
        return Result(
            rule=Rule.of(terms, theta, feedback, provenance),
            searched=Rule.of(pool, search.fitted, feedback, provenance),
            scale={term.name: scale[:, k].tolist() for k, term in enumerate(pool)},
            history=tuple(self.stages.history()),
            heldout=heldout,
            without=without,
            added=added,
            divergences=tuple(
                text for loop in self.stages.loops.values() for text in loop.progress.divergences
            ),
            config=self.config,
            engine=self.engine.name,
            held_out=self.split.held_out,
            description=self.description,
            seconds=self.stages.seconds,
            planted=self.split.planted,
            own=own,
        )


def _described(system: System, config: DiscoveryConfig) -> dict[str, Any]:
    """Return a system for a rule's provenance; that of a stack is written as it always was."""
    spec = system.spec()
    if config.system == DEFAULT and config.objective == OBJECTIVE:
        return {name: spec[name] for name in ("widths", "activation", "init")}
    return spec
