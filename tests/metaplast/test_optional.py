"""A package that is missing is asked for with the extra that installs it."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from support import refusal

from metaplast.base.optional import optional

ROOT = Path(__file__).parents[2]


def asked_for():
    """Yield the package and the extra of each call in the code."""
    for folder in ("metaplast", "rule_library", "episodes"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional":
                    yield tuple(ast.literal_eval(given) for given in node.args[:2])


@pytest.mark.slow
def test_each_package_is_in_the_extra_that_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    offered = {
        (re.match(r"\w+", line).group(), f"metaplast[{extra}]")
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
    }
    found = set(asked_for())
    assert {package for package, _ in found} == {"cma", "h5py", "pynwb", "ray"}
    assert found <= offered


def test_a_missing_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    start = "this needs the package h5py, which is not installed; install metaplast[x]"
    given = ("h5py", "metaplast[x]", "this needs")
    assert refusal(optional, *given, "use that") == f"{start}, or use that."
    assert refusal(optional, *given) == f"{start}."


def test_a_package_that_is_there_is_returned(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", sys)
    assert optional("h5py", "metaplast[hdf5]", "this needs") is sys
