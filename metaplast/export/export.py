"""Export a rule: write it, and let nothing out that was not found to do what the engine does."""

from __future__ import annotations

from dataclasses import dataclass

from metaplast.errors import require
from metaplast.export.check import Check, check
from metaplast.export.contract import CodeExporter, Exporter, declared
from metaplast.network import FullyConnected
from metaplast.rule import Rule


@dataclass(frozen=True)
class Export:
    """A rule in one format.

    Attributes:
        exporter: who wrote it.
        text: what is to be written.
        check: how far the code was from the engine; None for what is not code.
    """

    exporter: Exporter
    text: str
    check: Check | None


def export_rule(rule: Rule, network: FullyConnected, exporter: Exporter) -> Export:
    """Return the rule in the exporter's format; code is executed and compared with the engine.

    Raises:
        UserError: if the rule does not fit the network or the format, or code could not be
            checked, or it does not do what the engine does.
    """
    for term in rule.terms:
        declared(term)
    require(
        not rule.is_per_layer or len(rule.theta) == network.layers,
        f"the rule has coefficients for {len(rule.theta)} layers, the network has "
        f"{network.layers}; give --widths with {len(rule.theta) + 1} numbers.",
    )
    text = exporter.write(rule, network)
    if not isinstance(exporter, CodeExporter):
        return Export(exporter, text, None)
    return Export(exporter, text, check(text, rule, network, exporter))
