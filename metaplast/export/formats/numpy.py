"""Export as a NumPy program."""

from metaplast.export.contract import CodeExporter
from metaplast.export.program import program
from metaplast.network import FullyConnected
from metaplast.rule import Rule


class NumpyExporter(CodeExporter):
    """Plain functions on NumPy arrays."""

    name = "numpy"
    suffix = ".py"
    summary = "a program that needs NumPy alone: plain functions, one example a step"
    package = "numpy"
    driver = '''
def drive(code, weights, feedback, images, labels):
    """Learn the examples by the program's `step`."""
    for x, label in zip(images, labels):
        given = (weights, feedback) if feedback else (weights,)
        result = code.step(*given, x, label)
        weights, feedback = result if isinstance(result, tuple) else (result, feedback)
    return [*weights, *feedback]
'''

    def write(self, rule: Rule, network: FullyConnected) -> str:
        """Return the program; see `Exporter.write`."""
        return program("numpy.py.jinja", rule, network, "np")


numpy_exporter = NumpyExporter()
