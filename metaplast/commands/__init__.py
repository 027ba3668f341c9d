"""The commands behind `metaplast NAME` and `scripts/NAME.py`: one module each, with a `main`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence

from metaplast.errors import UserError, unknown_name
from metaplast.plain_text import make_streams_safe

INTERRUPTED = 130


def command_names() -> list[str]:
    """Return the names of all commands."""
    names = (info.name for info in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if not name.startswith("_"))


def guard(main: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 2 after a user's mistake, told in one sentence, without a traceback."""
    make_streams_safe()
    try:
        main(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (head, less) went away: nothing is left to say.
        sys.stderr.close()
        return 0
    return 0


def script(name: str) -> int:
    """Run the command called `name` with the arguments of the process; return its exit code."""
    return guard(importlib.import_module(f"{__name__}.{name}").main)


def main() -> int:
    """Run `metaplast NAME …`; return the exit code."""
    make_streams_safe()
    arguments = sys.argv[1:]
    names = command_names()
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: metaplast {{{','.join(names)}}} [options]")
        print("Each command explains its options with --help.")
        return 0
    if arguments[0] not in names:
        print(f"error: {unknown_name('command', arguments[0], names)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"{__name__}.{arguments[0]}")
    return guard(module.main, arguments[1:])
