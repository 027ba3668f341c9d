"""A refit that is still hopeless halfway is given up."""

import shutil

import pytest
from support import essence

from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.observer import Observer
from metaplast.discovery.refits import WITHOUT
from metaplast.discovery.result import tried_in
from metaplast.discovery.run import Discovery, write_config

TINY = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 8, "meta_batch": 2,
    "refit": 8, "refit_batch": 2, "validation": 64, "test_episodes": 4, "l1": 0.0,
    "terms": "error_hebbian,error_error,oja", "dataset": "digits", "engine": "fused",
}  # fmt: skip
STEPS = TINY["refit"] // TINY["refit_batch"]


class Copies(Observer):
    """Copies the folder of a run halfway through each refit without a term."""

    def __init__(self, folder, to):
        self.folder, self.to, self.made = folder, to, {}

    def record(self, loop, record):
        copy = self.to / str(len(self.made))
        if record.step + 1 == STEPS // 2 and tried_in(record.stage).startswith(WITHOUT):
            self.made[record.stage] = copy
            shutil.copytree(self.folder, copy)


def steps_by_stage(result):
    found = {}
    for record in result.history:
        found[record.stage] = found.get(record.stage, 0) + 1
    return {stage: count for stage, count in found.items() if tried_in(stage)}


@pytest.mark.parametrize("hopeless", [True, False])
def test_only_rules_without_a_term_are_given_up_and_only_if_hopeless(hopeless, monkeypatch):
    monkeypatch.setattr("metaplast.discovery.refits.is_hopeless", lambda *_: hopeless)
    steps = steps_by_stage(discover(DiscoveryConfig(**TINY)))
    without = {stage for stage in steps if tried_in(stage).startswith(WITHOUT)}
    assert without, "no term was left out"
    assert set(steps) - without, "no other refit"
    for stage, count in steps.items():
        assert count == (STEPS // 2 if hopeless and stage in without else STEPS), stage


def test_a_run_killed_as_it_gives_up_continues_to_the_same_result(monkeypatch, tmp_path):
    monkeypatch.setattr("metaplast.discovery.refits.is_hopeless", lambda *_: True)
    config, folder = DiscoveryConfig(**TINY), tmp_path / "run"
    folder.mkdir()
    write_config(folder, config)
    copies = Copies(folder, tmp_path / "killed")
    whole = discover(config, folder=folder, observers=[copies], checkpoint_seconds=0.0)
    assert copies.made
    for killed in copies.made.values():
        assert essence(Discovery.resume(killed).run()) == essence(whole)


@pytest.mark.parametrize(("change", "steps"), [({"refit": 2}, 1), ({"validation": 63}, STEPS)])
def test_a_refit_of_one_step_or_judged_on_few_tasks_is_not_given_up(change, steps, monkeypatch):
    monkeypatch.setattr("metaplast.discovery.refits.is_hopeless", lambda *_: True)
    found = steps_by_stage(discover(DiscoveryConfig(**TINY | change)))
    assert set(found.values()) == {steps}
