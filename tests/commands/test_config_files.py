"""--config and --save-config: settings of a discovery in a file."""

import dataclasses
import json
from pathlib import Path

import pytest
from support import SMALL_RUN, assert_is_one_sentence

from metaplast.base.errors import UserError
from metaplast.commands import guard
from metaplast.commands import recover as recover_command
from metaplast.commands import sweep as sweep_command
from metaplast.commands.discover import main as discover
from metaplast.commands.discover import read_options
from metaplast.discovery.config import PRESETS, DiscoveryConfig
from metaplast.discovery.config_file import read_settings, settings_toml
from metaplast.discovery.own import Own, OwnData
from metaplast.discovery.run_config import write_config

OTHER = DiscoveryConfig(
    terms="bio", hidden=(7, 5), activation="tanh", ways=3, shots=4, episodes=12, refit=0,
    held_out="images", dtype="float64", clip=0.1, signs=False, seed=9,
    data_root=Path('a "\\ \x7fö'),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(text, name="s.toml"):
    Path(name).write_text(text, encoding="utf-8")
    return f"--config={name}"


@pytest.mark.parametrize("config", [DiscoveryConfig(), OTHER])
def test_saved_settings_are_read_again(config):
    written(settings_toml(config, {f.name: "any" for f in dataclasses.fields(config)}))
    assert DiscoveryConfig(**read_settings("s.toml")) == config


def test_a_saved_file_repeats_the_options(capsys):
    options = ["--ways=3", "--terms=bio", "--hidden=none", "--l1=0.5"]
    assert guard(discover, [*options, "--save-config=s.toml"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "--config s.toml" in said.err
    assert read_options(["--config=s.toml"]).config == read_options(options).config
    assert list(Path().iterdir()) == [Path("s.toml")]
    text = Path("s.toml").read_text()
    assert "[task]\n" in text
    assert "\nhidden = []\n" in text


def test_options_given_by_hand_win():
    given = written('ways = 3\n[network]\nhidden = [4]\n[search]\nmeta-batch = 5\nterms = "bio"\n')
    found = read_options([given, "--ways=4"])
    assert (found.ways, found.hidden, found.meta_batch, found.terms) == (4, (4,), 5, "bio")
    assert read_options(["--ways=4", given]) == found


def test_a_file_may_name_system_and_preset():
    found = read_options([written('system = "recurrent"\npreset = "paper"\nmeta_batch = 3\n')])
    assert found.system == "recurrent"
    assert found.hidden == read_options(["--system=recurrent"]).hidden
    assert (found.meta_batch, found.optimizer) == (3, PRESETS["paper"]["optimizer"])
    # A preset given by hand wins over single settings of the file.
    assert read_options([written("meta_batch = 3"), "--preset=paper"]).meta_batch == 1


def test_the_configuration_of_a_run_is_a_file_of_settings():
    Path("run").mkdir()
    write_config("run", OTHER, Own())
    for path in ("run", "run/config.json"):
        assert read_options([f"--config={path}"]).config == OTHER
    data = json.loads(Path("run/config.json").read_text())["config"]
    assert read_options([written(json.dumps(data), "s.json")]).config == OTHER
    assert read_options(["--config=run", "--objective=mse"]).objective == "mse"


def test_a_run_with_data_from_python_cannot_be_repeated_here():
    Path("run").mkdir()
    data = OwnData("x", "x", "S", "images", 1, 2, 3, 4, "a", "b", is_asked=True)
    write_config("run", OTHER, Own(data))
    with pytest.raises(UserError, match=r"passed from Python; repeat it from Python"):
        read_options(["--config=run"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("wys = 3", "unknown setting in s.toml 'wys'; did you mean 'ways'?"),
        ("out = 'x'", "unknown setting in s.toml 'out'"),
        ("ways = 'three'", "s.toml: ways must be a whole number, got 'three'"),
        ("ways = 1", "s.toml: --ways must be at least 2"),
        ("ways = 3\n[task]\nways = 4", "s.toml gives ways twice"),
        ("ways 3", "s.toml is not TOML"),
        ('terms = "nosuch"', "s.toml: unknown term 'nosuch'"),
        ('preset = "nosuch"', "must be default or paper"),
        ('system = "nosuch"', "unknown system 'nosuch'"),
    ],
)
def test_a_bad_file_is_refused(text, says, capsys):
    assert guard(discover, [written(text)]) == 2
    assert_refused(says, capsys)


def assert_refused(says, capsys):
    said = capsys.readouterr().err.removeprefix("error: ").strip()
    assert_is_one_sentence(UserError(said))
    assert says in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--config=nosuch.toml"], "no file of settings 'nosuch.toml'"),
        (["--config=nosuch.json"], "cannot read settings from nosuch.json"),
        (["--config=folder"], "cannot read settings from folder/config.json"),
        (["--config=latin.toml"], "is not TOML"),
        (["--config=list.json"], "must hold settings by name"),
        (["--config"], "--config needs a value"),
        (["--config=some.toml", "--resume=folder"], "--config has no effect"),
        (["--save-config=folder"], "--save-config takes a file"),
        (["--save-config=nosuch/s.toml"], "there is no folder 'nosuch'"),
    ],
)
def test_wrong_uses_are_refused(options, says, capsys):
    Path("folder").mkdir()
    Path("latin.toml").write_bytes(b'terms = "\xff"')
    Path("list.json").write_text("[1]")
    Path("some.toml").write_text("ways = 3")
    assert guard(discover, options) == 2
    assert_refused(says, capsys)


def test_grids_read_the_same_files(monkeypatch):
    seen = []
    for command in (sweep_command, recover_command):
        monkeypatch.setattr(command, "check_jobs", lambda configs, queue: seen.append(configs))
        monkeypatch.setattr(command, "run_grid", lambda *_, **__: None)
    given = written('episodes = 7\nhidden = [4]\nl1 = 0.7\nseed = 5\nterms = "bio"')
    assert guard(sweep_command.main, [given, "--l1=0.1", "--seeds=1", "--out=a", "--ways=3"]) == 0
    assert guard(recover_command.main, [given, "--rules=1", "--out=b"]) == 0
    (swept,), (planted,) = (list(configs.values()) for configs in seen)
    assert (swept.episodes, swept.hidden, swept.l1, swept.seed, swept.ways) == (7, (4,), 0.1, 0, 3)
    assert (planted.episodes, planted.hidden, planted.seed) == (7, (4,), 5)


def test_results_are_printed_as_data_alone(capsys):
    assert guard(discover, [*SMALL_RUN, "--json", "--out=run"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found.pop("folder") == "run"
    assert found == json.loads(Path("run/summary.json").read_text())
    assert "searching" in said.err
    assert "Discovered rule" not in said.err
