"""Export as JSON."""

import json
from dataclasses import asdict

from metaplast.export.contract import Exporter, declared
from metaplast.export.text import plain
from metaplast.network import FullyConnected
from metaplast.rule import Rule


class JsonExporter(Exporter):
    """A rule's file, with its network, and each formula as data for programs that know no text."""

    name = "json"
    suffix = ".json"
    summary = "data: coefficients, formulas as text and as monomials, network; loads as a rule"

    def write(self, rule: Rule, network: FullyConnected) -> str:
        """Return the JSON text; see `Exporter.write`."""
        data = rule.to_json()
        for term in rule.terms:
            declared(term)
        data["network"] = asdict(network) | {"widths": list(network.widths)}
        data["provenance"] = plain(rule.provenance)
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


json_exporter = JsonExporter()
