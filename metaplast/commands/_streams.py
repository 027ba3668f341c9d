"""Drop output that cannot be written, so that a failed write never ends a run."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

# The reader (head, less) ended, or the terminal was closed. Both happen on purpose.
_LEFT = (errno.EPIPE, errno.EIO)


class Output:
    """A stream that drops output that cannot be written.

    Args:
        stream: where to write; None drops everything, as in a process without standard output.

    Attributes:
        error: the first error in writing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.error: OSError | None = None
        self._stream = io.StringIO() if stream is None else stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, if possible."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write texts, if possible."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write the buffered output, if possible."""
        with self._dropping():
            self._stream.flush()

    @property
    def loss(self) -> OSError | None:
        """The error that lost output, or None; a reader that has ended does not count."""
        error = self.error
        return None if error is None or error.errno in _LEFT else error

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            # Discard the buffer too, both now and when Python exits.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextmanager
def dropping_output() -> Iterator[tuple[Output, Output]]:
    """Let standard output and error drop what cannot be written, while in the `with` block."""
    before = sys.stdout, sys.stderr
    streams = Output(sys.stdout), Output(sys.stderr)
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
