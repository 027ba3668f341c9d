"""Wherever the library takes a path, it takes text and path objects."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console
from support import Clouds, assert_is_one_sentence, named

import episodes
import metaplast
import rule_library
from metaplast import Discovery, DiscoveryConfig, EpisodeSplit, Rule, discover, open_source
from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.base.errors import UserError
from metaplast.base.paths import as_path
from metaplast.batch_jobs.jobs import Jobs
from metaplast.discovery.run import write_config
from metaplast.discovery.run_folder import RunFiles, load_rule
from metaplast.export.network_choice import open_rule
from metaplast.report.canvas import save_figure
from metaplast.report.observer import ReportFiles
from metaplast.report.page import write_report
from metaplast.report.run import read_run
from metaplast.reproduce.experiment import Setting
from metaplast.reproduce.page import page, write_page
from metaplast.reproduce.runner import Results
from metaplast.reproduce.table import read_rows
from metaplast.tasks.request import EpisodeRequest
from metaplast.watch.tensorboard import TensorBoard

TINY = {
    "terms": "error_hebbian", "hidden": (4,), "ways": 3, "shots": 2, "queries": 2, "episodes": 2,
    "meta_batch": 2, "refit": 0, "look": 4, "validation": 2, "test_episodes": 2, "engine": "fused",
}  # fmt: skip
SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", 6, 3, "clouds")

# Not for users: the file tools and the names of compiled functions, which other modules call with
# path objects, and the readers of data sets, which take their folder from a request.
INNER = (
    "metaplast.base.files", "metaplast.base.paths", "metaplast.base.locks",
    "metaplast.base.source_code", "metaplast.base.strict_json", "metaplast.commands",
    "metaplast.export.check", "metaplast.export._runner", "metaplast.discovery.stages",
    "metaplast.reproduce.meta", "metaplast.reproduce.heldout", "metaplast.reproduce.online",
    "episodes.",
)  # fmt: skip
# Made by a job for its own folder.
OWN = ("metaplast.batch_jobs.jobs.Heartbeat",)


def modules():
    for package in (metaplast, rule_library, episodes):
        yield package
        for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if "formats" not in info.name and "fused" not in info.name:
                yield importlib.import_module(info.name)


def public_functions():
    for module in modules():
        if module.__name__.startswith(INNER):
            continue
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing):
                yield f"{module.__name__}.{name}", thing
            elif inspect.isclass(thing):
                for inner, function in vars(thing).items():
                    function = getattr(function, "__func__", function)
                    # A dataclass converts its fields in __post_init__; tested below.
                    made = inner == "__init__" and hasattr(thing, "__dataclass_fields__")
                    if inspect.isfunction(function) and not made and inner != "prepare":
                        yield f"{module.__name__}.{name}.{inner}", function


def test_no_public_function_takes_path_objects_only():
    stubborn, functions = [], list(public_functions())
    assert len(functions) > 100
    for name, function in functions:
        for parameter in inspect.signature(function).parameters.values():
            written = parameter.annotation if isinstance(parameter.annotation, str) else ""
            takes = "Path" in written.replace("AnyPath", "") and "Callable" not in written
            if takes and not name.startswith(OWN):
                stubborn.append(f"{name}({parameter.name})")
    assert not stubborn


@pytest.fixture(params=[str, Path], ids=["text", "path"])
def run(request, tmp_path):
    """The folder of a finished run, as text or as a path object."""
    folder = request.param(tmp_path / "made" / "run")
    discover(DiscoveryConfig(**TINY), split=SPLIT, folder=folder)
    return folder


@pytest.mark.slow
def test_all_that_reads_and_writes_a_run_takes_text(run):
    kind = type(run) if isinstance(run, str) else Path
    rule = load_rule(run)
    assert open_rule(run) == rule
    assert open_rule(kind(f"{run}/rule.json")) == rule
    assert Rule.load(kind(f"{run}/rule.json")) == rule
    rule.save(kind(f"{run}/again.json"))
    assert Discovery.resume(run, split=SPLIT).run().rule == rule
    assert Discovery.in_folder(DiscoveryConfig(**TINY), run, split=SPLIT).folder == Path(run)
    assert read_run(run).rule == rule
    assert write_report(run).is_file()
    write_config(run, DiscoveryConfig(**TINY))
    for observer in (RunFiles(run), TensorBoard(run), ReportFiles(run, Console(quiet=True))):
        assert observer._folder.is_relative_to(run)
    save_checkpoint(kind(f"{run}/a.pt"), {"x": torch.ones(2)})
    assert list(load_checkpoint(kind(f"{run}/a.pt"))) == ["x"]
    save_figure(Figure(figsize=(1, 1)), kind(f"{run}/figures/mine"))
    assert (Path(run) / "figures" / "mine.svg").is_file()
    Jobs(run, {"one": DiscoveryConfig(**TINY)}).save()
    assert Jobs.load(run)[0].folder == Path(run)
    assert Results(run, Setting(data_root=run)).folder == Setting(data_root=run).data_root
    write_page(run)
    assert (Path(run) / "README.md").read_text(encoding="utf-8") == page(run)
    Path(run, "rows.csv").write_text("a\n1\n", encoding="utf-8")
    assert read_rows(kind(f"{run}/rows.csv")) == [{"a": 1.0}]


def test_a_data_root_may_be_text(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        open_source("mnist", EpisodeRequest(data_root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("path", ["", 3, None, b"rule.json", "a\0b", ["rule.json"]], ids=repr)
def test_what_is_no_path_is_refused_in_one_sentence(path):
    for use in (Rule.load, Rule(named("oja"), ((1.0,),), "fixed").save, load_rule, as_path,
                Discovery.resume, write_report):  # fmt: skip
        with pytest.raises(UserError, match="must be a path") as caught:
            use(path)
        assert_is_one_sentence(caught.value)
