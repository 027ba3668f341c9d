"""A checkpoint of the right format with wrong content is refused in a sentence, or harmless."""

import copy
import math
import shutil
import zipfile

import pytest
import torch
from support import Clouds, Stop, assert_is_one_sentence, paths_in, with_value, without

from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.base.errors import UserError
from metaplast.base.plain_data import DataError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.run import Discovery
from metaplast.discovery.stages import CHECKPOINT
from metaplast.meta.loop_state import read_seconds, read_stages
from metaplast.tasks.source import EpisodeSplit

CONFIG = DiscoveryConfig(
    terms="error_hebbian,oja", hidden=(5,), ways=3, shots=2, queries=2, episodes=8, meta_batch=2,
    refit=0, look=4, validation=2, test_episodes=2, engine="batched", l1=0.0, schedule="constant",
)  # fmt: skip
SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was interrupted after two steps."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(KeyboardInterrupt):
        discover(CONFIG, folder=folder, split=SPLIT, observers=[Stop(2)])
    return folder


WRONG = (
    None, True, -1, 10**30, math.nan, "text", [], {}, [1.0], {"a": 1},
    torch.tensor(math.nan), torch.zeros(3, 3), torch.zeros(2, dtype=torch.int64),
    torch.full((2,), math.nan), torch.ones(1), torch.ones(2, dtype=torch.float64),
)  # fmt: skip


def continued(loop, data):
    """Continue a loop from a checkpoint; return the error if it is refused."""
    try:
        stages = read_stages(data)
        read_seconds(data)
        if "search" in stages:
            loop.restore(stages["search"])
            loop.run_step()
            loop.state()
    except DataError as error:
        return error


@pytest.mark.slow
def test_every_field_is_checked(folder):
    data = load_checkpoint(folder / CHECKPOINT)
    loop = Discovery(CONFIG, split=SPLIT)._search()
    assert continued(loop, copy.deepcopy(data)) is None
    refused = 0
    # The second record is checked like the first.
    paths = [p for p in paths_in(data) if p[0] != "asked" and p[2:4] != ("history", 1)]
    for path in paths:
        for value in WRONG:
            error = continued(loop, with_value(data, path, value))
            if error is not None:
                assert "\n" not in str(error)
                refused += 1
    assert refused > 500


def test_parts_that_lack_are_refused(folder):
    data = load_checkpoint(folder / CHECKPOINT)
    state, loop = data["stages"]["search"], Discovery(CONFIG, split=SPLIT)._search()
    assert "latest" in state
    # Checkpoints of version 0.1 lack the latest θ.
    parts = [(k,) for k in state if k != "latest"] + [("trust", k) for k in state["trust"]]
    for part in (*parts, ("optimizer", "state")):
        spoiled = without(data, ("stages", "search", *part))
        assert continued(loop, spoiled) is not None, part


WHOLE = {
    "a scale for other layers": lambda s: s.update(scale=torch.ones(2, 2)),
    "more of the latest coefficients than are averaged": lambda s: s.update(
        latest=s["latest"].repeat(2, 1)
    ),
    "coefficients of other layers": lambda s: s.update(latest=s["latest"][None]),
    "steps beyond the end": lambda s: s.update(step=100),
    "records of other terms": lambda s: s["history"][0].update(theta={"F0": [1.0]}),
    "moments of another size": lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.ones(1)),
    "another optimizer's settings": lambda s: s["optimizer"]["param_groups"][0].update(
        betas=(0.5, 0.5)
    ),
    "a divergence without words": lambda s: s["history"][0].update(non_finite=1),
}


@pytest.mark.parametrize("spoil", WHOLE.values(), ids=WHOLE.keys())
def test_wrong_content_is_refused_in_a_sentence(folder, tmp_path, spoil):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    data = load_checkpoint(folder / CHECKPOINT)
    spoil(data["stages"]["search"])
    save_checkpoint(tmp_path / CHECKPOINT, data)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(UserError, match="the checkpoint in") as caught:
        Discovery.resume(tmp_path, split=SPLIT).run()
    assert_is_one_sentence(caught.value)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_compressed_file_is_not_unpacked(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"0" * 10**6)
    with pytest.raises(UserError, match="is not a metaplast checkpoint"):
        load_checkpoint(tmp_path / "bomb.pt")
    with pytest.raises(UserError, match="not a regular file") as caught:
        load_checkpoint(tmp_path)
    assert_is_one_sentence(caught.value)
