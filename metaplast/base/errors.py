"""Errors that a user can fix, each one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Longer user texts are cut in messages.
LONGEST = 80

# The largest count that a user may give: a larger one is a typo, or would never finish.
MOST = 10**9


class UserError(Exception):
    """A mistake that the user can fix; says what was expected, what was given and how to fix it.

    Commands print it without a traceback and exit with code 2.
    """


def unknown_name(
    kind: str, name: str, known: Iterable[str], unlisted: Iterable[str] = (), others: str = ""
) -> UserError:
    """Return the error for a name that is not registered, suggesting the nearest one.

    Args:
        kind: what was looked for, in the terms of the field ("term", "feedback", …).
        name: what the user wrote.
        known: every name that is accepted.
        unlisted: names that are also accepted, but too many to list if none is near.
        others: where the unlisted names can be found, as the end of the sentence.
    """
    known = sorted(known)
    spelled = {one.lower(): one for one in (*unlisted, *known)}
    near = difflib.get_close_matches(name.lower()[:LONGEST], spelled, n=1, cutoff=0.5)
    listed = ", ".join(known) + others
    hint = f"did you mean {spelled[near[0]]!r}?" if near else f"choose one of: {listed}."
    return UserError(f"unknown {kind} {shown(name)}; {hint}")


def shown(value: object) -> str:
    """Return a user's value as a message shows it: one line, no full stop inside, cut if long."""
    text = " ".join(repr(value).split()).replace(". ", " ")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def sentence(error: Exception) -> str:
    """Return an error as text, with its type unless it is a `UserError`."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def require(condition: bool, sentence: str) -> None:
    """Raise `UserError` with `sentence` unless `condition` holds."""
    if not condition:
        raise UserError(sentence)


def require_seed(flag: str, value: int) -> None:
    """Raise `UserError` unless `value` is a valid seed for generators."""
    require(
        0 <= value < 2**63,
        f"{flag} must be a whole number from 0 to 2^63 − 1, got {shown(value)}.",
    )


def require_within(flag: str, value: float, least: float, most: float = MOST) -> None:
    """Raise `UserError` unless `value` is a number from `least` to `most`."""
    require(value >= least, f"{flag} must be at least {_plain(least)}, got {shown(value)}.")
    require(value <= most, f"{flag} must be at most {_plain(most)}, got {shown(value)}.")


def _plain(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def require_choice(flag: str, value: str, choices: Iterable[str]) -> None:
    """Raise `UserError` unless `value` is one of `choices`."""
    choices = tuple(choices)
    require(value in choices, f"{flag} must be {' or '.join(choices)}, got {shown(value)}.")
