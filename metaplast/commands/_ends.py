"""The message of a command that ends early, which says what is kept and how to continue."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from metaplast.base.errors import UserError
from metaplast.base.trouble import trouble


def resume_command(name: str, folder: Path) -> str:
    """Return the command that continues a run."""
    return f"metaplast {name} --resume {shlex.quote(str(folder))}"


@contextmanager
def continued_by(console: Console, again: str, kept: str = "") -> Iterator[None]:
    """Print how to continue if an interrupt or a lack of resources ends the enclosed code.

    Args:
        console: where to print.
        again: the command that continues the work.
        kept: the text to print after an interrupt, instead of how to continue.

    Raises:
        UserError: if the machine ran out of memory, disk space or threads.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        text = f"Interrupted. {kept or f'Continue with:  {again}'}"
        console.out(text)
        if getattr(sys.stdout, "error", None) is not None:
            print(text, file=sys.stderr)  # Standard output can no longer be written.
        stop.add_note(text)
        raise
    except Exception as error:
        found = trouble(error)
        if found is None:
            raise
        raise UserError(found.sentence(again)) from error
