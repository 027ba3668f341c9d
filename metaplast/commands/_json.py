"""The option --json: the result as JSON on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from metaplast.base.coerce import as_json
from metaplast.base.settings import Settings


@dataclass(frozen=True)
class JsonOption(Settings):
    """The option for results that a program reads."""

    GROUP: ClassVar[str] = "run"

    json: bool = False
    """Print the result as JSON on standard output, and everything else on standard error."""


def print_json(data: Mapping[str, Any]) -> None:
    """Print a result as indented JSON; non-finite numbers, which JSON lacks, become null."""
    print(json.dumps(_finite(as_json(data)), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
