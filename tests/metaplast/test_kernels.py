"""A compiled kernel on disk is never older than a file that its code comes from."""

import ast
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from metaplast.engines.fused import jit, unroll
from metaplast.engines.fused_recurrent import jit as recurrent_jit
from metaplast.engines.fused_recurrent import unroll as recurrent_unroll

KERNELS = {"fused": (jit, unroll), "fused_recurrent": (recurrent_jit, recurrent_unroll)}


def compiled_files(function, found):
    """Add the files of a compiled function and of all that it calls."""
    code, names = function.__code__, function.__globals__
    if code in found:
        return
    found[code] = Path(code.co_filename)
    for name in code.co_names:
        called = names.get(name)
        if hasattr(called, "py_func"):
            compiled_files(called.py_func, found)
        elif hasattr(called, "_defn"):  # Written as vector code, under this name.
            found[name] = next(
                Path(module.__file__)
                for where, module in list(sys.modules.items())
                if where.startswith("metaplast.")
                and vars(module).get(name) is called
                and name not in imported_by(module)
            )


def imported_by(module):
    """Return the names that a module imports from others."""
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {alias.asname or alias.name for node in nodes for alias in node.names}


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_file_of_a_kernel_decides_its_name(kernel):
    compiler, module = KERNELS[kernel]
    found, sources = {}, compiler._kernel._sources
    compiled_files(module.run_episode.py_func, found)
    files = set(found.values())
    assert {"lanes.py", "forward.py", "backward.py"} <= {path.name for path in files}
    assert len(files) > 6
    for path in files:
        assert any(path == source or path.parent == source for source in sources), path


def test_a_changed_file_gives_another_name(tmp_path):
    def run():
        """Do nothing."""

    names = []
    for text in ("a", "b", "a"):
        (tmp_path / "code.py").write_text(text)
        kernel = jit.Kernel(frozenset(), tmp_path)
        run.__qualname__ = "run"
        kernel.entry_point(run)
        names.append(run.__qualname__)
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize("to", ["same", "other"])
def test_two_that_need_the_same_kernel_compile_it_once(tmp_path, monkeypatch, capsys, to):
    begun, second_is_there = threading.Event(), threading.Event()
    on_disk, compiled = set(), []

    class Waits(str):
        """The line of one who waits; printing it is seen."""

        def __str__(self):
            second_is_there.set()
            return super().__str__()

    def compile_to(_module, *names):
        compiled.append(names)
        if len(compiled) == 2:
            second_is_there.set()
        begun.set()
        # The second one waits for this one, or compiles something else.
        assert second_is_there.wait(20)
        on_disk.add(names)

    def need(*names):
        kernel = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
        jit.load(kernel, lambda: names, "module", *names)
        assert names in on_disk

    monkeypatch.setattr(jit, "_WAIT", Waits("waiting"))
    monkeypatch.setattr(jit, "_loads", lambda _, call: call() in on_disk)
    monkeypatch.setattr(jit, "run_module", compile_to)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(need, "same")
        assert begun.wait(20)
        second = pool.submit(need, to)
        first.result(), second.result()
    assert compiled == ([("same",)] if to == "same" else [("same",), ("other",)])
    assert capsys.readouterr().err.count("waiting") == (to == "same")


def test_a_kernel_that_another_process_finished_just_before_is_not_compiled(tmp_path, monkeypatch):
    answers = [False, True]  # Not on disk at first, but once this process holds the lock.
    kernel = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(jit, "_loads", lambda *_: answers.pop(0))
    monkeypatch.setattr(jit, "run_module", pytest.fail)
    jit.load(kernel, pytest.fail, "module", "same")
    assert not answers
