"""Errors of the machine, such as a lack of memory or a full disk: what happened, and what helps."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from metaplast.base.errors import UserError, sentence
from metaplast.base.files import FileError, remedy

# What lowers the memory that the running command needs; each command knows its own options.
_LESS_MEMORY = ContextVar("_LESS_MEMORY", default="choose smaller networks, batches or files")
_THREADS_HELP = "end other processes, or raise the limit of processes (ulimit -u)"
# Messages of torch's allocators and C++, in lower case; they raise RuntimeError.
_MEMORY_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "storage size calculation overflowed",
    "integer multiplication overflow",
    "invalid buffer size",
    "array is too big",
    "maximum allowed dimension exceeded",
    "maximum allowed size exceeded",
)
_THREAD_WORDS = ("can't start new thread", "resource temporarily unavailable")


@dataclass(frozen=True)
class Trouble:
    """What happened on the machine, and what helps, each as half of a sentence."""

    what: str
    mend: str

    def sentence(self, resume: str = "") -> str:
        """Return both as one sentence, with the command that continues the run."""
        again = f", then continue with {resume}" if resume else ""
        return f"{self.what}; {self.mend}{again}."


def trouble(error: BaseException) -> Trouble | None:
    """Return the trouble if a lack of resources or a file caused the error, else None."""
    if isinstance(error, FileError):
        return Trouble(error.what, error.mend)
    if isinstance(error, UserError):
        return None
    if _is_about(error, (MemoryError,), errno.ENOMEM, _MEMORY_WORDS):
        help_ = f"{_LESS_MEMORY.get()}, or use a machine with more memory"
        return Trouble("this machine does not have enough memory", help_)
    if _is_about(error, (), errno.EAGAIN, _THREAD_WORDS):
        return Trouble("the system cannot start more threads or processes", _THREADS_HELP)
    return _of_file(error) if isinstance(error, OSError) else None


@contextmanager
def lowering_memory(words: str) -> Iterator[None]:
    """Let `trouble` say what helps the enclosed code if memory runs out.

    Args:
        words: half of a sentence, such as "lower --hidden or --shots"; the general words if empty.
    """
    before = _LESS_MEMORY.set(words or _LESS_MEMORY.get())
    try:
        yield
    finally:
        _LESS_MEMORY.reset(before)


def explained(error: Exception) -> str:
    """Return an error as text: the trouble behind it, if any, otherwise `errors.sentence`."""
    found = trouble(error)
    return sentence(error) if found is None else found.sentence()


def _is_about(
    error: BaseException, kinds: tuple[type, ...], number: int, words: tuple[str, ...]
) -> bool:
    """Return whether an error has one of these types, this number or one of these messages."""
    if isinstance(error, kinds) or (isinstance(error, OSError) and error.errno == number):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | ValueError) and any(word in text for word in words)


def _of_file(error: OSError) -> Trouble:
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Trouble(f"too many files are open ({reason})", "raise the limit (ulimit -n)")
    named = isinstance(error.filename, str | bytes) and error.filename
    where = f" {os.fsdecode(error.filename)}" if named else ""
    return Trouble(f"cannot use the file{where}: {reason}", remedy(error))
