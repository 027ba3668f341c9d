"""Refits of subsets of the pool, which selection compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from metaplast.discovery.fits import Fit, is_hopeless
from metaplast.discovery.loops import ROUNDS, VALIDATION, Loops
from metaplast.discovery.result import REFIT, Tried, trial
from metaplast.meta.evidence import Candidate, Evidence
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.standstill import StandstillError
from metaplast.systems.learner import Learner
from metaplast.terms.clocks import Taus, retimed
from metaplast.terms.coefficients import Coefficients

# The gradient for dropped terms is computed on this many times the tasks of a look of the search.
EVIDENCE = 2
# The first refit is this many times as long as the others, which begin near their optimum.
FIRST = 2
# A rule is measured on at least this many tasks before it may count as hopeless. A look at a rule
# without some of its terms uses as many.
EARLIEST = 64
# What a refit or an evaluation tries; part of the name of its stage.
WITHOUT, WITH, INSTEAD, CONFIRMATION = "without", "with", "instead of", "confirmation"
AGAIN, LONGER = "as it is", "as it is, once more"
EVERY = "every term"
# The name of the evaluations of rules that are not refitted.
LOOK = "look"


class Refits:
    """Trains subsets of the pool without penalty, and measures them on validation tasks.

    Learned time constants start at those of the fit that a refit starts from. Refits from the same
    fit learn from the same tasks, so that they can be compared. Refits from a fit with fewer terms
    use other tasks, because a rule that is refitted many times on the same tasks would overfit
    them.

    Args:
        loops: makes the loops, and evaluates rules.
        search: the finished search; its terms are the pool.

    Attributes:
        tried: the rules that were fitted and measured, in order.
    """

    def __init__(self, loops: Loops, search: OuterLoop) -> None:
        self._loops, self._search = loops, search
        self._pool = search.learner.terms
        self._trials = 0
        self.tried: list[Tried] = []

    def start(self, kept: Sequence[int]) -> Fit:
        """Return the fit of the terms that survived the search.

        Terms with small coefficients may be what keeps learning stable. So if every task diverges
        without them, all terms with a coefficient other than 0 are refitted.

        Raises:
            StandstillError: if every task diverges with all of them as well.
        """
        fitted, taus = self._search.fitted, self._search.fitted_taus
        try:
            theta = fitted.select(self._names(kept))
            return self._refit(REFIT, kept, theta, taus, times=FIRST)
        except StandstillError:
            every = [k for k, term in enumerate(self._pool) if term.name in fitted.used]
            if len(every) == len(kept):
                raise
            self._trials += 1
            stage, theta = trial(self._trials, EVERY), fitted.select(self._names(every))
            return self._refit(stage, every, theta, taus, times=FIRST)

    def without(self, fit: Fit, positions: Sequence[int], best: Fit) -> Fit:
        """Return the refit without the terms at some positions of the pool."""
        rest = [k for k in fit.kept if k not in positions]
        what = f"{WITHOUT} {', '.join(self._names(positions))}"
        theta = fit.theta.select(self._names(rest))
        return self._try(what, fit, rest, theta, best)

    def put_back(self, fit: Fit, position: int, instead: int | None = None) -> Fit:
        """Return the refit with a dropped term put back; its coefficient starts at zero.

        Args:
            fit: a fit without the term.
            position: the position of the term in the pool.
            instead: the position of the term that it replaces, which the fit does not have either;
                None if it replaces none.
        """
        name, more = self._pool[position].name, sorted([*fit.kept, position])
        theta = fit.theta.insert(more.index(position), name)
        other = "" if instead is None else f" {INSTEAD} {self._pool[instead].name}"
        return self._try(f"{WITH} {name}{other}", fit, more, theta)

    def again(self, fit: Fit) -> Fit:
        """Return the refit of the same terms."""
        return self._try(AGAIN, fit, fit.kept, fit.theta)

    def longer(self, fit: Fit) -> Fit:
        """Return another refit of the same terms, to compare with rules refitted as often."""
        return self._try(LONGER, fit, fit.kept, fit.theta)

    def fresh(self, fit: Fit, turn: int) -> Fit:
        """Return the same rule, measured on tasks that only this round uses."""
        purpose = CONFIRMATION + " again" * turn
        return self._measured(CONFIRMATION, fit.kept, fit.theta, fit.taus, purpose)

    def worth_trying(self, fit: Fit) -> tuple[Sequence[int], Mapping[int, float]]:
        """Return the terms to put back, and the gradient for the others in standard errors.

        The criterion is the gradient at the fit, as in the search for a rule that grows.
        """
        rest = [k for k in range(len(self._pool)) if k not in fit.kept]
        if not rest:
            return [], {}
        evidence, found = self._evidence(fit)
        tried = [candidate.position for candidate in found]
        return tried, {k: float(evidence.errors[k]) for k in rest if k not in tried}

    def rival(self, without: Fit, position: int) -> int | None:
        """Return the term that the gradient supports best as a replacement of another.

        Args:
            without: a fit without the other term.
            position: the position of the other term in the pool.

        Returns:
            The position of the best candidate whose gradient, in standard errors, is larger than
            that for the other term itself; None if there is none.
        """
        if len(without.kept) + 1 == len(self._pool):
            return None  # No term was dropped.
        evidence, found = self._evidence(without)
        own = abs(float(evidence.errors[position]))
        others = [each for each in found if abs(each.errors) > own]
        return max(others, key=lambda each: abs(each.errors)).position if others else None

    def _evidence(self, fit: Fit) -> tuple[Evidence, list[Candidate]]:
        """Return the evidence for each term of the pool at a fit, and the candidates to try."""
        search, bars = self._search, self._loops.config.bars
        theta = torch.zeros_like(search.theta)
        theta[..., list(fit.kept)] = fit.theta.tensor
        active = torch.zeros(len(self._pool), dtype=torch.bool, device=theta.device)
        active[list(fit.kept)] = True
        gradients = search.evidence(
            theta, EVIDENCE * bars.look, "evidence", fit.taus, self._loops.asked
        )
        return bars.judged(gradients, active, search.signs)

    def bare(self, fit: Fit, positions: Sequence[int]) -> Fit:
        """Return the fit without the terms at some positions, without a refit."""
        rest = [k for k in fit.kept if k not in positions]
        return self._look(rest, fit.theta.select(self._names(rest)), fit.taus)

    def learner(self, kept: Sequence[int], taus: Taus) -> Learner:
        """Return the learner with the terms at some positions of the pool, with learned τ."""
        return self._loops.learner(retimed([self._pool[k] for k in kept], taus))

    def _names(self, kept: Sequence[int]) -> list[str]:
        return [self._pool[k].name for k in kept]

    def _try(
        self,
        what: str,
        fit: Fit,
        kept: Sequence[int],
        theta: Coefficients,
        best: Fit | None = None,
    ) -> Fit:
        """Return a refit of some terms that starts from a fit, on the tasks that `fit.tasks` names.

        If all tasks diverge, return a fit with the worst score.
        """
        self._trials += 1
        stage = trial(self._trials, what)
        try:
            return self._refit(stage, kept, theta, fit.taus, best, tasks=fit.tasks)
        except StandstillError:
            least = self._loops.least_scores(self.learner(kept, fit.taus), theta)
            return Fit(tuple(kept), theta, least, fit.taus, fit.tasks)

    def _refit(
        self,
        stage: str,
        kept: Sequence[int],
        theta: Coefficients,
        taus: Taus,
        best: Fit | None = None,
        times: int = 1,
        tasks: str = REFIT,
    ) -> Fit:
        settings = self._loops.config.refit_outer
        learner = self._loops.trained([self._pool[k] for k in kept], taus)
        settings = replace(settings, episodes=times * settings.episodes)
        looks: list[Fit] = []

        def give_up(best: Fit, loop: OuterLoop) -> bool:
            """Return whether the rule is still hopeless halfway through its refit."""
            looks.append(self._look(kept, loop.fitted, {**taus, **loop.fitted_taus}))
            return self._is_hopeless(looks[-1].score, best)

        judges = settings.steps > 1 and self._loops.config.validation >= EARLIEST
        scale = self._search.scale.select(self._names(kept)).tensor
        loop = self._loops.stages.run(
            stage,
            lambda: self._loops.make(
                stage, learner, theta, settings=settings, scale=scale, tasks=tasks, cold=False,
                shrinks=self._search.shrinks, began=self._search.progress.history[0].loss,
                rounds=ROUNDS if times == FIRST else 1,
            ),
            partial(give_up, best) if judges and best is not None else None, settings.steps // 2,
        )  # fmt: skip
        if loop.given_up:
            fit = looks[-1]  # The rule is hopeless, so no further tasks are measured.
        else:
            # The time constants of dropped terms stay, in case a term is put back.
            taus = {**taus, **loop.fitted_taus}
            fit = self._measured(stage, kept, loop.fitted, taus, VALIDATION, best)
        # A term whose coefficient the refit has set to zero is not part of the rule.
        fit = fit.trimmed()
        fit = replace(fit, tasks=f"{REFIT} from {len(fit.kept)} terms")
        score = self._loops.config.score_objective.score_scale.band(fit.score)
        self.tried.append(Tried(stage, fit.theta.names, score))
        return fit

    def _look(self, kept: Sequence[int], theta: Coefficients, taus: Taus) -> Fit:
        """Return a rule measured on the first validation tasks only."""
        seen = self._loops.evaluate(
            LOOK, self.learner(kept, taus), theta, VALIDATION, lambda score: len(score) >= EARLIEST
        )
        return Fit(tuple(kept), theta, seen.score, taus)

    def _is_hopeless(self, score: Tensor, best: Fit) -> bool:
        return is_hopeless(score, best.score, self._loops.config.least_gain)

    def _measured(
        self,
        name: str,
        kept: Sequence[int],
        theta: Coefficients,
        taus: Taus,
        purpose: str,
        best: Fit | None = None,
    ) -> Fit:
        def enough(score: Tensor) -> bool:
            """Return whether the first tasks show that the rule is hopeless."""
            if best is None or len(score) < EARLIEST:
                return False
            return self._is_hopeless(score, best)

        found = self._loops.evaluate(name, self.learner(kept, taus), theta, purpose, enough)
        return Fit(tuple(kept), theta, found.score, taus)
