"""An inferred rule as a stand-alone program that needs only NumPy."""

from __future__ import annotations

from metaplast.recordings.memory_program import TEMPLATE, parts
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.remembering import clocks_of
from metaplast.recordings.result import Inference

_FUNCTIONS = {
    "linear": "z",
    "sigmoid": "0.5 * (1.0 + np.tanh(0.5 * z))",
    "tanh": "np.tanh(z)",
    "relu": "np.maximum(z, 0.0)",
    "softplus": "np.logaddexp(0.0, z)",
}
_TEMPLATE = '''"""A plasticity rule inferred from recordings by metaplast.

    {equation}, times eta at every step
"""

import numpy as np

ETA = {eta!r}
THETA = {theta!r}


def activity(w, x):
    """Return y = f(W x), [post], of weights [post, pre] and inputs [pre]."""
    z = w @ x
    return {function}


def change(x, y, w, r=0.0):
    """Return the change of the weights, [post, pre].

    x: inputs, [pre]; y: activity, [post]; w: weights, [post, pre]; r: reward.
    """
    x, y = x[None, :], y[:, None]
    return ETA * (
{lines}
    ) * np.ones_like(w)


def learn(w, inputs, rewards=None):
    """Return the activity at each step, [time, post], and the weights after the last one.

    w: initial weights, [post, pre]; inputs: [time, pre]; rewards: [time].
    """
    found = []
    for t, x in enumerate(inputs):
        y = activity(w, x)
        found.append(y)
        w = w + change(x, y, w, 0.0 if rewards is None else rewards[t])
    return np.array(found), w
'''


def program(found: Inference) -> str:
    """Return the source code of a program that computes the same as the model."""
    terms = [each.term for each in found.terms]
    known = {
        "equation": found.equation, "eta": float(found.settings["eta"]), "theta": found.theta,
        "function": _FUNCTIONS[str(found.settings["activation"])],
    }  # fmt: skip
    if clocks_of(terms):
        return TEMPLATE.format(**known, **parts(terms))
    lines = [f"        THETA[{t.term.name!r}]{_factors(t.term)}" for t in found.terms] or [
        "        0.0"
    ]
    return _TEMPLATE.format(
        **known,
        lines="\n        + ".join(line.strip() for line in lines).join(["        ", ""]),
    )


def _factors(term: MonomialTerm) -> str:
    parts = zip("xywr", term.exponents, strict=True)
    return "".join(f" * {s}" + (f"**{p}" if p > 1 else "") for s, p in parts if p)
