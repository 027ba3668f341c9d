"""Export as JSON."""

import json
from dataclasses import asdict
from typing import Any

from metaplast.algebra import Formula, Projection, Vector
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
            data["terms"][term.name] |= {
                "matrix": term.matrix.name,
                "monomials": monomials(declared(term)),
            }
        data["network"] = asdict(network) | {"widths": list(network.widths)}
        data["provenance"] = plain(rule.provenance)
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def monomials(formula: Formula) -> list[dict[str, Any]]:
    """Return a formula as data: coefficient · Π ⟨left, right⟩ · row ⊗ column, or · the matrix."""
    return [
        {
            "coefficient": monomial.coefficient,
            "gates": [[_vector(gate.left), _vector(gate.right)] for gate in monomial.gates],
            "row": monomial.row and _vector(monomial.row),
            "column": monomial.column and _vector(monomial.column),
        }
        for monomial in formula.monomials
    ]


def _vector(vector: Vector) -> dict[str, str]:
    """Return a signal as data; one that the transposed matrix carries says through which."""
    if isinstance(vector, Projection):
        return _vector(vector.signal) | {"through": f"transposed {vector.matrix.name}"}
    return {"population": vector.population, "kind": vector.kind}


json_exporter = JsonExporter()
