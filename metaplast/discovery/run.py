"""A whole discovery: search, select terms, learn the baselines, test on held-out tasks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from metaplast.base.device import require_device
from metaplast.base.errors import require
from metaplast.base.locks import locked, require_free
from metaplast.base.notices import Notices, collected
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.torch_settings import own_settings
from metaplast.base.workers import Workers
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.elimination import keep_terms
from metaplast.discovery.heldout_tests import HeldoutTests, evaluate_all
from metaplast.discovery.loops import HELDOUT
from metaplast.discovery.observer import Observer
from metaplast.discovery.parts import Parts
from metaplast.discovery.provenance import provenance_of
from metaplast.discovery.reach import notice_shortfall
from metaplast.discovery.refits import Refits
from metaplast.discovery.result import DISCOVERED, SEARCH, Result, Tried
from metaplast.discovery.rough import notice_rough_search
from metaplast.discovery.run_config import CONFIG, Asked, begin_folder, read_config, write_config
from metaplast.discovery.selection import Selection, select
from metaplast.discovery.stages import CHECKPOINT, Stages
from metaplast.discovery.taus import LearnedTau, learned_taus
from metaplast.meta.outer_loop import OuterLoop
from metaplast.rules.rule import Rule
from metaplast.systems.learner import Learner
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.clocks import Taus, retimed
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import Term

__all__ = ["CONFIG", "HELDOUT", "Discovery", "Observer", "write_config"]


class Discovery(Parts):
    """A discovery: search, selection, baselines and test, in this order.

    Args:
        config: the configuration.
        folder: where to write the checkpoint and the configuration; created if needed. None for no
            checkpoint.
        observers: objects that observe the run.
        checkpoint_seconds: the longest time between checkpoints.
        split: episodes to use instead of those of the configured source; the run records them as
            your own data. A split that a source made must have the configured ways, shots and
            queries. For a sampler of your own class, the run records the sizes of its episodes.
        terms: candidate terms of your own, in addition to the configured ones.
        workers: unroll the episodes, for example those of a Ray cluster; None to unroll them here.

    Attributes:
        selection: the rule that selection chose, and the evidence for it; None until selection has
            ended, and in a run without selection.
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
        workers: Workers | None = None,
    ) -> None:
        self.folder = None if folder is None else as_path(folder, "folder")
        stages = Stages(self.folder, checkpoint_seconds, self._observe, lambda: self._identity)
        super().__init__(config, stages, observers, split=split, terms=terms, workers=workers)
        # The configuration recorded in the folder; None until it is written or read.
        self._identity: Mapping[str, Any] | None = None
        self._resumed = False
        self._notices = Notices()
        self.selection: Selection | None = None
        self._tried: tuple[Tried, ...] = ()
        self._taus: tuple[LearnedTau, ...] = ()

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
            folder: the folder of the run.
            split: the same data again, if data were passed when the run started.
            terms: your own terms again; only torch functions must be passed again.
            options: as for `Discovery`.

        Raises:
            UserError: if there is no run in the folder; another process uses it; its files are
                damaged, foreign or changed; data or terms are missing or differ; or this machine
                does not have the run's device.
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
        # Check this before the checkpoint is read, because its tensors are on the device.
        require_device(asked.config.torch_device)
        if asked.own is not None:
            asked.own.require_data(split is not None, str(folder))
            terms = asked.own.candidates(terms, str(folder))
        discovery = cls(asked.config, folder=folder, split=split, terms=terms, **options)
        discovery._identity = asked.identity
        discovery.stages.load()
        discovery._resumed = True
        # Open the data here only if they may have changed.
        if asked.own is not None and asked.own.data is not None:
            asked.own.require_same_data(discovery.own.data, str(folder))
        elif asked.own is not None and asked.own.files:
            name = asked.config.dataset_name
            asked.own.require_same_files(discovery.own.files, name, str(folder))
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
        """Return the discovery in `folder`, ready to continue; start one if there is none.

        Raises:
            UserError: if the folder contains damaged or foreign files, or another discovery.
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
        """Return a copy of this discovery that runs in a folder; it shares data that are open.

        Args:
            folder: the folder of the run.
            options: observers, checkpoint_seconds and workers, as for `Discovery`.
        """
        again = Discovery(
            self.config, folder=folder, split=self._given_split, terms=self._own_terms, **options
        )
        if "split" in vars(self):
            vars(again)["split"] = self.split
        return again

    def _begin_folder(self) -> None:
        """Create the folder and write the configuration, unless the run is resumed."""
        if self.folder is not None and self._identity is None:
            begun = (self.folder / CHECKPOINT).exists()
            self._identity = begin_folder(self.folder, self.config, self.own, begun=begun)

    @own_settings(grad=True)
    def run(self) -> Result:
        """Run the discovery, or the rest of it, and return the result.

        The folder is locked during the run.

        Raises:
            UserError: if the data, the engine or the folder do not fit the configuration, another
                process uses the folder, or the machine has too little memory.
        """
        with self._ready():
            return self._run()

    @own_settings(grad=True)
    def find(self) -> Rule:
        """Search and select, and return the rule; no baseline is learned and nothing is tested.

        Raises:
            UserError: as for `run`.
        """
        with self._ready():
            self._begin_folder()
            search, terms, theta = self._found()
            return Rule.of(terms, theta, self.config.feedback_name, self._provenance(search))

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Lock the folder and collect notices while the run is computed."""
        _ = self.engine  # If the engine does not fit, raise an error now, before the run starts.
        with nullcontext() if self.folder is None else locked(self.folder, make=True):
            if self._resumed:
                # Another process may have continued the run after we loaded the checkpoint.
                self.stages.load()
            with collected() as self._notices:
                yield

    def _run(self) -> Result:
        self._begin_folder()
        for observer in self._observers:
            observer.begin(self)
        search, terms, theta = self._found()
        tested = {DISCOVERED: (self._loops.learner(terms), theta), **self._learn_baselines(search)}
        heldout = evaluate_all(self._loops, tested, search.learner.terms, self.selection)
        result = self._result(terms, theta, search, heldout)
        for observer in self._observers:
            observer.finish(result)
        return result

    def _found(self) -> tuple[OuterLoop, tuple[Term, ...], Coefficients]:
        """Search and select; return the search, and the terms of the rule with their θ."""
        search = self.stages.run(SEARCH, self._search)
        notice_rough_search(search)
        kept, theta, taus = self._kept(search)
        chosen = [search.learner.terms[k] for k in kept]
        self._taus = learned_taus(chosen, taus)
        return search, retimed(chosen, taus), theta

    def _search(self) -> OuterLoop:
        return self._loops.search(self.learner, tied=self._refit > 0)

    def _kept(self, search: OuterLoop) -> tuple[list[int], Coefficients, Taus]:
        """Return the positions of the terms to keep, their coefficients, and learned τ."""
        pool, kept = search.learner.terms, list(range(len(search.learner.terms)))
        joined: Mapping[int, int] = {}
        if search.growth is not None:
            # Each term was tested when it entered, so keep it even if its coefficient is small.
            kept, joined = search.growth.positions, search.growth.joined
        elif self.choice.is_pool:
            kept = keep_terms(search.fitted.in_units(search.scale), self.config.threshold)
        if not self._refit or not kept:
            return kept, search.fitted.select(pool[k].name for k in kept), search.fitted_taus
        refits = Refits(self._loops, search)
        self.selection = select(
            refits.start(kept), pool, refits, self.config.least_gain, joined=joined
        )
        self._tried = tuple(refits.tried)
        return list(self.selection.fit.kept), self.selection.fit.theta, self.selection.fit.taus

    def _learn_baselines(self, search: OuterLoop) -> dict[str, tuple[Learner, Coefficients]]:
        """Return each baseline's learner and coefficients; for a known rule, the search is one."""
        learned = {
            rule.name: self.stages.run(rule.name, partial(self._loops.known, rule))
            for rule in self.rivals
        }
        loops = {rule.name: learned.get(rule.name, search) for rule in self.baselines}
        for name, loop in loops.items():
            notice_shortfall(name, loop)
        return {name: (loop.learner, loop.fitted) for name, loop in loops.items()}

    def _provenance(self, search: OuterLoop, score: float | None = None) -> dict[str, Any]:
        return provenance_of(
            self.config, self.own, self.description, search.learner.system, self.engine.name,
            score=score,
        )  # fmt: skip

    def _result(
        self, terms: tuple[Term, ...], theta: Coefficients, search: OuterLoop, tested: HeldoutTests
    ) -> Result:
        feedback, pool = self.config.feedback_name, search.learner.terms
        provenance = self._provenance(search, tested.heldout[DISCOVERED].band.mean)
        errors = {} if self.selection is None else self.selection.errors
        return Result(
            rule=Rule.of(terms, theta, feedback, provenance),
            searched=Rule.of(
                retimed(pool, search.fitted_taus), search.fitted, feedback, provenance
            ),
            scale=search.scale.columns(),
            history=tuple(self.stages.history()),
            **tested._asdict(),
            errors={pool[k].name: value for k, value in errors.items()},
            trials=() if search.growth is None else tuple(search.growth.trials),
            divergences=tuple(self.stages.divergences()),
            config=self.config,
            engine=self.engine.name,
            held_out=self.split.held_out,
            description=self.description,
            seconds=self.stages.seconds,
            planted=self.split.planted,
            own=self.own,
            notices=self._notices.lines,
            tried=self._tried,
            taus=self._taus,
        )
