"""The data, learner, engine and baselines of a discovery, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from metaplast.base.device import require_device
from metaplast.base.errors import require
from metaplast.base.workers import Workers
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.loops import Loops, trained_learner
from metaplast.discovery.observer import Observer
from metaplast.discovery.own import Own, OwnData
from metaplast.discovery.room import require_room
from metaplast.discovery.split_fit import require_fit
from metaplast.discovery.stages import Stages
from metaplast.engines import Engine
from metaplast.engines.fit import require_gradient
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.meta.signs import require_signs
from metaplast.systems.learner import Learner
from metaplast.tasks.lengths import with_lengths
from metaplast.tasks.library import open_source
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.clocks import clocks_of
from metaplast.terms.library import KnownRule, baselines
from metaplast.terms.term import Term


class Parts:
    """The parts of a discovery.

    Args:
        config: the configuration.
        stages: the outer loops, including those that an earlier process ran.
        observers: objects that observe the run.
        split: episodes to use instead of the configured source's.
        terms: candidate terms of your own, in addition to the configured ones.
        workers: unroll the episodes; None to unroll them here.

    Attributes:
        choice: the candidate terms, with your own.
    """

    def __init__(
        self,
        config: DiscoveryConfig,
        stages: Stages,
        observers: Iterable[Observer],
        *,
        split: EpisodeSplit | None,
        terms: Sequence[Term],
        workers: Workers | None,
    ) -> None:
        if config.estimator == "gradient":
            require_gradient(config.build_system(1, 2))
        self.config = config
        self.choice = config.choice.extended(terms)
        require_signs([*map(self.choice.begin, self.choice.terms)], config)
        require(
            not config.learn_tau or bool(clocks_of(self.choice.terms)),
            "--learn-tau learns the time constants of traces and eligibilities, but no candidate "
            "term has one; leave it out, or give terms such as those with trace(…, tau=20).",
        )
        self.stages = stages
        self._observers = tuple(observers)
        self._given_split = split
        self._own_terms = tuple(terms)
        self._workers = workers

    @cached_property
    def own(self) -> Own:
        """What was passed from Python or read from files: records of the data, and the terms."""
        if self._given_split is None:
            return Own(None, self._own_terms, self.split.digest)
        return Own(OwnData.of(self.split, self.config.torch_device), self._own_terms)

    @property
    def description(self) -> str:
        """The data in one line; if they were passed from Python, with their sizes and digest."""
        return self.split.description if self.own.data is None else self.own.data.line

    @property
    def terms_line(self) -> str:
        """The requested candidate terms, in words."""
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
        split = with_lengths(split, self.config.lengths)
        system = self.config.build_system(split.inputs, split.outputs, timing=split.timing)
        # Check this before any matrix is made.
        self._require_memory(trained_learner(self.config, system, self.choice.terms), at_once=1)
        return split.bind(system)

    @cached_property
    def learner(self) -> Learner:
        """The network with all candidate terms."""
        return self._loops.trained(self.choice.terms)

    @cached_property
    def engine(self) -> Engine:
        """The engine that computes outcomes."""
        return self._loops.engine(self.learner)

    @cached_property
    def _loops(self) -> Loops:
        return Loops(self.config, self.split, self.stages, self._count, self._workers)

    @property
    def _refit(self) -> int:
        return self.config.refit if self.choice.is_pool else 0

    @cached_property
    def rivals(self) -> list[KnownRule]:
        """The baselines to learn: all of them, except one that is the searched rule itself."""
        pool = self.choice.is_pool
        known = self._loops.known_learner
        return [rule for rule in self.baselines if pool or known(rule) != self.learner]

    @property
    def baselines(self) -> tuple[KnownRule, ...]:
        """The known rules of this system with which the discovered one is compared."""
        return baselines(self.config.served)

    def learner_for(self, terms: tuple[Term, ...], feedback: str) -> Learner:
        """Return a learner on this run's system."""
        return self._loops.learner(terms, feedback)

    def check_memory(self, at_once: int = 1) -> None:
        """Check that the run fits into memory.

        Args:
            at_once: how many such discoveries share the memory.

        Raises:
            UserError: if it does not fit.
        """
        self._require_memory(self.learner, at_once)

    def _require_memory(self, learner: Learner, at_once: int) -> None:
        require_room(
            self.config,
            learner,
            refits=self._refit > 0,
            own_data=self._given_split is not None,
            at_once=at_once,
        )

    def _observe(self, loop: OuterLoop, record: Record) -> None:
        for observer in self._observers:
            observer.record(loop, record)

    def _count(self, name: str, episodes: int) -> None:
        for observer in self._observers:
            observer.tested(name, episodes)
