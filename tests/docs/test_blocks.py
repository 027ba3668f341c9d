"""Every block of README and docs runs: all blocks of a page, in order, in one folder.

Only sizes are made small. Data sets are tiny files of the same layout; `RUN` and its like are small
runs made here. Nothing starts a process: the runs of a sweep, the rows of a benchmark and the seeds
of an experiment are computed here. Figures are empty, and exported programs are not run once more.
Other tests are about these two.
"""

import contextlib
import dataclasses
import io
import shutil
import sys
import tomllib
from types import MappingProxyType

import documents
import pytest
import tiny_data
from matplotlib.figure import Figure

from episodes.delayed import Delayed
from metaplast import commands
from metaplast.base import registry
from metaplast.batch_jobs.queue import Queue
from metaplast.commands import _benchmark_row, benchmark
from metaplast.discovery.config import DiscoveryConfig
from metaplast.export import export
from metaplast.online.train import OnlineSettings
from metaplast.report.observer import ReportFiles
from metaplast.reproduce.experiment import all_experiments
from metaplast.reservoirs import drawing
from metaplast.reservoirs.network import Dynamics, Schedule

pytestmark = [
    pytest.mark.slow,
    # higher, when Python first compiles it.
    pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning"),
]

# Default sizes, which a page may override, and sizes that it may not override.
USUAL = {"hidden": (5,), "ways": 5, "shots": 2, "queries": 2}
ALWAYS = {
    "episodes": 4, "meta_batch": 2, "refit": 0, "validation": 4, "look": 4, "test_episodes": 4,
}  # fmt: skip
BEFORE = {
    "discover": ["--hidden=5", "--shots=2", "--queries=2", "--quiet"],
    "evaluate": ["--hidden=5", "--baselines=none"],
    "draw": ["--neurons=5", "--period=20", "--training=2", "--test=1"],
    "sweep": ["--hidden=5", "--shots=2", "--queries=2"],
    "recover": ["--hidden=5", "--shots=2", "--queries=2"],
}
AFTER = {
    "evaluate": ["--samples=4", "--seeds=1", "--test-images=6", "--quiet"],
    "compare": ["--test-episodes=4"],
    "sweep": ["--l1=0.01", "--seeds=2"],
    "recover": ["--rules=1"],
    "reproduce": ["--quick", "--seeds=1"],
    "benchmark": ["--repeats=1", "--episodes=1", "--steps=5"],
}
RUNS = ("RUN", "OTHER_RUN", "runs/2026-11-22_12-00-00")


def brief(word):
    """Return the name of a short experiment for that of any: tests/experiments runs them all."""
    return "feedback-alignment" if word in all_experiments() else word


def run(name, arguments):
    """Run a command at small sizes."""
    arguments = [*BEFORE.get(name, ()), *arguments]
    if "--help" not in arguments:
        arguments += AFTER.get(name, ())
    if name == "reproduce":
        arguments = [brief(word) for word in arguments]
    if "recordings" in arguments:
        arguments += ["--inputs=4", "--neurons=2", "--trials=10", "--epochs=1"]
    elif name == "benchmark":
        arguments.append(f"--engines={'batched' if 'recurrent' in arguments else 'fused'}")
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = commands.find([name, *arguments])()
        except SystemExit as end:
            code = end.code or 0
    assert code == 0, (name, arguments, said.buffer.getvalue().decode())


def is_small(settings):
    """Return the settings of a discovery with small sizes; regression has no classes."""
    usual = USUAL if settings.get("objective") != "mse" else {**USUAL, "ways": 0}
    usual = {key: value for key, value in usual.items() if value}
    return {**usual, **settings, **ALWAYS}


def measured(case):
    """Measure a row of a benchmark on one thread, in this process."""
    return _benchmark_row.measure(dataclasses.replace(case, threads=1))


def empty(figure, stream, *, format, **options):
    """Write an empty figure."""
    stream.write("<svg ></svg>" if format == "svg" else b"")


def make_small(monkeypatch):
    """Make every discovery small, without figures."""
    whole = DiscoveryConfig.__init__

    def discovery(self, *given, **named):
        whole(self, *given, **is_small(named))

    monkeypatch.setattr(DiscoveryConfig, "__init__", discovery)
    monkeypatch.setattr(ReportFiles, "finish", lambda self, result: None)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Make everything small, in this process."""
    make_small(monkeypatch)
    trained = OnlineSettings.__init__

    def online(self, records, seeds=5, *given, **named):
        few = tuple(record for record in records if record <= 4)
        trained(self, few if any(few) else (0, 2), min(seeds, 2), *given, **named)

    monkeypatch.setattr(OnlineSettings, "__init__", online)
    # The shipped task has 50 time steps.
    monkeypatch.setattr(Delayed, "settings", MappingProxyType({"show": 1, "time": 4}))
    monkeypatch.setattr(drawing, "Schedule", lambda: Schedule(20, 2, 1, lag=2))
    monkeypatch.setattr(drawing, "Dynamics", lambda: Dynamics(5))
    # Figures take most of the time, and tests/report is about them.
    monkeypatch.setattr(Figure, "savefig", empty)
    monkeypatch.setattr(export, "check", lambda *_: None)
    monkeypatch.setattr(Queue, "_is_here", True)
    monkeypatch.setattr(benchmark, "measure_apart", measured)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, compiled_kernel):
    """Return a folder with what pages assume: runs, rule files, and data sets."""
    folder = tmp_path_factory.mktemp("prepared")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        make_small(patched)
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
    for path in prepared.iterdir():
        if path.name in ("DATA", "pets"):
            (tmp_path / path.name).symlink_to(path)
        elif path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
        else:
            shutil.copy(path, tmp_path)
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
