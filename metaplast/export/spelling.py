"""How activations and feedback pathways are spelled, in code and on paper.

`{xp}` stands for the array library: numpy, torch and jax.numpy share these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from metaplast.errors import require


@dataclass(frozen=True)
class Nonlinearity:
    """A hidden layer's σ.

    Attributes:
        apply: code of σ(z).
        gain: code of σ'(z) from y = σ(z); values outside σ's range are clamped to it.
        text: both as text.
        latex: both as LaTeX.
        module: code of the torch module.
        kind: code of its class.
        same: code that a torch module of that class must also satisfy, after "and".
    """

    apply: str
    gain: str
    text: tuple[str, str]
    latex: tuple[str, str]
    module: str
    kind: str
    same: str = ""


NONLINEARITIES: Mapping[str, Nonlinearity] = MappingProxyType(
    {
        "softplus": Nonlinearity(
            apply="{xp}.logaddexp(0.0, BETA * z) / BETA",
            gain="-{xp}.expm1(-BETA * {xp}.clip(y, 0.0, None))",
            text=("log(1 + exp(βz))/β", "1 − exp(−βy)"),
            latex=(r"\log(1 + \exp(\beta z))/\beta", r"1 - \exp(-\beta y)"),
            module="nn.Softplus(beta=BETA, threshold=40.0)",
            kind="nn.Softplus",
            # Beyond its threshold torch takes softplus for linear: off by exp(−20)/β at most.
            same=" and module.beta == BETA and module.threshold >= 20",
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
        ),
    }
)


@dataclass(frozen=True)
class Pathway:
    """Where the error of the layer below comes from.

    Attributes:
        carry: code of the error carried to layer k, before it is multiplied by σ'; `weights[k]`
            leads from layer k to k + 1 of L.
        text: the same as an equation.
        latex: the same as LaTeX.
        note: what the matrices are.
    """

    carry: str
    text: str
    latex: str
    note: str


_CHAIN = "eₗ₋₁ = (Bₗ eₗ) ⊙ σ′(zₗ₋₁)"
_CHAIN_LATEX = r"e_{\ell-1} = (B_{\ell}\, e_{\ell}) \odot \sigma'(z_{\ell-1})"
_SYMMETRIC = Pathway(
    "weights[k].T @ e[k + 1]",
    "eₗ₋₁ = (Wₗᵀ eₗ) ⊙ σ′(zₗ₋₁)",
    r"e_{\ell-1} = (W_{\ell}^{\top}\, e_{\ell}) \odot \sigma'(z_{\ell-1})",
    "the feedback is the transpose of the weights, as in backpropagation",
)
PATHWAYS: Mapping[str, Pathway] = MappingProxyType(
    {
        "fixed": Pathway(
            "feedback[k] @ e[k + 1]",
            _CHAIN,
            _CHAIN_LATEX,
            "the feedback matrices are random and fixed",
        ),
        "plastic": Pathway(
            "feedback[k] @ e[k + 1]",
            _CHAIN,
            _CHAIN_LATEX,
            "the feedback matrices are random at first and plastic",
        ),
        "symmetric": _SYMMETRIC,
        # They differ in the meta-gradient alone.
        "symmetric-detached": _SYMMETRIC,
        "sign-symmetric": Pathway(
            "({xp}.abs(feedback[k]) * {xp}.sign(weights[k].T)) @ e[k + 1]",
            "eₗ₋₁ = ((|Bₗ| ⊙ sign Wₗᵀ) eₗ) ⊙ σ′(zₗ₋₁)",
            r"e_{\ell-1} = ((\lvert B_{\ell} \rvert \odot \operatorname{sign} W_{\ell}^{\top})\, "
            r"e_{\ell}) \odot \sigma'(z_{\ell-1})",
            "the feedback has random fixed magnitudes and the signs of the weights",
        ),
        "direct": Pathway(
            "feedback[k] @ e[L]",
            "eₗ = (Dₗ e_L) ⊙ σ′(zₗ)",
            r"e_{\ell} = (D_{\ell}\, e_{L}) \odot \sigma'(z_{\ell})",
            "the feedback matrices are random and fixed and carry the output error "
            "straight to each layer",
        ),
    }
)


def pathway(feedback: str) -> Pathway:
    """Return the spelling of a feedback.

    Raises:
        UserError: if there is none.
    """
    require(
        feedback in PATHWAYS,
        f"a rule with feedback {feedback} cannot be exported; choose one of {', '.join(PATHWAYS)}.",
    )
    return PATHWAYS[feedback]


def nonlinearity(kind: str) -> Nonlinearity:
    """Return the spelling of an activation.

    Raises:
        UserError: if there is none.
    """
    require(
        kind in NONLINEARITIES,
        f"a network of {kind} neurons cannot be exported; choose one of "
        f"{', '.join(NONLINEARITIES)}.",
    )
    return NONLINEARITIES[kind]
