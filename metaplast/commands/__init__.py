"""The commands behind `metaplast NAME` and `scripts/NAME.py`: one module each, with a `main`."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Sequence
from functools import partial

from metaplast.base.errors import UserError, unknown_name
from metaplast.base.family import Terminated, signals_as_interrupts
from metaplast.base.plain_text import make_streams_safe
from metaplast.base.trouble import lowering_memory, trouble
from metaplast.commands._streams import dropping_output

INTERRUPTED, MISTAKE = 130, 2
# If a signal ends a process, the exit code is this plus the number of the signal.
SIGNALLED = 128

# `metaplast` without arguments prints this, and then the commands that are not named here.
NEXT = """\
metaplast finds plasticity rules by meta-learning. What you can do:
  metaplast discover --terms bio    learn the coefficients of a known rule
  metaplast discover                find a rule among many terms, in minutes
  metaplast discover --dataset csv:FILE,target=COLUMN    ... on your own data
  metaplast infer FILE              infer the rule behind recorded activity
  metaplast show RUN                print its equation, terms and origin
  metaplast evaluate RUN            train networks with it and with baselines
  metaplast export RUN --to=all     save it as code, LaTeX or JSON
Add --help to a command for its options."""


def command_names() -> list[str]:
    """Return the names of all commands."""
    names = (info.name for info in pkgutil.iter_modules(__path__))
    return sorted(name for name in names if not name.startswith("_"))


def guard(main: Callable[[Sequence[str]], None], arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    A user's mistake, a lack of memory, disk space or threads, or lost output is reported in one
    sentence without a traceback; the exit code is 2. An interrupt gives 130, any other signal
    128 plus its number. If the reader of the output has gone, as after `| head`, further output is
    dropped and the command runs to its end. `LESS_MEMORY` in a command's module says which options
    lower its memory.
    """
    make_streams_safe()
    less = getattr(sys.modules.get(main.__module__), "LESS_MEMORY", "")
    with signals_as_interrupts(), lowering_memory(less), dropping_output() as (output, _):
        code = _code(main, sys.argv[1:] if arguments is None else arguments)
        output.flush()
        if output.loss is not None and code == 0:
            _tell(f"standard output could not be written: {output.loss.strerror}.")
            code = MISTAKE
    return code


def _code(main: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    try:
        main(arguments)
    except UserError as error:
        _tell(str(error))
        return MISTAKE
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    except Exception as error:
        hidden = _interrupt_in(error)
        if hidden is not None:
            return _stopped(hidden)
        found = trouble(error)
        if found is None:
            raise
        _tell(found.sentence())
        return MISTAKE
    return 0


def _tell(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)


def _stopped(stop: KeyboardInterrupt) -> int:
    """Return the exit code of an interrupt; report the interrupt if nothing has reported it yet."""
    if not getattr(stop, "__notes__", ()):
        print("Interrupted.", file=sys.stderr)
    return SIGNALLED + stop.number if isinstance(stop, Terminated) else INTERRUPTED


def _interrupt_in(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the interrupt that caused an error, if any: an import may wrap it in another error."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def script(name: str) -> int:
    """Run the command called `name` with the arguments of the process; return its exit code."""
    return find([name, *sys.argv[1:]])()


def main() -> int:
    """Run `metaplast NAME …`; return the exit code."""
    return find(sys.argv[1:])()


def find(arguments: Sequence[str]) -> Callable[[], int]:
    """Return the function that `metaplast` runs for these arguments, and load its modules."""
    names = command_names()
    if arguments and arguments[0] in names:
        module = importlib.import_module(f"{__name__}.{arguments[0]}")
        return partial(guard, module.main, arguments[1:])
    return partial(guard, partial(_explain, names), arguments)


def _explain(names: Sequence[str], arguments: Sequence[str]) -> None:
    if arguments and arguments[0] not in ("-h", "--help"):
        raise unknown_name("command", arguments[0], names)
    others = [name for name in names if f"metaplast {name}" not in NEXT]
    print(f"{NEXT}\nOthers: {', '.join(others)}.")
