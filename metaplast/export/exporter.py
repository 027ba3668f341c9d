"""The interface of an exporter, and the search for installed ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from metaplast.base.errors import UserError
from metaplast.base.registry import find, lookup
from metaplast.rules.rule import Rule
from metaplast.systems.feedback import get_feedback
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.recurrent import Recurrent
from metaplast.terms.algebra import Formula
from metaplast.terms.term import Term

EXPORTERS = "metaplast.exporters"
#: The networks that a rule can be exported for.
Network = FullyConnected | Recurrent | FixedPoint


class Exporter(ABC):
    """Writes a rule in one format.

    Attributes:
        name: as written after `--to`.
        suffix: the suffix of the file, with its dot.
        summary: one line for `--help`.
        aliases: other names after `--to`.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    summary: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def write(self, rule: Rule, network: Network) -> str:
        """Return the rule, for this network, as text that ends with a newline.

        Raises:
            UserError: if the rule cannot be written in this format.
        """


class CodeExporter(Exporter):
    """Writes a program, which is run and compared with the engine before it is returned.

    Attributes:
        package: the package that the program imports; without it the program cannot be checked.
        driver: Python source of `drive(code, weights, feedback, images, labels)`. It receives the
            program as a module and float64 NumPy arrays, learns the examples one by one, and
            returns the final matrices: first `weights`, then `feedback`. `labels` are classes, or
            vectors [step, output] if the objective takes vectors. For a recurrent network, images
            are [step, frame, feature], and the second axis of labels may be time steps. The source
            may also define `mistakes(code, weights, feedback, x)`, which returns functions by
            name; each one gives the program an input that it must refuse.
    """

    package: ClassVar[str]
    driver: ClassVar[str]


def require_stack(exporter: str, network: Network) -> FullyConnected:
    """Return the network if it is a fully connected stack.

    Raises:
        UserError: if the network is another system, for which the format has no programs.
    """
    if not isinstance(network, FullyConnected):
        feedback = get_feedback(network.feedback_name)
        has_code = isinstance(network, FixedPoint) or feedback.code is not None
        programs = "numpy, torch, " if has_code else ""
        raise UserError(
            f"{exporter} has no program for the system {network.name}; export the rule as "
            f"{programs}latex, markdown or json."
        )
    return network


def declared(term: Term) -> Formula:
    """Return a term's formula.

    Raises:
        UserError: if the term is a torch function, which cannot be written in another form.
    """
    if not isinstance(term.formula, Formula):
        raise UserError(
            f"{term.name} is a torch function, which cannot be written in another form; export a "
            f"rule whose terms are all formulas."
        )
    return term.formula


def all_exporters() -> Mapping[str, Exporter]:
    """Return every installed exporter by name."""
    return find(EXPORTERS, Exporter)  # type: ignore[type-abstract]


def get_exporter(name: str) -> Exporter:
    """Return the exporter called `name`.

    Raises:
        UserError: if there is no such exporter; suggests the nearest.
    """
    return lookup("export format", name, all_exporters())
