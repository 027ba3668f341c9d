"""Export as a JAX program."""

from metaplast.export.exporter import CodeExporter, Network, require_stack
from metaplast.export.memory import MEMORY_CALLS
from metaplast.export.program import program
from metaplast.rules.rule import Rule


class JaxExporter(CodeExporter):
    """Pure functions, compiled by jit; a whole task by scan."""

    name = "jax"
    suffix = ".py"
    summary = "a program that needs only JAX: pure functions under jit, a task under scan"
    package = "jax"
    driver = (
        """
import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
"""
        + MEMORY_CALLS
        + '''

def drive(code, weights, feedback, images, labels):
    """Learn one example by the program's `step`, the others by its `learn`."""
    weights, feedback = ([jax.numpy.asarray(m) for m in g] for g in (weights, feedback))
    memory = begun(code, weights, feedback)
    parts = ((code.step, images[0], labels[0]), (code.learn, images[1:], labels[1:]))
    for learn, x, label in parts:
        weights, feedback, memory = learned(learn, weights, feedback, memory, x, label)
    return [*weights, *feedback]


def mistakes(code, weights, feedback, x):
    """Return calls of `step` and `learn` that must be refused."""
    rest = ((feedback,) if feedback else ()) + tuple(begun(code, weights, feedback))
    both = jax.numpy.stack([x, x])
    wrong = {"no class": len(weights[-1]), "class -1": -1, "a bool": True, "a loss": 0.7}
    right, bad = 0, -1
    if hasattr(code, "vector"):  # targets are vectors: each of the above is wrong as well
        right = jax.numpy.zeros(len(weights[-1]))
        bad = right + jax.numpy.inf
        wrong |= {"another length": jax.numpy.append(right, 0.0), "no finite number": bad}
    calls = {f"{name} as a label": (code.step, weights, x, label) for name, label in wrong.items()}
    calls["two examples in a step"] = (code.step, weights, both, right)
    calls["no matrices"] = (code.step, [], x, right)
    one, others = jax.numpy.asarray([right]), jax.numpy.asarray([right, bad])
    calls["more examples than labels"] = (code.learn, weights, both, one)
    calls["a wrong label among others"] = (code.learn, weights, both, others)
    return {
        name: lambda f=f, w=w, x=x, label=label: f(w, *rest, x, label)
        for name, (f, w, x, label) in calls.items()
    }
'''
    )

    def write(self, rule: Rule, network: Network) -> str:
        """Return the program; see `Exporter.write`."""
        return program("jax.py.jinja", rule, require_stack(self.name, network), "jnp")


jax_exporter = JaxExporter()
