"""An inferred rule with traces or eligibilities as a stand-alone program; see `program`."""

from __future__ import annotations

from collections.abc import Sequence

from metaplast.recordings.memory import Clock
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.remembering import clocks_of

TEMPLATE = '''"""A plasticity rule inferred from recordings by metaplast.

    {equation}, times eta at every step

A trace follows v ← v + (value − v)/tau, an eligibility E ← (1 − 1/tau) E + update. Both are zero
when a trial begins, and are updated before they are used.
"""

import numpy as np

ETA = {eta!r}
THETA = {theta!r}
TAU = {taus!r}


def activity(w, x):
    """Return y = f(W x), [post], of weights [post, pre] and inputs [pre]."""
    z = w @ x
    return {function}


def nothing_kept(w):
    """Return traces and eligibilities at the start of a trial, for weights [post, pre]."""
    posts, pres = w.shape
    return {{
{begin}
    }}


def change(x, y, w, r, kept):
    """Return the change of the weights, [post, pre], and the traces and eligibilities.

    x: inputs, [pre]; y: activity, [post]; w: weights, [post, pre]; r: reward; kept: traces and
    eligibilities from the previous step, or from `nothing_kept` at the start of a trial.
    """
    x, y = x[None, :], y[:, None]
    now = {{}}
{update}
    return ETA * (
{lines}
    ) * np.ones_like(w), now


def learn(w, inputs, rewards=None):
    """Return the activity at each step, [time, post], and the weights after the last one.

    w: initial weights, [post, pre]; inputs: [time, pre]; rewards: [time].
    """
    found, kept = [], nothing_kept(w)
    for t, x in enumerate(inputs):
        y = activity(w, x)
        found.append(y)
        moved, kept = change(x, y, w, 0.0 if rewards is None else rewards[t], kept)
        w = w + moved
    return np.array(found), w
'''
_SHAPES = {"x": "np.zeros((1, pres))", "y": "np.zeros((posts, 1))", "r": "0.0"}


def parts(terms: Sequence[MonomialTerm]) -> dict[str, object]:
    """Return the parts of the template: TAU, initial traces, their updates, and the sum."""
    names = _names(terms)
    begin, update, taus = [], [], {}
    for key, (clock, inner) in names.items():
        taus[key] = clock.tau
        shape = _SHAPES.get(clock.kind, "np.zeros((posts, pres))")
        begin.append(f"        {key!r}: {shape},")
        if clock.kind == "e":
            update.append(f"    now[{key!r}] = (1 - 1 / TAU[{key!r}]) * kept[{key!r}] + {inner}")
        else:
            value = clock.kind + ("**2" if clock.power == 2 else "")
            update.append(
                f"    now[{key!r}] = kept[{key!r}] + ({value} - kept[{key!r}]) / TAU[{key!r}]"
            )
    lines = [f"THETA[{t.name!r}]{_product(t, names)}" for t in terms]
    return {
        "taus": taus, "begin": "\n".join(begin), "update": "\n".join(update),
        "lines": "        " + "\n        + ".join(lines),
    }  # fmt: skip


def _names(terms: Sequence[MonomialTerm]) -> dict[str, tuple[Clock, str]]:
    """Return a name for each trace and eligibility, with its clock and an eligibility's product."""
    found: dict[str, tuple[Clock, str]] = {}
    for clock in clocks_of(terms):
        if clock.kind != "e":
            count = sum(c.kind == clock.kind for c, _ in found.values())
            found[f"{clock.kind}{count + 1}"] = clock, ""
    for term in terms:
        for clock in term.memory.clocks:
            inner = _collected(term, found)
            if clock.kind == "e" and (clock, inner) not in found.values():
                count = sum(c.kind == "e" for c, _ in found.values())
                found[f"e{count + 1}"] = clock, inner
    return found


def _key(clock: Clock, inner: str, names: dict[str, tuple[Clock, str]]) -> str:
    return next(key for key, value in names.items() if value == (clock, inner))


def _factors(term: MonomialTerm, kinds: str, names: dict[str, tuple[Clock, str]]) -> list[str]:
    """Return the factors of a term for the letters `kinds`: powers and traces."""
    clocks = {clock.kind: clock for clock in term.memory.clocks}
    found = []
    for letter, power in zip("xywr", term.exponents, strict=True):
        if letter in kinds:
            found += [letter + (f"**{power}" if power > 1 else "")] if power else []
            if letter in clocks:
                found.append(f"now[{_key(clocks[letter], '', names)!r}]")
    return found


def _collected(term: MonomialTerm, names: dict[str, tuple[Clock, str]]) -> str:
    return " * ".join(_factors(term, "xyw", names))


def _product(term: MonomialTerm, names: dict[str, tuple[Clock, str]]) -> str:
    if not term.memory.eligible:
        return "".join(f" * {factor}" for factor in _factors(term, "xywr", names))
    clock = Clock("e", 1, term.memory.eligible)
    key = _key(clock, _collected(term, names), names)
    return "".join(f" * {f}" for f in [*_factors(term, "r", names), f"now[{key!r}]"])
