"""Strict JSON reading: unique names, finite numbers, bounded nesting; errors of one sentence."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from metaplast.base.errors import UserError

# Far above the largest file that we write, far below one that would exhaust the memory.
MAX_BYTES = 2**28


class _InvalidError(ValueError):
    """Invalid JSON that Python's json module would accept."""


def parse_json(raw: bytes, name: str, what: str) -> Any:
    """Return the value in a JSON text in UTF-8, UTF-16 or UTF-32.

    Args:
        raw: the text's bytes; a byte order mark is skipped.
        name: the name of the text, such as a path, for messages.
        what: the expected contents, for messages.

    Raises:
        UserError: if the text is not JSON, has a name twice or a number that is not finite, or is
            nested too deep.
    """
    try:
        text = raw.decode(json.detect_encoding(raw))
        data = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
        if "\\ud" in text.lower():
            # json accepts half a surrogate pair, but writing it again would fail.
            json.dumps(data, ensure_ascii=False).encode()
    except _InvalidError as error:
        raise UserError(
            f"{name} should hold {what} as JSON, but {error}; fix the file, or write it again."
        ) from None
    except RecursionError:
        raise UserError(
            f"{name} should hold {what}, but its JSON is nested too deep; write it again."
        ) from None
    except UnicodeError:
        raise UserError(
            f"{name} should hold {what} as JSON, but is not UTF-8 text; save it as UTF-8."
        ) from None
    except ValueError as error:
        place = ""
        if isinstance(error, json.JSONDecodeError):
            place = f" (line {error.lineno}, column {error.colno})"
        raise UserError(
            f"{name} should hold {what} as JSON, but is not JSON{place}; was it cut short?"
        ) from None
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _InvalidError(f"it has {key[:80]!r} twice")
            seen.add(key)
    return found


def _no_constant(word: str) -> NoReturn:
    raise _InvalidError(f"it has {word}, which is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _InvalidError(f"it has {digits[:40]}, which is too large a number")
    return value


def _whole(digits: str) -> int:
    # Longer numbers do not fit a float, and Python refuses to parse integers of over 4300 digits.
    if len(digits) > 300:
        raise _InvalidError(f"it has a whole number of {len(digits)} digits")
    return int(digits)
