"""A whole discovery: search, prune, refit, learn the baselines, test on held-out tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from metaplast.config import DiscoveryConfig
from metaplast.device import require_device
from metaplast.episode import EpisodeSampler, EpisodeSource, EpisodeSplit
from metaplast.errors import UserError, require, unknown_name
from metaplast.evaluation import Evaluation, evaluate
from metaplast.learner import Learner
from metaplast.library import KnownRule, baselines, get_term, open_source
from metaplast.locks import locked, require_free
from metaplast.memory import episode_bytes, require_memory
from metaplast.outer_loop import OuterLoop, Record, StandstillError
from metaplast.own import Own, OwnData, require_fit
from metaplast.paths import AnyPath, as_path, shown
from metaplast.result import DISCOVERED, REFIT, SEARCH, SELECT, Result, versions
from metaplast.rule import Rule
from metaplast.run_config import CONFIG, Asked, begin_folder, read_config, write_config
from metaplast.selection import Fit, Selection, keep_terms, select
from metaplast.stages import CHECKPOINT, Stages
from metaplast.term import Term
from metaplast.torch_settings import own_settings
from metaplast.unroll import Engine, choose_engine

__all__ = ["CONFIG", "HELDOUT", "Discovery", "Observer", "discover", "write_config"]

# Names the random numbers of the test.
HELDOUT = "heldout"


class Observer(Protocol):
    """Watches a discovery: a progress bar, TensorBoard, files."""

    def begin(self, discovery: Discovery) -> None:
        """Learn what is about to run; called once, before the first step."""

    def record(self, loop: OuterLoop, record: Record) -> None:
        """See one outer step."""

    def tested(self, name: str, episodes: int) -> None:
        """See that `episodes` more held-out tasks of a rule are done."""

    def finish(self, result: Result) -> None:
        """See the result."""


class Discovery:
    """What a discovery does in which order; `Stages` runs its outer loops and keeps them on disk.

    Args:
        config: what to do.
        folder: where the checkpoint is kept, and what was asked for; made if need be. None for no
            checkpoint.
        observers: who watches.
        checkpoint_seconds: longest time between checkpoints.
        split: episodes to use instead of the configured source's; recorded as data of your own.
            They must be made for the configuration's ways, shots and queries; the sizes of
            episodes from a sampler of your own class are recorded as they are.
        terms: candidate terms of your own, besides the configured ones.

    Attributes:
        stages: its outer loops: what they have done so far, and in earlier parts of the run.
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
        # What the folder says was asked for; None until that is written or read.
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
            split: the data, where the run was given its own; they must be the same ones.
            terms: terms of your own again; needed only for torch functions.
            options: as for `Discovery`.

        Raises:
            UserError: if there is no run, its files are damaged, foreign or were changed, data
                or terms lack or are others, or this machine lacks the run's device.
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
        # Before the checkpoint, whose tensors lie on the device.
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
        """Return the discovery that was begun in `folder`, or else begin it there.

        Raises:
            UserError: if the folder holds files that are damaged or foreign, or another discovery.
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
        """Make the folder and write down what was asked for, unless the run is a continued one."""
        if self.folder is not None and self._identity is None:
            begun = (self.folder / CHECKPOINT).exists()
            self._identity = begin_folder(self.folder, self.config, self.own, begun=begun)

    @cached_property
    def own(self) -> Own:
        """What was given from Python: a record of the data, and the terms."""
        given = self._given_split is not None
        data = OwnData.of(self.split, self.config.torch_device) if given else None
        return Own(data, self._own_terms)

    @property
    def description(self) -> str:
        """The data in one line; those of one's own with sizes and digest."""
        return self.split.description if self.own.data is None else self.own.data.line

    @property
    def terms_line(self) -> str:
        """What was asked for as candidate terms."""
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
        network = self.config.network(split.inputs, split.outputs)
        feedback = self.config.feedback_name
        # Before the first matrix is made.
        self._require_memory(Learner(network, feedback, self.choice.terms))
        return split.bind(network, self.config.feedback_name)

    @cached_property
    def learner(self) -> Learner:
        """The network with all candidate terms."""
        return self.learner_for(self.choice.terms, self.config.feedback_name)

    @cached_property
    def engine(self) -> Engine:
        """Computes outcomes."""
        return choose_engine(self.config.engine, self.learner, self.config.torch_device)

    @property
    def total_episodes(self) -> int:
        """Tasks that the whole run meets; how many selection takes is a guess until it is over."""
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
        """The baselines that are not the searched rule itself; a pool is learned otherwise."""
        pool = self.choice.is_pool
        return [rule for rule in baselines() if pool or self._learner_of(rule) != self.learner]

    def learner_for(self, terms: tuple[Term, ...], feedback: str) -> Learner:
        """Return a learner on this run's network."""
        return Learner(self.config.network(self.split.inputs, self.split.outputs), feedback, terms)

    def _learner_of(self, rule: KnownRule) -> Learner:
        """Return the learner of a baseline: with the run's own feedback where that fits."""
        own = self.config.feedback_name
        # Without backward terms plastic feedback is fixed feedback.
        own = "fixed" if own == "plastic" else own
        feedback = own if own in rule.feedback else rule.feedback[0]
        return self.learner_for(tuple(map(get_term, rule.terms)), feedback)

    @own_settings(grad=True)
    def run(self) -> Result:
        """Run all that is left and return the result; the folder is locked meanwhile.

        Raises:
            UserError: if the data, the engine or the folder do not fit, another process uses the
                folder, or the machine has too little memory.
        """
        _ = self.engine  # a refusal should come before anything is made or shown
        with nullcontext() if self.folder is None else locked(self.folder, make=True):
            if self._resumed:
                # Another process may have continued it since it was looked at.
                self.stages.load()
            return self._run()

    def check_memory(self, at_once: int = 1) -> None:
        """Refuse what cannot fit into memory, before anything is made.

        Args:
            at_once: how many such discoveries share the memory.

        Raises:
            UserError: if it does not fit.
        """
        self._require_memory(self.learner, at_once)

    def _require_memory(self, learner: Learner, at_once: int = 1) -> None:
        config, device = self.config, self.config.torch_device
        widths, engine = learner.network.widths, choose_engine(config.engine, learner, device)
        # Whoever gives a split decides how many images an episode has.
        images = config.ways if self._given_split is None else 0
        steps, queries = images * config.request.shots, images * config.queries
        counts = {"--meta-batch": config.meta_batch}
        counts |= {"--refit-batch": config.refit_batch} if self._refit else {}
        each = episode_bytes(learner, engine.name, steps, queries, config.torch_dtype)
        for flag, episodes in counts.items():
            require_memory(each, episodes, flag, widths, device, at_once=at_once)

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
        tested = {DISCOVERED: (self.learner_for(terms, self.learner.feedback_name), theta)}
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
            start = start.expand(learner.network.layers, -1)
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
        # Layers of their own begin with the refits: many candidates times many layers, all moving
        # at once, end where most tasks diverge.
        return self._loop(SEARCH, self.learner, tied=self._refit > 0)

    def _subset(self, search: OuterLoop, kept: Sequence[int]) -> Learner:
        """Return the learner with some of the pool's terms."""
        terms = tuple(search.learner.terms[k] for k in kept)
        return self.learner_for(terms, search.learner.feedback_name)

    def _select(self, search: OuterLoop, kept: list[int]) -> Selection:
        """Refit the candidates, then choose among their subsets; see `selection.select`."""
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
        """Return how each fit does on the held-out episodes, by the term that it is about."""
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
            # A rule that never stays finite is as bad as can be: the term is missed.
            return Fit(tuple(kept), theta, theta.new_zeros(self.config.validation))
        # A decay that was clamped at zero is no part of the rule.
        return self._validated(stage, search, kept, loop.fitted, "validation").trimmed()

    def _validated(
        self, name: str, search: OuterLoop, kept: Sequence[int], theta: Tensor, purpose: str
    ) -> Fit:
        """Return the rule of some terms as it is, with its accuracy on meta-training tasks."""
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
        feedback, pool = search.learner.feedback_name, search.learner.terms
        scale = search.progress.scale.reshape(-1, len(pool))
        own = self.own
        provenance: dict[str, Any] = {
            "dataset": self.config.dataset_name if own.data is None else own.data.label,
            "data": self.description,
            "widths": list(self.learner.network.widths),
            "activation": self.config.activation,
            "init": self.config.init,
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


def discover(config: DiscoveryConfig | None = None, **keywords: Any) -> Result:
    """Discover a rule: `print(discover(terms="bio", episodes=200).rule)` shows its equation.

    Args:
        config: what to do; None for the defaults.
        keywords: fields of `DiscoveryConfig`, which win over those of `config`; and what
            `Discovery` takes: observers, checkpoint_seconds, and

            - folder: of the run. It is made, and holds the configuration, checkpoint, history,
              rule and summary. Where it holds this discovery already, that is continued.
            - split: episodes to use instead of the configured source's, or a source of them, such
              as `episodes.from_tensors` returns.
            - terms: names of terms, as in `DiscoveryConfig`; terms of your own, or both in a list.

    Raises:
        UserError: if a keyword is unknown, or a value, the data or the folder is invalid.
    """
    from metaplast.outputs import RunFiles

    config, options = _sorted_out(config, keywords)
    folder = options.pop("folder", None)
    if folder is None:
        return Discovery(config, **options).run()
    folder = as_path(folder, "folder")
    options["observers"] = (*options.pop("observers", ()), RunFiles(folder))
    if (folder / CONFIG).exists():
        return Discovery.in_folder(config, folder, **options).run()
    return Discovery(config, folder=folder, **options).run()


_OPTIONS = ("folder", "observers", "checkpoint_seconds", "split")


def _sorted_out(
    config: DiscoveryConfig | None, keywords: Mapping[str, Any]
) -> tuple[DiscoveryConfig, dict[str, Any]]:
    """Return the configuration that `discover` was given, and what is for `Discovery`."""
    if not isinstance(config, DiscoveryConfig | None):
        raise UserError(
            f"discover takes a DiscoveryConfig or keywords, got {shown(config)}; write "
            f"discover(terms='bio', episodes=200), for instance."
        )
    known = {field.name for field in fields(DiscoveryConfig)}
    for name in keywords:
        if name not in known and name not in _OPTIONS:
            raise unknown_name("keyword of discover", name, {*known, *_OPTIONS})
    settings = {name: value for name, value in keywords.items() if name in known}
    options = {name: value for name, value in keywords.items() if name in _OPTIONS}
    given = settings.get("terms")
    given = [given] if isinstance(given, Term) else given
    if isinstance(given, list | tuple):
        options["terms"] = tuple(term for term in given if isinstance(term, Term))
        settings["terms"] = [name for name in given if not isinstance(name, Term)]
        if not settings["terms"] and options["terms"]:
            del settings["terms"]
    config = replace(config or DiscoveryConfig(), **settings)
    if isinstance(options.get("split"), EpisodeSource):
        require_device(config.torch_device)
        options["split"] = options["split"].split(config.request)
    return config, options
