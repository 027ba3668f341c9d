"""The outer loops of a discovery, and the evaluation of the rules that they find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from metaplast.base.errors import UserError
from metaplast.base.workers import Workers
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.fits import Fit
from metaplast.discovery.result import SEARCH
from metaplast.discovery.stages import Stages
from metaplast.engines import Engine, choose_engine
from metaplast.engines.spread import SpreadEngine
from metaplast.meta.evaluation import Evaluation, evaluate, least_scores
from metaplast.meta.growing_loop import GrowingLoop
from metaplast.meta.outer_loop import OuterLoop
from metaplast.systems.learner import Learner
from metaplast.systems.system import System
from metaplast.systems.timed import timed
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.clocks import Taus, retimed
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import KnownRule, get_term, goes_with
from metaplast.terms.term import Term

# Name of the random numbers of the held-out test.
HELDOUT = "heldout"
# Name of the random numbers of the tasks on which selection compares rules.
VALIDATION = "validation"
# Names, for observers, of the tasks on which values of candidates are measured, and of those on
# which selection computes gradients.
PROBE = "values of candidates"
ASKED = "evidence for terms"
# Largest number of rounds of a search, of its first refit and of the training of a known rule.
ROUNDS = 4


class Counter(Protocol):
    """Counts evaluated tasks."""

    def __call__(self, name: str, episodes: int) -> None:
        """Receive the number of newly evaluated tasks of a rule."""


def trained_learner(
    config: DiscoveryConfig, system: System, terms: Sequence[Term], taus: Taus | None = None
) -> Learner:
    """Return the learner that an outer loop trains; with --learn-tau, its time constants too.

    Args:
        config: the configuration.
        system: the system that learns.
        terms: the terms of the rule.
        taus: initial values of time constants, if they differ from those of the terms.
    """
    return Learner(timed(system, terms, taus) if config.learn_tau else system, tuple(terms))


class Loops:
    """Makes outer loops for one configuration, and evaluates rules on its tasks.

    Args:
        config: the configuration.
        split: episodes for meta-training and for the test.
        stages: runs the loops, and has the scales of loops that an earlier process began.
        tested: called with the name of a rule and the number of newly evaluated tasks.
        workers: unroll the episodes; None to unroll them in this process.
    """

    def __init__(
        self, config: DiscoveryConfig, split: EpisodeSplit, stages: Stages, tested: Counter,
        workers: Workers | None = None,
    ) -> None:  # fmt: skip
        self.config, self.split, self.stages = config, split, stages
        self._tested, self._workers = tested, workers

    def learner(self, terms: Sequence[Term], feedback: str | None = None) -> Learner:
        """Return a learner with these terms; `feedback` is the configured one by default."""
        return Learner(self._system(feedback), tuple(terms))

    def trained(self, terms: Sequence[Term], taus: Taus | None = None) -> Learner:
        """Return the learner with these terms that an outer loop trains; see `trained_learner`."""
        return trained_learner(self.config, self._system(), terms, taus)

    def _system(self, feedback: str | None = None) -> System:
        split = self.split
        return self.config.build_system(split.inputs, split.outputs, feedback, split.timing)

    def known_learner(self, rule: KnownRule) -> Learner:
        """Return a known rule's learner, with the configured feedback if the rule allows it."""
        own = self.config.feedback_name
        # Without backward terms, plastic feedback does not change, so it is fixed feedback.
        own = "fixed" if own == "plastic" else own
        feedback = own if goes_with(own, rule.feedback) else rule.feedback[0]
        return self.learner([get_term(name) for name in rule.terms], feedback)

    def engine(self, learner: Learner) -> Engine:
        """Return the configured engine for a learner; if there are workers, they run it.

        Raises:
            UserError: if the engine or the workers do not support the learner.
        """
        device = self.config.torch_device
        engine = choose_engine(self.config.engine, learner, device)
        if self._workers is None:
            return engine
        spread = SpreadEngine(engine, self._workers)
        refusal = spread.refusal(learner, device)
        if refusal is not None:
            raise UserError(refusal)
        return spread

    def make(
        self,
        stage: str,
        learner: Learner,
        start: Coefficients | None = None,
        kind: type[OuterLoop] = OuterLoop,
        **options: Any,
    ) -> OuterLoop:
        """Return the outer loop of a stage.

        Args:
            stage: name of the stage.
            learner: the learner whose coefficients it trains.
            start: initial θ; None for the terms' initial coefficients.
            kind: class of the loop.
            options: as for `OuterLoop`; by default, the settings are those of the search.
        """
        device = self.config.torch_device
        start = self._initial(learner.terms, learner.sites) if start is None else start
        settings = {"settings": self.config.outer, **options}
        scale = self.stages.scale(stage)
        if scale is not None:
            settings["scale"] = scale.to(device)
        return kind(
            stage, learner, self.split.train, self.engine(learner),
            seed=self.config.seed, device=device, start=start.on(device), **settings,
        )  # fmt: skip

    def search(self, learner: Learner, *, tied: bool) -> OuterLoop:
        """Return the search among all terms of a learner.

        Args:
            learner: with all candidate terms.
            tied: whether all layers share θ. Coefficients differ between layers only from the
                refits on: if many candidates changed in many layers at once, most tasks would
                diverge.
        """
        config, growth, choice = self.config, self.config.growth, self.config.choice
        start = self._initial([*map(choice.begin, learner.terms)], learner.sites)
        # Coefficients that the user gave are no guess, as those of a pool usually are. A known rule
        # needs no search, and an evolution strategy computes no gradient of a task.
        guessed = choice.is_pool and not choice.starts
        shrinks = config.backtrack and guessed and config.estimator == "gradient"
        if growth is None:
            return self.make(
                SEARCH, learner, start, tied=tied, shrinks=shrinks, cold=not choice.starts,
                rounds=ROUNDS,
            )  # fmt: skip
        return self.make(
            SEARCH, learner, start, GrowingLoop, tied=tied, shrinks=shrinks, growth=growth,
            probed=partial(self._tested, PROBE),
        )  # fmt: skip

    def asked(self, tasks: int) -> None:
        """Tell observers that gradients of some tasks were computed at a fixed rule."""
        self._tested(ASKED, tasks)

    def known(self, rule: KnownRule) -> OuterLoop:
        """Return the loop that learns the coefficients of a known rule, without penalty."""
        # A baseline starts at a usual value, not at one that was learned: it has far to go.
        scaling = "down" if self.config.scaling == "start" else self.config.scaling
        settings = replace(self.config.outer, l1=0.0, scaling=scaling)
        return self.make(rule.name, self.known_learner(rule), settings=settings, rounds=ROUNDS)

    def evaluate(
        self,
        name: str,
        learner: Learner,
        theta: Coefficients,
        purpose: str,
        enough: Callable[[Tensor], bool] | None = None,
    ) -> Evaluation:
        """Evaluate a rule on meta-training tasks, or on held-out ones if the purpose is `HELDOUT`.

        Args:
            name: the name of the rule, for observers.
            learner: the learner with the rule's terms.
            theta: their coefficients.
            purpose: name of the random numbers; it determines the tasks.
            enough: as for `metaplast.meta.evaluation.evaluate`.
        """
        config, final = self.config, purpose == HELDOUT
        sampler = self.split.test if final else self.split.train
        return evaluate(
            learner, theta.tensor, sampler, self.engine(learner),
            episodes=config.test_episodes if final else config.validation, seed=config.seed,
            purpose=purpose, observe=lambda episodes: self._tested(name, episodes), enough=enough,
        )  # fmt: skip

    def test(self, name: str, learner: Learner, theta: Coefficients) -> Evaluation:
        """Evaluate a rule on held-out tasks; arguments as for `evaluate`."""
        return self.evaluate(name, learner, theta, HELDOUT)

    def test_fits(
        self, kind: str, pool: Sequence[Term], fits: Mapping[int, Fit]
    ) -> dict[str, Evaluation]:
        """Return the evaluation of fits on held-out tasks, by the name of the term that each tests.

        Args:
            kind: "without" or "with", the first word of the names of the tests.
            pool: the terms that positions refer to.
            fits: the fits, by the position of the term.
        """
        return {
            pool[k].name: self.test(
                f"{kind} {pool[k].name}",
                self.learner(retimed([pool[i] for i in fit.kept], fit.taus)),
                fit.theta,
            )
            for k, fit in fits.items()
        }

    def least_scores(self, learner: Learner, theta: Coefficients) -> Tensor:
        """Return the scores of a rule that diverges in every validation task, [episode]."""
        return least_scores(
            learner, theta.tensor, self.split.train, episodes=self.config.validation,
            seed=self.config.seed, purpose=VALIDATION,
        )  # fmt: skip

    def _initial(self, terms: Sequence[Term], sites: int) -> Coefficients:
        each = sites if self.config.theta == "per-layer" else None
        return Coefficients.initial(terms, self.config.torch_dtype, each)
