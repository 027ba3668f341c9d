"""Export as JSON."""

import json

from metaplast.export.exporter import Exporter, Network, declared
from metaplast.export.text import plain
from metaplast.rules.rule import Rule
from metaplast.systems.constrained import constrained
from metaplast.systems.fully_connected import FullyConnected


class JsonExporter(Exporter):
    """A rule's file with its network, and formulas as data, so that no program need parse text."""

    name = "json"
    suffix = ".json"
    summary = "data: coefficients, formulas as text and as monomials, network; loads as a rule"

    def write(self, rule: Rule, network: Network) -> str:
        """Return the JSON text; see `Exporter.write`."""
        data = rule.to_json()
        for term in rule.terms:
            declared(term)
        spec = constrained(network, rule.weights).spec()
        own = set(spec) - {"feedback", "objective"}
        if isinstance(network, FullyConnected):
            own = {"widths", "activation", "init", "weights"}
        data["network"] = {name: value for name, value in spec.items() if name in own}
        data["provenance"] = plain(rule.provenance)
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


json_exporter = JsonExporter()
