"""Export a rule; code is returned only after it has reproduced the engine's results."""

from __future__ import annotations

from dataclasses import dataclass

from metaplast.errors import require
from metaplast.export.check import Check, check
from metaplast.export.contract import CodeExporter, Exporter, declared, get_exporter
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


def export_rule(rule: Rule, network: FullyConnected, exporter: Exporter | str) -> Export:
    """Return the rule in a format; code is executed and compared with the engine.

    Args:
        rule: of declared terms.
        network: gives layers and activation.
        exporter: of the format, or the format's name.

    Raises:
        UserError: if the rule does not fit the network or the format, or code could not be
            checked, or it does not do what the engine does.
    """
    if isinstance(exporter, str):
        exporter = get_exporter(exporter)
    for term in rule.terms:
        declared(term)
    require(
        not rule.is_per_layer or len(rule.theta) == network.layers,
        f"the rule has coefficients for {len(rule.theta)} layers, the network has "
        f"{network.layers}; give --widths with {len(rule.theta) + 1} numbers.",
    )
    # A rule's file may hold halves of characters, which UTF-8 cannot: they stay escaped.
    text = exporter.write(rule, network).encode(errors="backslashreplace").decode()
    if not isinstance(exporter, CodeExporter):
        return Export(exporter, text, None)
    return Export(exporter, text, check(text, rule, network, exporter))
