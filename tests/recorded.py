"""Recordings for tests: planted rules, and the fit's problem made of them."""

from metaplast.commands.simulate import read_rule
from metaplast.recordings.losses import LOSSES
from metaplast.recordings.model import Layer
from metaplast.recordings.moments import Problem
from metaplast.recordings.pieces import NOTHING
from metaplast.recordings.recording import Recording
from metaplast.recordings.simulation import Design, simulate
from metaplast.recordings.trajectory import arranged

SMALL = {"inputs": 8, "neurons": 4, "trials": 3, "steps": 12, "input_variance": 0.3}


def planted(rule, *, seed=0, activation="sigmoid", eta=1.0, **design):
    """Return a small simulated recording of a rule such as xy=1."""
    made = Design(**(SMALL | design))
    return simulate(read_rule(rule), Layer(activation, eta), made, seed=seed)


def problem_of(arrays, *, activation="sigmoid", eta=1.0, loss="gaussian", free=NOTHING, **layer):
    """Return the fit's problem, with nothing held out."""
    data = arranged([Recording.of(arrays)], held_out=0.0, by_animal=False, seed=0)
    return Problem(data, Layer(activation, eta, **layer), LOSSES[loss], free)
