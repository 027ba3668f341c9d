"""Export as a NumPy program."""

from metaplast.export.exporter import CodeExporter, Network
from metaplast.export.fixed_point_program import fixed_point_program
from metaplast.export.memory import MEMORY_CALLS
from metaplast.export.program import program
from metaplast.export.recurrent_program import recurrent_program
from metaplast.rules.rule import Rule
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.recurrent import Recurrent


class NumpyExporter(CodeExporter):
    """Plain functions on NumPy arrays."""

    name = "numpy"
    suffix = ".py"
    summary = "a program that needs only NumPy: plain functions, one example a step"
    package = "numpy"
    driver = (
        """
import numpy as np
"""
        + MEMORY_CALLS
        + '''

def drive(code, weights, feedback, images, labels):
    """Learn the examples by the program's `step`."""
    memory = begun(code, weights, feedback)
    for x, label in zip(images, labels):
        weights, feedback, memory = learned(code.step, weights, feedback, memory, x, label)
    return [*weights, *feedback]


def mistakes(code, weights, feedback, x):
    """Return calls of `step` that must be refused."""
    rest = ((feedback,) if feedback else ()) + tuple(begun(code, weights, feedback))
    outputs = getattr(code, "OUTPUTS", len(weights[-1]))
    wrong = {"no class": outputs, "class -1": -1, "a bool": True, "a loss": 0.7}
    right = 0
    if hasattr(code, "vector"):  # targets are vectors: each of the above is wrong as well
        right = np.zeros(outputs)
        wrong |= {"another length": np.append(right, 0.0), "no finite number": right + np.inf}
    calls = {f"{name} as a label": (weights, x, label) for name, label in wrong.items()}
    calls["two examples"] = (weights, np.stack([x, x]), right)
    calls["an example of another width"] = (weights, np.append(x, x), right)
    calls["no matrices"] = ([], x, right)
    return {
        name: lambda w=w, x=x, label=label: code.step(w, *rest, x, label)
        for name, (w, x, label) in calls.items()
    }
'''
    )

    def write(self, rule: Rule, network: Network) -> str:
        """Return the program; see `Exporter.write`."""
        if isinstance(network, Recurrent):
            return recurrent_program(rule, network, "np")
        if isinstance(network, FixedPoint):
            return fixed_point_program(rule, network, "np")
        return program("numpy.py.jinja", rule, network, "np")


numpy_exporter = NumpyExporter()
