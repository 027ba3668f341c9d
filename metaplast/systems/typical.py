"""A small system of each kind, used to find out what the kind offers."""

from __future__ import annotations

from metaplast.systems.feedback import serving
from metaplast.systems.kind import SystemRequest, get_system
from metaplast.systems.system import System


def typical_system(name: str) -> System:
    """Return a system of a kind with its defaults, one input and two outputs.

    Raises:
        UserError: if there is no such kind.
    """
    kind, argument = get_system(name)
    names = ("hidden", "activation", "init", "objective")
    given = {key: value for key, value in kind.defaults.items() if key in names}
    request = SystemRequest(1, 2, **{"hidden": (3,), **given}, argument=argument)
    feedbacks = serving(kind.name)
    feedback = request.feedback if request.feedback in feedbacks else feedbacks[0]
    return kind.build(SystemRequest(**{**vars(request), "feedback": feedback}))
