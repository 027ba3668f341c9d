"""Locks, so that two processes never write to the same run, or compile the same code at once.

A process that is killed frees its locks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from metaplast.base.errors import UserError
from metaplast.base.files import LOCK, FileError, remove_temporaries

try:
    import fcntl
except ImportError:  # Windows: folders are not locked there.
    fcntl = None  # type: ignore[assignment]

# The locks that this process holds: how many times each is held, and by which thread.
_held: dict[str, tuple[int, int]] = {}
_changing = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)
# Errors of file systems without locks; an unlocked run is better than none.
_LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_BUSY = (errno.EAGAIN, errno.EACCES)


@contextmanager
def locked(folder: Path, *, patience: float = 0.0, make: bool = False) -> Iterator[Path]:
    """Hold a folder, and remove the temporary files that a killed process left in it.

    A thread may lock a folder again that it already holds. The lock ends with the process, even
    after `kill -9`. On file systems without locks, and on Windows, nothing is locked.

    Args:
        folder: the folder to hold; the context returns it.
        patience: seconds to wait for a process that is about to end.
        make: whether to make the folder if it does not exist.

    Raises:
        UserError: if another process or thread holds the folder, or it cannot be written.
    """
    key, me = os.path.realpath(folder), threading.get_ident()
    with _changing:
        count, holder = _held.get(key, (0, me))
        if holder != me:
            raise _in_use(folder, {"pid": os.getpid()}, "another thread of this process")
        _held[key] = (count + 1, me)
    try:
        if count:
            yield folder
            return
        with _lock_file(folder, patience, make):
            remove_temporaries(folder)
            yield folder
    finally:
        with _changing:
            _held[key] = (_held[key][0] - 1, me)
            if not _held[key][0]:
                del _held[key]


def require_free(folder: Path) -> None:
    """Raise `UserError` if another process holds a folder."""
    if fcntl is None or os.path.realpath(folder) in _held:
        return
    with contextlib.suppress(OSError), (folder / LOCK).open("rb") as stream:
        if not _try_to_lock(stream):
            raise _in_use(folder, _read(stream))


@contextmanager
def one_at_a_time(path: Path, waits: Callable[[], object]) -> Iterator[None]:
    """Hold a file; wait if another process or thread holds it.

    The file is created if needed, and is not removed. If it cannot be written, on file systems
    without locks, and on Windows, nothing is held.

    Args:
        path: the file.
        waits: called once before waiting.
    """
    stream = None
    if fcntl is not None:
        with contextlib.suppress(OSError):
            stream = path.open("ab")
    if stream is None:
        yield
        return
    with stream:
        if not _try_to_lock(stream):
            waits()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _lock_file(folder: Path, patience: float, make: bool) -> Iterator[None]:
    path, until = folder / LOCK, time.monotonic() + patience
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        while (stream := _open_locked(path)) is None:
            if time.monotonic() >= until:
                with path.open("rb") as other:
                    raise _in_use(folder, _read(other))
            time.sleep(0.05)
    except UserError:
        raise
    except OSError as error:
        raise FileError.of(folder, error, "write to the folder") from None
    with stream:
        try:
            yield
        finally:
            # Remove the file before unlocking it, so that nobody locks a file without a name.
            with contextlib.suppress(OSError):
                path.unlink()


def _open_locked(path: Path) -> IO[bytes] | None:
    """Return the lock file, locked and signed; None if another process holds it."""
    stream = path.open("a+b")
    try:
        if fcntl is not None:
            while True:
                if not _try_to_lock(stream):
                    stream.close()
                    return None
                if _is_still(path, stream):
                    break
                # The last holder removed it between our two calls.
                stream.close()
                stream = path.open("a+b")
        stream.truncate(0)
        stream.write(json.dumps(_signature()).encode())
        stream.flush()
    except BaseException:
        stream.close()
        raise
    return stream


def _try_to_lock(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _LOCKLESS:
            raise
    return True


def _is_still(path: Path, stream: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _signature() -> dict[str, Any]:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]) if sys.argv[0] else "python"
    started = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
    return {
        "pid": os.getpid(), "host": socket.gethostname(), "command": command, "started": started,
    }  # fmt: skip


def _read(stream: IO[bytes]) -> dict[str, Any]:
    """Return the signature in a lock file; {} if it cannot be read."""
    stream.seek(0)
    with contextlib.suppress(ValueError, RecursionError):
        data = json.loads(stream.read(10_000))
        if isinstance(data, dict):
            return data
    return {}


def _in_use(folder: Path, by: dict[str, Any], who: str = "another process") -> UserError:
    """Return the error for a folder that another process or thread holds."""
    # Print one line of plain text, whatever the file contains.
    known = {key: " ".join(str(value).split())[:80] for key, value in by.items()}
    details = [f"process {known['pid']}"] if "pid" in known else []
    details += [f"on {known['host']}"] if "host" in known else []
    details += [f"since {known['started']}"] if "started" in known else []
    details += [f"running {known['command']!r}"] if "command" in known else []
    told = f" ({', '.join(details)})" if details else ""
    return UserError(
        f"the folder {folder} is in use by {who}{told}; wait until it ends, end it, or give "
        f"another folder."
    )
