"""Files that are either whole or not there: atomic writes, and reads that explain themselves."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from metaplast.errors import UserError
from metaplast.strict_json import MAX_BYTES, parse_json


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file through a temporary one beside it, so that a reader never sees half of it."""
    # Not `tempfile`, whose files none but their owner may read, whatever the umask.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, data: object) -> None:
    """Write indented JSON atomically; NaN and infinity, which JSON lacks, are an error."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def csv_text(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as CSV, a column for each key in the order of appearance; what lacks is empty."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read_json(path: Path, what: str) -> Any:
    """Return the contents of a JSON file, read strictly: see `strict_json`.

    Raises:
        UserError: if the file cannot be read, is a folder or a pipe, or is not JSON; `what` says
            what was expected.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise UserError(f"cannot read {what} from {path}: it is {kind}; give a file.")
        if status.st_size > MAX_BYTES:
            raise UserError(
                f"{path} should hold {what}, but has {status.st_size} bytes, more than any such "
                f"file; check the path."
            )
        raw = path.read_bytes()
    except (OSError, ValueError) as error:
        # A path with a null character is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read {what} from {path}: {reason}; check the path.") from None
    return parse_json(raw, str(path), what)


def new_folder(out: Path | None, kind: str = "") -> Path:
    """Return an empty folder of our own: `out`, or runs/KIND-<time>.

    Commands that start in the same second get different ones: making a folder is atomic.

    Raises:
        UserError: if `out` holds something already, or nothing can be written there.
    """
    if out is not None:
        claim_folder(out)
        return out
    name = f"{kind}{'-' if kind else ''}{datetime.now():%Y-%m-%d_%H-%M-%S}"
    path, numbers = Path("runs") / name, itertools.count(2)
    while True:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            path = path.with_name(f"{name}-{next(numbers)}")
        except OSError as error:
            raise _unwritable(path, error) from None
        else:
            return path


def claim_folder(path: Path) -> None:
    """Make `path` an empty folder of our own.

    Raises:
        UserError: if it holds something already, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = any(path.iterdir())
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _unwritable(path, error) from None
    if occupied:
        raise UserError(
            f"the folder {path} is not empty; give --out a new folder, or continue the run in it "
            f"with --resume {path}."
        )


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write to the folder {path}: {error.strerror}; give --out a writable folder."
    )
