"""A user's strictly typed project sees the types of metaplast; versions agree."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = '''\
"""A small research project."""

import torch

import episodes
from metaplast import (
    DiscoveryConfig, FullyConnected, Learner, Rule, RuleOptimizer, Term, discover, get_term, outer,
    post, pre, unroll,
)
from metaplast.export import export_rule, get_exporter


def terms() -> tuple[Term, ...]:
    return get_term("F0"), Term("mine", outer(post.activity, pre.activity), "mine")


def gradient(theta: torch.Tensor, draw: torch.Generator) -> torch.Tensor | None:
    learner = Learner.on_stack(FullyConnected((64, 10)), "fixed", terms())
    source = episodes.from_tensors(torch.rand(60, 64), torch.arange(60) % 3)
    tasks = source.split(DiscoveryConfig(ways=3, shots=2, queries=2).request)
    return unroll(learner, theta, learner.draw(1, draw), tasks.train.sample(1, draw)).theta_gradient


def found(config: DiscoveryConfig) -> Rule:
    return discover(config, terms=list(terms())).rule


def trained(model: torch.nn.Sequential, rule: Rule) -> str:
    RuleOptimizer(model, rule).step(3)
    return export_rule(rule, FullyConnected((64, 10)), get_exporter("numpy")).text
'''
# Each is an error only if types are seen: otherwise everything is Any.
MISTAKES = """
number: int = found(DiscoveryConfig()).equation()
wrong: str = FullyConnected((64, 10)).widths
learner = Learner.on_stack(FullyConnected((64, 10)), "fixed", terms())
tensor: str = learner.draw(1, torch.Generator()).weights[0]
"""
# Two thirds of the time would go into packages that torch uses, which do not affect our types.
CONFIG = """
[mypy]
strict = true
[mypy-{}]
follow_imports = skip
"""
SKIPPED = (
    *(f"torch.{name}.*" for name in (
        "_decomp", "_dynamo", "_export", "_functorch", "_higher_order_ops", "_inductor",
        "_library", "_native", "_numpy", "_prims", "_prims_common", "_refs", "_strobelight",
        "_subclasses", "_vendor", "ao", "backends", "cuda", "distributed", "distributions",
        "export", "fx", "jit", "masked", "multiprocessing", "onnx", "package", "profiler",
        "quantization", "testing", "utils", "xpu",
    )),
    *("PIL.*", "filelock.*", "matplotlib.*", "pyparsing.*"),
)  # fmt: skip


def test_every_package_says_that_it_is_typed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
    for package in packages["targets"]["wheel"]["packages"]:
        assert (ROOT / package / "py.typed").exists(), package


@pytest.mark.slow
def test_a_strict_project_is_checked_against_the_types(tmp_path):
    (tmp_path / "good.py").write_text(PROJECT, encoding="utf-8")
    (tmp_path / "bad.py").write_text(PROJECT + MISTAKES, encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(CONFIG.format(",".join(SKIPPED)), encoding="utf-8")
    installed = tmp_path / "installed"
    installed.mkdir()
    for package in ("metaplast", "rule_library", "episodes"):
        shutil.copytree(
            ROOT / package, installed / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    # As in installed packages, names without types are Any.
    program = (
        "import sys, mypy.modulefinder as finder; from mypy.main import main; "
        "real = finder.get_search_dirs; "
        "more = lambda paths: (paths[0], "
        f"[{str(installed)!r}, *paths[1]]); "
        "finder.get_search_dirs = lambda *given: more(real(*given)); "
        "main(clean_exit=True)"
    )
    done = subprocess.run(
        [
            sys.executable, "-c", program, "--config-file=mypy.ini", "--no-error-summary",
            f"--cache-dir={ROOT / '.pytest_cache' / 'mypy'}", "good.py", "bad.py",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = PROJECT.count("\n")
    places = re.findall(r"^(\w+\.py):(\d+): error: .*\[assignment\]$", done.stdout, re.MULTILINE)
    assert places == [("bad.py", str(lines + line)) for line in (2, 3, 5)], done
    assert done.stdout.count("error:") == 3, done.stdout


def test_the_citation_has_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {version}\n" in citation
