"""The chosen rule's longer refit, and what the rules without a term are compared with."""

from dataclasses import replace

import pytest
import torch
from support import Clouds

from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.loops import Loops
from metaplast.discovery.refits import FINAL, LAST, Refits
from metaplast.discovery.result import COMPARED, REFIT, tried_in
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_folder import summary
from metaplast.discovery.selection import Fit
from metaplast.meta.outer_loop import OuterLoop, StandstillError
from metaplast.tasks.source import EpisodeSplit

TINY = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 4, "meta_batch": 2,
    "refit": 4, "refit_batch": 2, "look": 4, "validation": 4, "test_episodes": 4,
    "dataset": "digits", "engine": "fused", "terms": "F0,F2",
}  # fmt: skip
SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")


@pytest.fixture
def discovery(monkeypatch):
    # Selection keeps both terms.
    monkeypatch.setattr(
        Fit, "is_worse_than", lambda fit, other, least: len(fit.kept) < len(other.kept)
    )
    return Discovery(DiscoveryConfig(**TINY), split=SPLIT)


def better(monkeypatch, by):
    """Raise or lower the score of the last refit on validation tasks."""
    measured = Refits._measured

    def shifted(self, name, *rest):
        fit = measured(self, name, *rest)
        return replace(fit, score=fit.score + by) if tried_in(name) == FINAL else fit

    monkeypatch.setattr(Refits, "_measured", shifted)


def last(discovery):
    return next(loop for name, loop in discovery.stages.loops.items() if tried_in(name) == FINAL)


def test_it_is_longer_and_takes_tasks_of_its_own(discovery, monkeypatch):
    seen = {}
    make = Loops.make
    monkeypatch.setattr(
        Loops, "make",
        lambda self, stage, *rest, **named: make(
            self, stage, *rest, **seen.setdefault(stage, named)
        ),
    )  # fmt: skip
    discovery.run()
    (name,) = (name for name in seen if tried_in(name) == FINAL)
    assert last(discovery).settings.episodes == LAST * TINY["refit"]
    tasks = [named["tasks"] for name, named in seen.items() if "tasks" in named]
    assert tasks.count(FINAL) == 1
    assert set(tasks) == {FINAL, REFIT}
    assert seen[name]["settings"].l1 == 0


def test_the_rule_has_its_coefficients_and_changes_are_from_before_it(discovery, monkeypatch):
    better(monkeypatch, 1.0)
    result = discovery.run()
    chosen = discovery.selection.fit
    assert torch.equal(
        result.rule.named_theta.tensor.flatten(), last(discovery).fitted.tensor.flatten()
    )
    assert not torch.equal(chosen.theta.tensor, last(discovery).fitted.tensor)
    again = discovery._loops.test(
        "again", discovery._loops.learner(result.rule.terms), chosen.theta
    )
    assert torch.equal(result.compared.loss, again.loss)
    assert not torch.equal(result.compared.loss, result.heldout["discovered"].loss)
    assert result.without
    for name, other in result.without.items():
        assert result.loss_without(name) == again.change(other)
    assert summary(result)["compared"]["mean"] == again.band.mean


def test_a_refit_that_lowers_the_score_is_not_used(discovery, monkeypatch):
    better(monkeypatch, -1.0)
    result = discovery.run()
    assert torch.equal(
        result.rule.named_theta.tensor.flatten(), discovery.selection.fit.theta.tensor.flatten()
    )
    assert torch.equal(result.compared.loss, result.heldout["discovered"].loss)


def test_a_refit_that_loses_a_term_is_not_used(discovery, monkeypatch):
    fitted = OuterLoop.fitted.fget

    def without_last(loop):
        found = fitted(loop)
        if tried_in(loop.stage) != FINAL:
            return found
        tensor = found.tensor.clone()
        tensor[..., -1] = 0
        return replace(found, tensor=tensor)

    better(monkeypatch, 1.0)
    monkeypatch.setattr(OuterLoop, "fitted", property(without_last))
    result = discovery.run()
    assert len(result.kept) == len(discovery.selection.fit.kept)
    assert all(result.rule.named_theta.tensor.flatten() != 0)


def test_a_refit_that_diverges_in_every_task_is_not_used(discovery, monkeypatch):
    run = OuterLoop.run

    def fails(self, *rest):
        if tried_in(self.stage) == FINAL:
            raise StandstillError("every episode diverged")
        return run(self, *rest)

    monkeypatch.setattr(OuterLoop, "run", fails)
    result = discovery.run()
    assert torch.equal(
        result.rule.named_theta.tensor.flatten(), discovery.selection.fit.theta.tensor.flatten()
    )


def test_known_rules_have_none():
    result = Discovery(DiscoveryConfig(**TINY | {"terms": "bio"}), split=SPLIT).run()
    assert result.compared is None
    assert summary(result)["compared"] is None
    assert COMPARED not in result.heldout
