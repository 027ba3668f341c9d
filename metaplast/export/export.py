"""Export a rule; code is returned only after it has reproduced the engine's results."""

from __future__ import annotations

from dataclasses import dataclass

from metaplast.base.errors import require
from metaplast.export.check import Check, check
from metaplast.export.exporter import CodeExporter, Exporter, Network, declared, get_exporter
from metaplast.rules.rule import Rule


@dataclass(frozen=True)
class Export:
    """A rule in one format.

    Attributes:
        exporter: the exporter that wrote it.
        text: the text to be written.
        check: the difference between the code and the engine; None for formats without code.
    """

    exporter: Exporter
    text: str
    check: Check | None


def export_rule(rule: Rule, network: Network, exporter: Exporter | str) -> Export:
    """Return the rule in a format; code is executed and compared with the engine.

    Args:
        rule: a rule of declared terms.
        network: provides layers and activation, and the objective if the rule names none.
        exporter: the exporter of the format, or the format's name.

    Raises:
        UserError: if the rule does not fit the network or the format, or code cannot be checked, or
            its results differ from the engine's.
    """
    if isinstance(exporter, str):
        exporter = get_exporter(exporter)
    for term in rule.terms:
        declared(term)
    require(
        rule.named_theta.fits(len(network.sites)),
        f"the rule has coefficients for {len(rule.theta)} layers, the network has "
        f"{len(network.sites)}; give --widths with {len(rule.theta) + 1} numbers.",
    )
    # A rule's file may hold unpaired surrogates, which UTF-8 cannot encode, so they stay escaped.
    text = exporter.write(rule, network).encode(errors="backslashreplace").decode()
    if not isinstance(exporter, CodeExporter):
        return Export(exporter, text, None)
    return Export(exporter, text, check(text, rule, network, exporter))
