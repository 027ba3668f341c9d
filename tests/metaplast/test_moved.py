"""Modules keep their old names for one release, with a warning."""

import importlib
import subprocess
import sys
import warnings

import pytest

import metaplast
from metaplast._moved import _CLASSES, MOVED


@pytest.fixture(autouse=True)
def _function_stays(monkeypatch):
    """Importing the module `unroll` hides the function: put it back."""
    monkeypatch.setattr(metaplast, "unroll", metaplast.unroll)


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_gives_what_moved_and_warns(old):
    if "." in old:
        # Its package warns too, the first time.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module(f"metaplast.{old.partition('.')[0]}")
    sys.modules.pop(f"metaplast.{old}", None)
    with pytest.warns(DeprecationWarning, match=rf"metaplast\.{old} moved to metaplast\."):
        module = importlib.import_module(f"metaplast.{old}")
    for new in MOVED[old]:
        moved = vars(importlib.import_module(f"metaplast.{new}"))
        for name, value in moved.items():
            if not name.startswith("_"):
                assert hasattr(module, name)
                assert getattr(module, name) is value or len(MOVED[old]) > 1


@pytest.mark.slow
def test_the_warning_names_the_line_that_imports():
    program = "import warnings\nwarnings.simplefilter('error')\nfrom metaplast.rule import Rule\n"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "DeprecationWarning: metaplast.rule moved to metaplast.rules.rule" in done.stderr


def test_the_old_module_that_hides_a_function_can_be_called_as_it():
    sys.modules.pop("metaplast.unroll", None)
    with pytest.warns(DeprecationWarning, match="moved to"):
        module = importlib.import_module("metaplast.unroll")
    with pytest.raises(metaplast.UserError, match="an unroll takes a learner"):
        module(None, None, None, None)


def test_what_was_never_there_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("metaplast.nonsense")


def test_a_folder_left_by_the_old_version_hides_nothing(tmp_path, monkeypatch):
    (tmp_path / "trust" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(metaplast, "__path__", [*metaplast.__path__, str(tmp_path)])
    sys.modules.pop("metaplast.trust", None)
    with pytest.warns(DeprecationWarning, match="moved to"):
        assert importlib.import_module("metaplast.trust").Backtracking


@pytest.mark.parametrize("old", _CLASSES)
def test_a_class_with_another_name_keeps_its_old_one_in_its_old_module(old):
    sys.modules.pop(f"metaplast.{old}", None)
    with pytest.warns(DeprecationWarning, match="moved to"):
        module = importlib.import_module(f"metaplast.{old}")
    for before, now in _CLASSES[old].items():
        assert getattr(module, before) is getattr(module, now)
