"""Imports run one way, the engine knows no term or data set by name, and importing it is light."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import LIGHT, TERMS

import metaplast
import metaplast.base.seeds
from metaplast.tasks.library import all_sources
from metaplast.terms.library import all_terms, known_rules

ROOT = Path(metaplast.__file__).parents[1]


def files_of(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """Return the dotted names that a file imports, with the names taken from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from ((node.module, alias.name) for alias in node.names)


OURS = {"metaplast", "rule_library", "episodes", "scripts", "tests", "support"}
MAY_IMPORT = {
    "metaplast": {"metaplast"},
    "rule_library": {"metaplast", "rule_library"},
    "episodes": {"metaplast", "episodes"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_one_way(package):
    files = files_of(package)
    assert files
    for path in files:
        roots = {module.partition(".")[0] for module, _ in imported(path)}
        assert roots & OURS <= MAY_IMPORT[package], path


@pytest.mark.parametrize("package", ["rule_library", "episodes"])
def test_libraries_use_only_public_names(package):
    files = files_of(package)
    assert files
    for path in files:
        for module, name in imported(path):
            if module.partition(".")[0] == "metaplast":
                parts = [*module.split("."), name or ""]
                assert not any(part.startswith("_") for part in parts), path


def literals(path):
    """Yield every string in a file; a docstring is one too, but never a bare name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_the_engine_names_no_term_rule_or_data_set():
    names = {*all_terms(), *known_rules(), *all_sources()}
    names |= {alias for term in TERMS for alias in term.aliases}
    found = [
        f"{path.name}:{line} {text!r}"
        for path in files_of("metaplast")
        for line, text in literals(path)
        if text in names
    ]
    assert not found


HEAVY = (
    "numba",
    "higher",
    "learn2learn",
    "tensorboard",
    "torch.utils.tensorboard",
    "torchvision",
    "matplotlib",
    "scipy",
    "latex2mathml",
)


MODULES = ("metaplast", "metaplast.discovery.run", "metaplast.commands", "metaplast.engines.fused")


@pytest.mark.slow
def test_importing_loads_nothing_heavy():
    program = (
        "import sys, importlib\n"
        f"for module in {MODULES!r}:\n"
        "    importlib.import_module(module)\n"
        f"    print(*(heavy for heavy in {HEAVY!r} if heavy in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    assert dict(zip(MODULES, done.stdout.splitlines(), strict=True)) == dict.fromkeys(MODULES, b"")


def test_the_list_of_commands_loads_no_torch():
    program = "import sys; from metaplast.commands import main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert b"torch" not in done.stdout.split()
    # Names that need torch are loaded on first use.
    assert metaplast.base.generator is metaplast.base.seeds.generator
    with pytest.raises(AttributeError, match="no attribute 'generators'"):
        _ = metaplast.base.generators


def test_small_scripts_of_tests_load_no_torch():
    program = LIGHT + "import metaplast.base.family, metaplast.base.locks; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert b"torch" not in done.stdout.split()


@pytest.mark.parametrize("name", metaplast.__all__)
def test_a_public_name_is_a_thing_not_a_module(name):
    assert not isinstance(getattr(metaplast, name), ModuleType)


def test_a_term_can_be_written_with_public_names_alone():
    from metaplast import B, Term, W, dot, outer, post, pre, total

    gate = total(post.error) * (dot(W.T @ post.error, pre.activity) * outer(post.one, pre.one))
    assert Term("mine", gate - W, "made up").locality == "non-local"
    assert Term("mine", -B, "made up").is_backward
