"""A plasticity rule: ordered, named terms with their coefficients θ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.files import read_json, write_json
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.tensors import type_name
from metaplast.rules.equation import equation, summands, text_of
from metaplast.rules.given_coefficients import coefficient_rows
from metaplast.rules.rule_data import naming, read_rule, require_rule, rule_data
from metaplast.systems.constraint import NONE
from metaplast.systems.feedback import get_feedback
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.labels import Label
from metaplast.systems.learner import Learner
from metaplast.systems.single_step import Stepped, step
from metaplast.systems.system import System
from metaplast.terms.algebra import MatrixName
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.notation import TEXT, Notation
from metaplast.terms.term import Term, checked_terms


@dataclass(frozen=True)
class Rule:
    """ΔM = Σ_k θ_k F^k for the forward and, with backward terms, the backward weights.

    Attributes:
        terms: the terms, in order.
        theta: one row of coefficients shared by all layers, or one row per layer; lists, NumPy
            numbers, an array or a tensor become tuples of floats.
        feedback: the source of the errors.
        provenance: how the rule was found; not part of equality.
        per_layer: whether each layer has its own row. More than one row implies it, and so does an
            array or tensor [layer, term]; a single row alone does not.
    """

    terms: tuple[Term, ...]
    theta: tuple[tuple[float, ...], ...]
    feedback: str
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    per_layer: bool = False

    def __post_init__(self) -> None:
        """Check that coefficients fit the terms.

        Raises:
            UserError: if a row has the wrong length or a value is not a finite number, a term
                occurs twice, the feedback is unknown, or a field has the wrong type.
        """
        require(
            isinstance(self.feedback, str),
            f"a rule's feedback must be a name, such as 'fixed', got {self.feedback!r}.",
        )
        object.__setattr__(self, "feedback", get_feedback(self.feedback).written)
        require(
            isinstance(self.provenance, Mapping),
            f"a rule's provenance must be a dictionary, got {self.provenance!r}.",
        )
        object.__setattr__(self, "terms", checked_terms(self.terms))
        names = [term.name for term in self.terms]
        require(len(set(names)) == len(names), f"each term may occur once, got {names}.")
        rows, is_matrix = coefficient_rows(self.theta, len(names))
        # Without terms, nothing can differ from layer to layer.
        object.__setattr__(self, "theta", rows if names else ((),))
        per_layer = bool(self.per_layer) or is_matrix or len(rows) > 1
        object.__setattr__(self, "per_layer", per_layer and bool(names))

    @classmethod
    def of(
        cls,
        terms: tuple[Term, ...],
        theta: Coefficients | Tensor,
        feedback: str,
        provenance: Mapping[str, Any] | None = None,
    ) -> Rule:
        """Return the rule with θ from coefficients, or from a tensor [term] or [layer, term].

        Raises:
            UserError: if θ has another shape, or belongs to other terms.
        """
        if isinstance(theta, Coefficients):
            names = tuple(term.name for term in terms)
            require(
                theta.names == names,
                f"θ belongs to the terms {', '.join(theta.names)}, the rule has "
                f"{', '.join(names)}.",
            )
            theta = theta.tensor
        return cls(terms, theta, feedback, provenance or {})  # type: ignore[arg-type]

    @property
    def is_per_layer(self) -> bool:
        """True if each layer has its own coefficients."""
        return self.per_layer

    @property
    def objective_name(self) -> str:
        """The objective that the rule was found with; the cross-entropy if it names none."""
        return str(self.provenance.get("objective", "cross-entropy"))

    @property
    def weights(self) -> str:
        """The constraint on weights that the rule was found with; "none" if it names none."""
        return str(self.provenance.get("weights", NONE))

    @property
    def system_name(self) -> str:
        """The system that the rule was found with; "" if it names none."""
        # Version 1 had one system, and recorded only its widths.
        own = FullyConnected.name if "widths" in self.provenance else ""
        return str(self.provenance.get("system", own))

    def require_sites(self, system: System | type[System]) -> None:
        """Check that coefficients for each layer or matrix were found with this kind of system.

        Raises:
            UserError: if the rule has such coefficients and was found with another system.
        """
        require(
            not self.is_per_layer or self.system_name in ("", system.name),
            f"the rule has coefficients for each layer or matrix of the system "
            f"{self.system_name}, which mean nothing in the system {system.name}; give a rule with "
            f"shared coefficients, or one found with {system.name}.",
        )

    @property
    def coefficients(self) -> dict[str, float | list[float]]:
        """θ by term name: a number, or a list with one for each layer."""
        return self.named_theta.to_plain()

    @property
    def named_theta(self) -> Coefficients:
        """θ with the names of the terms, in float64; shared or per layer."""
        return self._named(torch.float64, "cpu")

    def _named(self, dtype: torch.dtype, device: torch.device | str) -> Coefficients:
        names = [term.name for term in self.terms]
        return Coefficients.from_rows(
            names, self.theta, per_layer=self.is_per_layer, dtype=dtype, device=device
        )

    def tensor(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Return θ as [term] if it is shared, else [layer, term]."""
        return self._named(dtype, device).tensor

    def equation(self, notation: Notation = TEXT) -> str:
        """Return the rule as one equation for each matrix that it changes."""
        return equation(self, notation)

    def summands(
        self, matrix: MatrixName, notation: Notation = TEXT
    ) -> tuple[tuple[str, str], ...]:
        """Return the sign and the rest of each term's part of a matrix's equation, in order.

        Two products with opposite shared coefficients that make up Oja's rule count as one part.
        """
        return summands(self, matrix, notation)

    def __str__(self) -> str:
        """Return the equation, with the coefficients of each layer below it if they differ."""
        return text_of(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which `load` restores the rule, including its terms' formulas."""
        return rule_data(self)

    def save(self, path: AnyPath) -> None:
        """Write the rule as JSON, atomically."""
        write_json(as_path(path), self.to_json())

    def __repr__(self) -> str:
        """Return the equation with its feedback, for interactive sessions."""
        return f"<Rule, {self.feedback} feedback: {'; '.join(str(self).splitlines())}>"

    def _repr_latex_(self) -> str:
        """Return the equation for notebooks."""
        from metaplast.rules.notebook import rule_latex

        return rule_latex(self)

    def _repr_markdown_(self) -> str:
        """Return the equation and a table of the terms, for notebooks."""
        from metaplast.rules.notebook import rule_markdown

        return rule_markdown(self)

    def _repr_html_(self) -> str:
        """Return the equation and a table of the terms, for notebooks."""
        from metaplast.rules.notebook import rule_html

        return rule_html(self)

    def learner(self, network: System) -> Learner:
        """Return the learner made of a network and this rule; θ is `tensor()`.

        The network uses its own objective and its own constraint on weights, even if the rule was
        found with others.

        Raises:
            UserError: if the network lacks the rule's feedback or signals; or see `require_sites`.
        """
        what = f"a rule needs a network, got {type_name(network)}"
        require(isinstance(network, System), f"{what}; write FullyConnected((784, 100, 10)).")
        self.require_sites(network)
        return Learner(network.with_feedback(self.feedback), self.terms)

    def step(
        self,
        weights: Sequence[Tensor],
        x: Tensor,
        label: Label,
        backward: Sequence[Tensor] = (),
        *,
        activation: str = "softplus:10",
        objective: str | None = None,
        constraint: str | None = None,
    ) -> Stepped:
        """Return the weights after learning one example by this rule, on plain tensors.

            W_ℓ ← W_ℓ + Σ_k θ_k F^k(y_ℓ, e_ℓ, y_{ℓ-1}, e_{ℓ-1}, W_ℓ),

        with all activities y and errors e taken before any weight changes. Nothing is changed in
        place, and the result is differentiable with respect to the given weights.

        Args:
            weights: W_1 … W_L, each [post, pre]; or [episode, post, pre] for a batch.
            x: one input, [input]; or one per episode, [episode, input].
            label: the class, a whole number, or class probabilities; [episode] or
                [episode, class] for a batch. With the objective mse, the target, a vector
                [output] or [episode, output].
            backward: the feedback's own matrices, each [pre, post] (direct: [neuron, class]), with
                a leading [episode] if the weights have one; none for symmetric feedback.
            activation: the activation of the hidden layers.
            objective: gives y_L and e_L; None uses the one that the rule was found with.
            constraint: the constraint on the weights after the step, such as "dale"; "none" for no
                constraint. None uses the one that the rule was found with.

        Returns:
            `weights` and `backward` after the step, with the same shapes; `backward` changes only
            if the rule has backward terms.

        Raises:
            UserError: if shapes do not fit, or the label is invalid; or see `require_sites`.
        """
        self.require_sites(FullyConnected)
        return step(
            self.terms, self.named_theta, self.feedback, weights, x, label, backward, activation,
            objective or self.objective_name, constraint or self.weights,
        )  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rule:
        """Return the rule that `to_json` wrote.

        Raises:
            UserError: if the data have another format, or a term is unknown.
        """
        with naming("the data of the rule"):
            return cls(*read_rule(data))

    @classmethod
    def load(cls, path: AnyPath, terms: Iterable[Term] = (), *, to_print: bool = False) -> Rule:
        """Return the rule in a JSON file that `save` wrote.

        Each term is taken from `terms`, or from the installed terms, if its meaning matches the
        file; otherwise it is read from the file.

        Args:
            path: the file.
            terms: your own terms. A file cannot hold terms that are torch functions; these must be
                given here or be installed.
            to_print: whether such functions may be missing; if they are, the rule cannot be run.

        Raises:
            UserError: if the file is missing, damaged, not a rule, or of a future version, or if a
                term is unknown here or was given with another meaning.
        """
        path = as_path(path)
        data = read_json(path, "a rule")
        require_rule(data, str(path))
        with naming(str(path)):
            return cls(*read_rule(data, terms, to_print=to_print))
