"""Two workers share two cores: each, and every process it starts, takes one."""

import contextlib
import gc
import hashlib
import importlib.metadata
import io
import os
import sys
from pathlib import Path

import pytest

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ

if IS_WORKER:
    # Before torch is imported, which reads it once.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A thread of torch that waits would burn a core that the other worker needs. Read like the first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# JAX compiles for seconds what runs for milliseconds here. It reads this when it is imported.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# It does not compile again what another worker, process or run has compiled.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

if sys.dont_write_bytecode:
    # Nothing is written beside the sources. But without bytecode anywhere, each of the many
    # processes that tests start would compile everything that it imports.
    bytecode = Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(bytecode))
    sys.dont_write_bytecode = False


OF_THE_KERNEL = ("test_fused.py", "test_fused_traces.py")
# Modules with tests of many seconds. Such a test that begins last would leave one worker idle.
# Those of the fused kernel follow each other: two workers never wait for one compilation.
LONG = (
    "test_planted_rules.py", *OF_THE_KERNEL, "test_kills.py", "test_examples.py",
    "test_code_exports.py",
)  # fmt: skip
ROOT = Path(__file__).parents[1]
# The numbers of a first run of the fused kernel depend on these, besides installed packages.
KERNEL_SOURCES = (
    *("metaplast/base", "metaplast/engines", "metaplast/systems", "metaplast/tasks"),
    *("metaplast/scans", "metaplast/terms", "rule_library", "tests/support.py"),
)


@pytest.hookimpl(tryfirst=True)  # Before `-m` chooses tests.
def pytest_collection_modifyitems(items):
    """Mark tests as slow by what they need, and begin with the modules that have the longest tests.

    JAX takes seconds to load, and each of its operations is compiled when it is first used.
    The fused kernel is compiled once more for networks that relax.
    """
    for item in items:
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        given = [value for value in params if isinstance(value, str)]
        relaxes = any(value.startswith("predictive-coding") for value in given)
        if "jax" in given or (relaxes and item.path.name in OF_THE_KERNEL):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish():
    """Let the garbage collector skip objects that stay to the end: all tests and all modules."""
    gc.freeze()


@pytest.fixture(scope="session")
def compiled_kernel(tmp_path_factory, request):
    """Load the fused kernels, for single and double precision; compile what is not on disk.

    That of recurrent networks is loaded only if their tests run.

    Two workers never compile the same: one begins with single precision, one with double. What the
    run that compiled it for single precision computed is kept in a file, whose path is returned: a
    test compares it with later runs, and need not compile a kernel of its own. The file is there as
    long as nothing changes that the numbers depend on.
    """
    import torch
    from filelock import FileLock
    from support import KERNEL, named, random_problem

    from metaplast.engines.fused import FusedEngine

    # The base of a worker lies in that of the run.
    folder = tmp_path_factory.getbasetemp()
    precisions = ["float32", "float64"]
    if IS_WORKER:
        folder = folder.parent
        precisions = precisions[:: 1 if os.environ["PYTEST_XDIST_WORKER"] == "gw0" else -1]
    first = first_run()
    recurrent = any("recurrent" in item.path.name for item in request.session.items)
    for precision in precisions:
        with FileLock(folder / f"{precision}.lock"):
            said, numbers = io.StringIO(), io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(numbers):
                if precision == "float32":
                    exec(KERNEL, {})
                else:
                    problem = random_problem(named("error_hebbian"), dtype=torch.float64)
                    FusedEngine().run(problem)
                if IS_WORKER and recurrent:
                    from systems.fused_recurrent_example import fused
                    from systems.fused_recurrent_example import problem as of_recurrent

                    from metaplast.engines import get_engine

                    given = of_recurrent(dtype=getattr(torch, precision))
                    fused(given)
                    get_engine("batched").run(given)  # Its scans are compiled too.
            if precision == "float32" and "compiling" in said.getvalue():
                first.parent.mkdir(exist_ok=True)
                first.write_text(numbers.getvalue())
    return first


def first_run():
    """Return the path that keeps what the first run with the kernel of these sources computed."""
    from llvmlite import binding

    digest = hashlib.sha256((sys.version + binding.get_host_cpu_name()).encode())
    for name in ("llvmlite", "numba", "numpy", "torch"):
        digest.update(importlib.metadata.version(name).encode())
    for source in KERNEL_SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return ROOT / ".pytest_cache" / f"first-run-{digest.hexdigest()[:16]}.txt"


@pytest.fixture(scope="session", autouse=True)
def _kernel_is_compiled_once(request):
    """Compile before the first test of a worker: most workers need the kernel sooner or later."""
    if IS_WORKER:
        request.getfixturevalue("compiled_kernel")
