"""Every block of README and docs runs: all blocks of a page in order, in one folder, in this process.

Only sizes are made small. Data sets are tiny files of the same layout; `RUN` and its like are small
runs made here.
"""

import contextlib
import io
import os
import shutil
import sys
import tomllib

import documents
import pytest
import tiny_data

from metaplast import commands
from metaplast.base import registry
from metaplast.commands import _benchmark_row, _grid
from metaplast.commands import reproduce as reproduce_command
from metaplast.discovery.config import DiscoveryConfig
from metaplast.online.train import OnlineSettings
from metaplast.report.observer import ReportFiles

pytestmark = pytest.mark.slow

# Sizes that a page may choose otherwise, and sizes that it may not choose.
USUAL = {"hidden": (5,), "ways": 3, "shots": 2, "queries": 2}
ALWAYS = {
    "episodes": 4, "meta_batch": 2, "refit": 0, "validation": 4, "look": 4, "test_episodes": 4,
}  # fmt: skip
BEFORE = {
    "discover": ["--hidden=5", "--ways=3", "--shots=2", "--queries=2", "--quiet"],
    "sweep": ["--hidden=5", "--ways=3", "--shots=2", "--queries=2"],
    "recover": ["--hidden=5", "--ways=3", "--shots=2", "--queries=2"],
    "evaluate": ["--hidden=5"],
    "draw": ["--neurons=5", "--period=20", "--training=2", "--test=1"],
}
AFTER = {
    "sweep": ["--l1=0.01", "--seeds=1", "--processes=1"],
    "recover": ["--rules=1", "--processes=1"],
    "evaluate": ["--samples=4", "--seeds=1", "--test-images=6", "--quiet"],
    "compare": ["--test-episodes=4"],
    "benchmark": ["--steps=2", "--repeats=1", "--episodes=1", "--engines=batched", "--threads=1"],
    "reproduce": ["--quick", "--seeds=1", "--processes=1"],
}
RUNS = ("RUN", "OTHER_RUN", "runs/2026-11-22_12-00-00")


def run(name, arguments):
    """Run a command at small sizes; return what it printed."""
    arguments = [*BEFORE.get(name, ()), *arguments]
    if not {"--help", "--list-terms"} & set(arguments):
        arguments += AFTER.get(name, ()) if name != "reproduce" or arguments else ()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = commands.find([name, *arguments])()
        except SystemExit as end:
            code = end.code or 0
    assert code == 0, (name, arguments, said.getvalue())
    return said.getvalue()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Make every discovery and every training small, and leave out figures and experiments."""
    whole, trained = DiscoveryConfig.__init__, OnlineSettings.__init__

    def discovery(self, *given, **named):
        whole(self, *given, **{**USUAL, **named, **ALWAYS})

    def online(self, records, seeds=1, **named):
        trained(self, tuple(records)[:1], 1, **named)

    monkeypatch.setattr(DiscoveryConfig, "__init__", discovery)
    monkeypatch.setattr(OnlineSettings, "__init__", online)
    monkeypatch.setattr(ReportFiles, "finish", lambda self, result: None)
    # tests/experiments runs every experiment; here their names and options are read.
    monkeypatch.setattr(reproduce_command, "_reproduce", lambda *_: {})


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, compiled_kernel):
    """Return a folder with what pages assume: runs, rule files, and data sets."""
    folder = tmp_path_factory.mktemp("prepared")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        whole = DiscoveryConfig.__init__
        patched.setattr(
            DiscoveryConfig,
            "__init__",
            lambda self, *given, **named: whole(self, *given, **{**USUAL, **named, **ALWAYS}),
        )
        patched.setattr(ReportFiles, "finish", lambda self, result: None)
        run("discover", ["--terms=bio", "--out=RUN"])
        for other in RUNS[1:]:
            shutil.copytree("RUN", other)
        for name in ("rule.json", "my_rule.json"):
            shutil.copy("RUN/rule.json", name)
        recurrent = ["--system=recurrent", "--terms=F0", "--dataset=delayed:digits,show=1,time=3"]
        run("discover", [*recurrent, "--engine=batched", "--out=recurrent_run"])
        tiny_data.write(folder)
    return folder


def install(page, folder):
    """Write the files that a page's blocks are, as a package that the page registers."""
    files = [block for block in documents.blocks(page) if block.file]
    groups: dict[str, dict[str, str]] = {}
    for block in documents.blocks(page):
        if files and block.language == "toml":
            for group, points in tomllib.loads(block.text)["project"]["entry-points"].items():
                groups.setdefault(group, {}).update(points)
    for block in files:
        path = folder / block.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    metadata = folder / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = (
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
        for group, points in groups.items()
    )
    (metadata / "entry_points.txt").write_text("".join(lines))


@pytest.fixture
def workplace(tmp_path, prepared, monkeypatch):
    """Return a fresh folder with what pages assume, in which the test runs."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAPLAST_DATA", str(tmp_path / "DATA"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_found", {})
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


WITH_BLOCKS = [
    page
    for page in documents.PAGES
    if any(b.language in ("sh", "python") and not b.not_run for b in documents.blocks(page))
]


@pytest.mark.parametrize("page", WITH_BLOCKS)
def test_the_blocks_of_a_page_run(page, workplace):
    install(page, workplace)
    names = {"__name__": "page"}
    for block in documents.blocks(page):
        if block.not_run or block.file:
            continue
        if block.language == "python":
            place = f"{page}, line {block.line}"
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("\n" * block.line + block.text, place, "exec"), names)
        if block.language == "sh":
            for words in documents.commands(block):
                if found := documents.ours(words):
                    run(*found)
