"""How activations and feedback pathways are written, in code and in formulas.

`{xp}` is the array library: numpy, torch and jax.numpy share these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from metaplast.base.errors import require
from metaplast.systems.feedback import get_feedback


@dataclass(frozen=True)
class Nonlinearity:
    """The activation σ of hidden layers, in every spelling.

    Attributes:
        apply: code of σ(z).
        gain: code of σ'(z) from y = σ(z); values outside σ's range are clamped to it.
        text: σ and σ' as text.
        latex: σ and σ' in LaTeX.
        module: code of the torch module.
        kind: code of the torch module's class.
        same: code of a further condition on a torch module of that class, beginning with "and".
        functional: code of σ(z) in torch, if `apply` does not work there.
    """

    apply: str
    gain: str
    text: tuple[str, str]
    latex: tuple[str, str]
    module: str
    kind: str
    same: str = ""
    functional: str = ""

    def code(self, library: str) -> str:
        """Return code of σ(z) for an array library."""
        given = self.functional if library == "torch" and self.functional else self.apply
        return given.format(xp=library)


NONLINEARITIES: Mapping[str, Nonlinearity] = MappingProxyType(
    {
        "softplus": Nonlinearity(
            apply="{xp}.logaddexp(0.0, BETA * z) / BETA",
            gain="-{xp}.expm1(-BETA * {xp}.clip(y, 0.0, None))",
            text=("log(1 + exp(βz))/β", "1 − exp(−βy)"),
            latex=(r"\log(1 + \exp(\beta z))/\beta", r"1 - \exp(-\beta y)"),
            module="nn.Softplus(beta=BETA, threshold=40.0)",
            kind="nn.Softplus",
            # Beyond its threshold torch treats softplus as linear; the error is at most exp(−20)/β.
            same=" and module.beta == BETA and module.threshold >= 20",
            functional="nn.functional.softplus(z, beta=BETA, threshold=40.0)",
        ),
        "tanh": Nonlinearity(
            apply="{xp}.tanh(z)",
            gain="1.0 - {xp}.clip(y, -1.0, 1.0) ** 2",
            text=("tanh z", "1 − y²"),
            latex=(r"\tanh z", r"1 - y^2"),
            module="nn.Tanh()",
            kind="nn.Tanh",
        ),
        "relu": Nonlinearity(
            apply="{xp}.maximum(z, 0.0)",
            gain="(y > 0) * 1.0",
            text=("max(z, 0)", "1 where y > 0, else 0"),
            latex=(r"\max(z, 0)", r"[y > 0]"),
            module="nn.ReLU()",
            kind="nn.ReLU",
            functional="torch.relu(z)",
        ),
    }
)

# Only fixed-point networks may have linear neurons.
LINEAR = Nonlinearity(
    apply="z",
    gain="{xp}.ones_like(y)",
    text=("z", "1"),
    latex=("z", "1"),
    module="nn.Identity()",
    kind="nn.Identity",
)

# The activity of the output neurons, by an objective's `activity_text` and the library: code of y_L
# from {z}. The NumPy program has a function softmax. In torch, the result must be a copy.
OUTPUTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "softmax": {"np": "softmax({z})", "jnp": "jax.nn.softmax({z})", "torch": "{z}.softmax(-1)"},
        "linear": {"np": "{z}", "jnp": "{z}", "torch": "{z}.clone()"},
    }
)


@dataclass(frozen=True)
class Pathway:
    """How the error of the layer below is computed.

    Attributes:
        carry: code of the error carried to layer k, before it is multiplied by σ'; `weights[k]`
            leads from layer k to k + 1 of L.
        text: this error as an equation.
        latex: this error in LaTeX.
        note: a description of the matrices.
    """

    carry: str
    text: str
    latex: str
    note: str


def pathway(feedback: str) -> Pathway:
    """Return how documents write a feedback.

    Raises:
        UserError: if there is no such feedback.
    """
    found = get_feedback(feedback)
    mere = found.name.replace("-", " ")
    return Pathway(
        found.code or "",
        found.equation or f"eₗ from the feedback {mere}",
        found.latex or rf"e_{{\ell}} \text{{ from the feedback {mere}}}",
        found.note or found.summary,
    )


def coded_pathway(feedback: str) -> Pathway:
    """Return how programs write a feedback.

    Raises:
        UserError: if no program can be written with this feedback.
    """
    found = get_feedback(feedback)
    require(
        found.code is not None or found.relaxation is not None,
        f"a rule with the feedback {feedback} cannot be exported as code, because that feedback "
        f"defines no code; export it as latex, markdown or json.",
    )
    return pathway(feedback)


def nonlinearity(kind: str) -> Nonlinearity:
    """Return the code and formulas of an activation.

    Raises:
        UserError: if the activation has none.
    """
    require(
        kind in NONLINEARITIES,
        f"a network of {kind} neurons cannot be exported; choose one of "
        f"{', '.join(NONLINEARITIES)}.",
    )
    return NONLINEARITIES[kind]
