"""Run generated code in a separate process: `python -E -P _runner.py FOLDER`.

The folder holds exported.py, driver.py and start0.npz, start1.npz …; end0.npz … are written to it.
Then the code is tested with inputs that it must refuse.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np


def load(path: Path) -> ModuleType:
    """Return the module in a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def run(folder: Path) -> None:
    """Learn the examples from every start and write the final state of each."""
    driver = load(folder / "driver.py")
    code = load(folder / "exported.py")
    for path in sorted(folder.glob("start*.npz")):
        with np.load(path, allow_pickle=False) as saved:
            data = dict(saved)
        groups = {
            kind: [data[f"{kind}{k}"] for k in range(len(data)) if f"{kind}{k}" in data]
            for kind in ("weights", "feedback")
        }
        matrices = groups["weights"], groups["feedback"]
        end = driver.drive(code, *matrices, data["images"], data["labels"])
        named = {f"matrix{k}": np.asarray(matrix) for k, matrix in enumerate(end)}
        np.savez(folder / path.name.replace("start", "end"), **named)  # type: ignore[arg-type]
    if hasattr(driver, "mistakes"):
        require_refused(driver.mistakes(code, *matrices, data["images"][0]))


def require_refused(mistakes: Mapping[str, Callable[[], object]]) -> None:
    """Raise `AssertionError` unless the code raises ValueError or TypeError for each mistake."""
    for name, make in mistakes.items():
        try:
            make()
        except (ValueError, TypeError):
            continue
        except Exception as error:
            raise AssertionError(f"{name} ends in {type(error).__name__}: {error}") from error
        raise AssertionError(f"it accepts {name}")


if __name__ == "__main__":
    # The code must be self-contained: importing metaplast is an error here.
    sys.modules["metaplast"] = None  # type: ignore[assignment]
    run(Path(sys.argv[1]))
