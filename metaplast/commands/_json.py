"""The option --json: the result as JSON on standard output, everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from metaplast.base.coerce import finite_json
from metaplast.base.settings import Settings


@dataclass(frozen=True)
class JsonOption(Settings):
    """The option for machine-readable results."""

    GROUP: ClassVar[str] = "run"

    json: bool = False
    """Print the result as JSON on standard output, and everything else on standard error."""


def print_json(data: Mapping[str, Any]) -> None:
    """Print a result as indented JSON; non-finite numbers, which JSON lacks, become null."""
    print(json.dumps(finite_json(data), indent=2, ensure_ascii=False, allow_nan=False))
