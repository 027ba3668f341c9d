"""Signs of chosen coefficients: `--positive` and `--negative`."""

from dataclasses import replace

import pytest
import torch
from support import Clouds

from metaplast.base.errors import UserError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.meta.evidence import Evidence
from metaplast.meta.signs import sign_of
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.library import get_term

TINY = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 40, "meta_batch": 2,
    "meta_lr": 0.01, "l1": 0.0, "refit": 4, "refit_batch": 2, "look": 4, "validation": 4,
    "test_episodes": 4, "dataset": "digits", "engine": "fused", "terms": "F0,F2,F4,oja,",
}  # fmt: skip
SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")


def searched(theta="shared", **changes):
    discovery = Discovery(DiscoveryConfig(**TINY | {"theta": theta} | changes), split=SPLIT)
    search = discovery._loops.search(discovery.learner, tied=False)
    steps = []
    search.run(lambda loop, record: steps.append(loop.theta.clone()))
    return torch.stack(steps)


@pytest.mark.parametrize("theta", ["shared", "per-layer"])
def test_coefficients_keep_their_signs_at_every_step_and_others_are_free(theta):
    free = searched(theta)
    # In this search some coefficients of each are of the other sign without the constraint.
    bounded = searched(theta, positive="F4,oja", negative="error_error")
    position = {"F0": 0, "F2": 1, "F4": 2, "oja": 3}
    assert (bounded[..., [position["F4"], position["oja"]]] >= 0).all()
    assert (bounded[..., position["F2"]] <= 0).all()
    assert (free[..., 1] > 0).any() or (free[..., 2] < 0).any() or (free[..., 3] < 0).any()
    assert not torch.equal(free, bounded)


def test_each_sign_can_be_chosen_where_the_search_wants_the_other():
    free = searched()[-1]
    for k, name in ((1, "F2"), (2, "F4"), (3, "F9")):
        flag = "negative" if free[k] > 0 else "positive"
        held = searched(**{flag: name})[:, k]
        assert (held <= 0).all() if flag == "negative" else (held >= 0).all()


def test_refits_and_the_rule_keep_their_signs():
    result = Discovery(DiscoveryConfig(**TINY, negative="F2,F4"), split=SPLIT).run()
    bound = ("error_error", "presynaptic_error")
    by_stage = {}
    for record in result.history:
        for name in bound:
            by_stage.setdefault(record.stage, []).extend(record.theta.get(name, ()))
    for stage in ("search", "refit"):
        assert max(by_stage[stage]) <= 0
        assert min(by_stage[stage]) < 0
    assert all(result.rule.coefficients.get(name, 0) <= 0 for name in bound)


def test_a_candidate_whose_sign_bars_it_is_not_tried():
    gradients = torch.tensor([[1.0, -1.0, 1.0]]).repeat(8, 1) + 0.01 * torch.randn(8, 3)
    evidence = Evidence.of(gradients, torch.zeros(3, dtype=torch.bool), 0.0)
    for signs, left in (((0, 0, 0), {0, 1, 2}), ((1, 1, 0), {1, 2}), ((-1, -1, 0), {0, 2})):
        found = evidence.candidates(torch.zeros(3, dtype=torch.bool), torch.tensor(signs), 0.1, 3.0)
        assert {each.position for each in found} == left


def test_terms_that_are_declared_nonnegative_stay_so():
    settings = DiscoveryConfig().outer
    assert sign_of(get_term("decay"), settings) == 1
    assert sign_of(get_term("decay"), replace(settings, signs=False)) == 0
    assert sign_of(get_term("F0"), replace(settings, positive="oja, error_hebbian")) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"positive": "F2,ojja"}, "candidate term of --positive 'ojja'"),
        ({"positive": "F5"}, "candidate term of --positive 'F5'"),
        ({"positive": "F2", "negative": "error_error"}, "error_error is in both"),
        ({"negative": "F0"}, "begins at 0.001"),
        ({"negative": "decay", "terms": "F0,decay"}, "declared non-negative"),
        ({"positive": ","}, "--positive"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Discovery(DiscoveryConfig(**TINY | options), split=SPLIT)
