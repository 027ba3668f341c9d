"""Folders of metaplast import only folders below them, and the drawing shows what they import."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "draw_house.py"


def loaded():
    spec = importlib.util.spec_from_file_location("draw_house", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_folder_imports_only_folders_below_it():
    house = loaded()
    floors = list(house.FLOORS)
    imported = house.folder_imports()
    assert any(imported.values())
    for folder, others in imported.items():
        assert others <= set(floors[: floors.index(folder)]), folder


def test_every_folder_is_a_floor():
    folders = {path.parent.name for path in SCRIPT.parents[1].glob("metaplast/*/__init__.py")}
    assert folders == set(loaded().FLOORS)


@pytest.mark.slow
def test_the_drawing_is_up_to_date():
    assert loaded().main(["--check"]) == 0
