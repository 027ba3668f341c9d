"""Export as a PyTorch program."""

from metaplast.export.exporter import CodeExporter, Network
from metaplast.export.fixed_point_program import fixed_point_program
from metaplast.export.program import program
from metaplast.export.recurrent_program import recurrent_program
from metaplast.rules.rule import Rule
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.recurrent import Recurrent


class TorchExporter(CodeExporter):
    """An optimizer for an ordinary nn.Sequential."""

    name = "torch"
    suffix = ".py"
    summary = "a program that needs only PyTorch: a torch.optim.Optimizer for an nn.Sequential"
    aliases = ("pytorch",)
    package = "torch"
    driver = '''
import torch


def drive(code, weights, feedback, images, labels):
    """Train the program's model by its optimizer; other networks by the function `step`."""
    if not hasattr(code, "PlasticityRule"):
        weights, feedback = ([torch.from_numpy(m) for m in group] for group in (weights, feedback))
        for x, label in zip(torch.from_numpy(images), torch.from_numpy(labels)):
            given = (weights, feedback) if feedback else (weights,)
            result = code.step(*given, x, label)
            weights, feedback = result if isinstance(result, tuple) else (result, feedback)
        return [matrix.numpy() for matrix in (*weights, *feedback)]
    model = code.make_model().double()
    rule = code.PlasticityRule(model)
    parameters = list(model.parameters())
    for parameter, matrix in zip(parameters, weights):
        parameter.data.copy_(torch.from_numpy(matrix))
    for parameter, matrix in zip(parameters, feedback):
        rule.state[parameter]["feedback"].copy_(torch.from_numpy(matrix))
    for x, label in zip(torch.from_numpy(images), torch.from_numpy(labels)):
        model(x[None])
        rule.step(label)
    kept = [rule.state[parameter]["feedback"] for parameter in parameters] if feedback else []
    return [matrix.detach().numpy() for matrix in (*parameters, *kept)]


def mistakes(code, weights, feedback, x):
    """Return wrong labels for a step, and models that the rule is not for."""
    if not hasattr(code, "PlasticityRule"):
        return steps_to_refuse(code, weights, feedback, x)
    model = code.make_model().double()
    rule, x = code.PlasticityRule(model), torch.from_numpy(x)
    model(x)
    wrong = {"no class": len(weights[-1]), "class -1": -1, "a bool": True, "a loss": 0.7}
    if hasattr(code, "vectors"):  # targets are vectors: each of the above is wrong as well
        outputs = len(weights[-1])
        wrong |= {
            "another length": torch.zeros(outputs + 1),
            "no finite number": torch.full((outputs,), float("inf")),
        }
    calls = {
        f"{name} as a label": lambda label=label: rule.step(label) for name, label in wrong.items()
    }
    first, *others = code.make_model()
    biased = torch.nn.Linear(first.in_features, first.out_features)
    models = {
        "biases": torch.nn.Sequential(biased, *others),
        "dropout": torch.nn.Sequential(torch.nn.Dropout(), first, *others),
        "another activation": torch.nn.Sequential(first, torch.nn.Sigmoid(), *others[1:]),
        "no layers": torch.nn.Sequential(),
    }
    return calls | {
        f"a model with {name}": lambda model=model: code.PlasticityRule(model)
        for name, model in models.items()
    }


def steps_to_refuse(code, weights, feedback, x):
    """Return calls of the function `step` that must be refused."""
    weights, feedback = ([torch.from_numpy(m) for m in group] for group in (weights, feedback))
    x, rest = torch.from_numpy(x), (feedback,) if feedback else ()
    outputs = getattr(code, "OUTPUTS", len(weights[-1]))
    wrong = {"no class": outputs, "class -1": -1, "a bool": True, "a loss": 0.7}
    calls = {f"{name} as a label": (weights, x, label) for name, label in wrong.items()}
    calls["two examples"] = (weights, torch.stack([x, x]), 0)
    calls["an example of another width"] = (weights, torch.cat([x, x], -1), 0)
    calls["no matrices"] = ([], x, 0)
    return {
        name: lambda w=w, x=x, label=label: code.step(w, *rest, x, label)
        for name, (w, x, label) in calls.items()
    }
'''

    def write(self, rule: Rule, network: Network) -> str:
        """Return the program; see `Exporter.write`."""
        if isinstance(network, Recurrent):
            return recurrent_program(rule, network, "torch")
        if isinstance(network, FixedPoint):
            return fixed_point_program(rule, network, "torch")
        return program("torch.py.jinja", rule, network, "torch")


torch_exporter = TorchExporter()
