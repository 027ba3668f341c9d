"""Files that are either complete or absent: atomic writes, and reads with clear errors."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import itertools
import json
import os
import re
import secrets
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from metaplast.base.errors import UserError
from metaplast.base.strict_json import MAX_BYTES, parse_json

# Name of the lock file; see `metaplast.base.locks`.
LOCK = ".metaplast.lock"
# The pattern of temporary files' names, by which a later command recognises leftovers.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")


class FileError(UserError, OSError):
    """A file that cannot be written: a sentence for the user, and an `OSError` for callers.

    Attributes:
        what: what happened.
        mend: how to fix it.
    """

    what = mend = ""

    @classmethod
    def of(
        cls, path: Path, error: OSError, verb: str = "write", mend: str | None = None
    ) -> FileError:
        """Return the error for a file that cannot be written; for a folder, pass another verb."""
        what, mend = f"cannot {verb} {path}: {error.strerror or error}", mend or remedy(error)
        made = cls(f"{what}; {mend}.")
        made.what, made.mend = what, mend
        made.errno, made.strerror, made.filename = error.errno, error.strerror, str(path)
        return made

    def __str__(self) -> str:
        return str(self.args[0])


def remedy(error: OSError) -> str:
    """Return how to fix a failure to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there"
    if error.errno == errno.ENOENT:
        return "create its folder first"
    return "check the path and its permissions"


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a temporary file and rename it, so that readers never see an incomplete file.

    A symbolic link is followed. Anything but a regular file (a device, a named pipe, standard
    output) is written to and never replaced.

    Raises:
        FileError: if the file cannot be written.
    """
    # Serialise in memory first: if this fails, no partial file is left.
    contents = io.BytesIO()
    write(contents)
    try:
        _put(path, contents.getbuffer())
    except OSError as error:
        raise FileError.of(path, error) from None


def _put(path: Path, contents: memoryview) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        status = None
    if status is not None:
        descriptor = _descriptor(path, status)
        if descriptor is not None or not stat.S_ISREG(status.st_mode):
            with open(path if descriptor is None else descriptor, "wb", buffering=0) as stream:  # noqa: PTH123
                _write_all(stream, contents)
            return
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    _replace(Path(os.path.realpath(path)), contents, status)


def _replace(path: Path, contents: memoryview, old: os.stat_result | None) -> None:
    """Create a new file, or replace a regular one."""
    # `tempfile` would ignore the umask and make files that only their owner may read. Names are
    # cut, because file systems limit their length in bytes.
    name = os.fsdecode(os.fsencode(path.name)[:200])
    temporary = path.with_name(f".{name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        if old is not None:
            temporary.chmod(stat.S_IMODE(old.st_mode))
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _descriptor(path: Path, status: os.stat_result) -> int | None:
    """Return a duplicate of the open file to which a path refers, or None if it refers to none.

    After `--output /dev/stdout > file`, opening the path again would overwrite printed text.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            if os.path.samestat(status, os.fstat(stream.fileno())):
                stream.flush()
                return os.dup(stream.fileno())
    if path.name.isdecimal() and re.fullmatch(r"/proc/\d+/fd", os.path.realpath(path.parent)):
        return os.dup(int(path.name))
    return None


def _write_all(stream: IO[bytes], contents: memoryview) -> None:
    """Write to a device or pipe, which may take only part of the data at a time."""
    while contents:
        contents = contents[stream.write(contents) :]


def is_temporary(name: str) -> bool:
    """Return whether a file name belongs to one of our temporary files."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_temporaries(folder: Path, depth: int = 3) -> None:
    """Remove temporary files that killed processes left in a run folder and its subfolders."""
    for place, below, names in os.walk(folder):
        if len(Path(place).relative_to(folder).parts) >= depth:
            below.clear()
        for name in filter(is_temporary, names):
            with contextlib.suppress(OSError):
                Path(place, name).unlink()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda stream: stream.write(text.encode()))


def write_json(path: Path, data: object) -> None:
    """Write indented JSON atomically; NaN and infinity, which JSON lacks, raise ValueError."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def csv_text(rows: Iterable[Mapping[str, object]]) -> str:
    """Return rows as CSV, one column per key in order of appearance; missing values are empty."""
    rows = list(rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def read_json(path: Path, what: str) -> Any:
    """Return the contents of a JSON file, read strictly; see `strict_json`.

    Raises:
        UserError: if the file cannot be read, is a folder or a pipe, or is not JSON; `what` names
            the expected contents.
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
        # A path with a null character raises ValueError.
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot read {what} from {path}: {reason}; check the path.") from None
    return parse_json(raw, str(path), what)


def read_json_in(folder: Path, name: str, what: str, holds: str, give: str) -> Any:
    """Return the contents of a JSON file that a folder of the expected kind must hold.

    Args:
        folder: the folder that the user gave.
        name: the name of the file.
        what: the expected contents, as for `read_json`.
        holds: what the folder should hold, for instance "run"; the error says that it does not.
        give: what the user should give instead.

    Raises:
        UserError: if the file is missing, cannot be read or is not JSON.
    """
    if not (folder / name).exists():
        raise UserError(f"{folder} holds no {holds} ({name} is missing); give {give}.")
    return read_json(folder / name, what)


def new_folder(out: Path | None, kind: str = "", *, resumable: bool = True) -> Path:
    """Create and return a new, empty run folder: `out`, or runs/KIND-<time>.

    Commands that start in the same second get different folders, because mkdir is atomic.

    Args:
        out: the user's folder, if any.
        kind: the kind of run, used in the name of the folder if `out` is None.
        resumable: whether the command has `--resume`; see `claim_folder`.

    Raises:
        UserError: if `out` is not empty, or nothing can be written there.
    """
    if out is not None:
        claim_folder(out, resumable=resumable)
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


def claim_folder(path: Path, *, resumable: bool = True) -> None:
    """Make `path` an empty run folder; leftover lock and temporary files do not count as contents.

    Args:
        path: the folder.
        resumable: whether the command has `--resume`, which the error then suggests.

    Raises:
        UserError: if the folder is not empty, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        occupied = any(not is_left_over(each) for each in path.iterdir())
    except OSError as error:
        raise _unwritable(path, error) from None
    if occupied:
        resume = f", or continue the run in it with --resume {shlex.quote(str(path))}"
        raise UserError(
            f"the folder {path} is not empty; give --out a new folder{resume if resumable else ''}."
        )


def is_left_over(path: Path) -> bool:
    """Return whether a file is a lock or temporary file of ours, which do not count as contents."""
    return path.name == LOCK or (is_temporary(path.name) and path.is_file())


def _unwritable(path: Path, error: OSError) -> FileError:
    return FileError.of(path, error, "write to the folder", "give --out a writable folder")
