"""The help of every command: as wide as the terminal, in groups, each option once."""

import dataclasses
import importlib
import os
import re
from itertools import pairwise

import pytest

from metaplast.commands import command_names
from metaplast.commands._evaluate_options import EvaluateOptions
from metaplast.commands._groups import ORDER, form_of, options_of
from metaplast.commands.discover import DiscoverOptions, read_options
from metaplast.commands.recover import RecoverOptions
from metaplast.commands.sweep import SweepOptions
from metaplast.discovery.config import PRESETS, DiscoveryConfig


@pytest.fixture
def shown(capsys, monkeypatch):
    """Return a function that gives the lines of a command's help, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def lines(command, word="--help-all"):
        with pytest.raises(SystemExit) as stopped:
            importlib.import_module(f"metaplast.commands.{command}").main([word])
        assert stopped.value.code == 0
        return capsys.readouterr().out.splitlines()

    return lines


def headings(lines):
    """Return the headings of the boxes: in a pipe, a line of dashes is below each."""
    return [above.strip() for above, below in pairwise(lines) if set(below.strip()) == {"-"}]


@pytest.mark.parametrize("word", ["--help", "--help-all"])
@pytest.mark.parametrize("command", command_names())
def test_help_is_as_wide_as_the_terminal_and_says_nothing_empty(shown, command, word):
    lines = shown(command, word)
    assert max(map(len, lines)) <= 80
    assert os.environ["COLUMNS"] == "80"
    text = " ".join(line.strip() for line in lines)
    assert "(default: None)" not in text
    assert "(default: '')" not in text
    assert "STR ..." not in text


@pytest.mark.parametrize(
    ("command", "own"), [("discover", []), ("sweep", ["sweep"]), ("recover", ["recover"])]
)
def test_options_of_a_discovery_are_in_groups(shown, command, own):
    assert headings(shown(command)) == ["options", *(f"{name} options" for name in [*own, *ORDER])]


def test_evaluate_has_the_same_groups_as_far_as_it_needs_them(shown):
    groups = ["task", "network", "rule", "run"]
    expected = ["positional arguments", "options", *(f"{name} options" for name in groups)]
    assert headings(shown("evaluate")) == expected


def test_the_help_shows_every_setting_once_with_its_text(shown):
    text = "\n".join(line.strip() for line in shown("discover"))
    for field in dataclasses.fields(DiscoveryConfig):
        flag = f"--{field.name.replace('_', '-')}"
        assert len(re.findall(rf"^{flag}[ ,]", text, flags=re.MULTILINE)) == 1
    assert all(option.text for option in options_of(DiscoverOptions))


LONG = {
    "discover": DiscoverOptions,
    "sweep": SweepOptions,
    "recover": RecoverOptions,
    "evaluate": EvaluateOptions,
}


@pytest.mark.parametrize("command", LONG)
def test_a_short_help_has_ten_options_and_says_where_the_others_are(shown, command):
    lines, kind = shown(command, "--help"), LONG[command]
    text = "\n".join(line.strip() for line in lines)
    named = {option.name: option for option in options_of(kind)}
    assert len(kind.COMMON) == 10
    for name, option in named.items():
        found = re.findall(rf"^{option.flags[0]}[ ,]", text, flags=re.MULTILINE)
        assert len(found) == (name in kind.COMMON), name
    left = len(named) - 10 - sum(option.is_positional for option in named.values())
    assert f"{left} more options: metaplast {command} --help-all" in text
    assert "common options" in headings(lines)
    assert len(lines) < 45


@pytest.mark.parametrize("command", sorted(set(command_names()) - set(LONG)))
def test_a_command_with_few_options_shows_all_of_them(shown, command):
    assert shown(command, "--help") == shown(command, "-h") == shown(command, "--help-all")


def test_common_options_come_first():
    named = [option.name for option in options_of(DiscoverOptions)]
    first = [named[0]] + [b for a, b in pairwise(named) if group(a) != group(b)]
    assert first == ["dataset", "system", "terms", "preset", "refit", "out"]
    assert [option.name for option in options_of(SweepOptions)][:2] == ["l1", "seeds"]


def group(name):
    """Return the group of an option of `discover`."""
    return next(option.group for option in options_of(DiscoverOptions) if option.name == name)


@pytest.mark.parametrize("command", [DiscoverOptions, RecoverOptions, SweepOptions])
def test_a_run_of_a_command_has_the_options_of_a_discovery(command):
    grid = {"l1", "seed"} if command is SweepOptions else set()
    fields = {field.name for field in dataclasses.fields(DiscoveryConfig)} - grid
    assert fields <= {option.name for option in options_of(command)}


def test_defaults_in_the_help_are_those_of_the_preset():
    defaults = DiscoverOptions(**PRESETS["paper"])
    shown = {option.name: option.default for option in options_of(DiscoverOptions, defaults)}
    assert shown["meta_batch"] == 1
    assert read_options(["--preset=paper"]).meta_batch == 1
    assert read_options(["--preset=paper", "--meta-batch=2"]).meta_batch == 2


def test_a_text_may_be_said_again_by_a_command():
    texts = {option.name: option.text for option in options_of(RecoverOptions)}
    assert "planted rule" in texts["meta_batch"]
    assert texts["queries"] == {o.name: o.text for o in options_of(DiscoverOptions)}["queries"]


def test_a_form_has_a_field_for_each_group_and_each_option_without_one():
    names = [field.name for field in dataclasses.fields(form_of(options_of(EvaluateOptions)))]
    assert names == ["rules", "task", "network", "rule", "run"]
