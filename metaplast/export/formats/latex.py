"""Export as a LaTeX document."""

from metaplast.export.document import document
from metaplast.export.exporter import Exporter, Network
from metaplast.export.text import latex
from metaplast.rules.rule import Rule


class LatexExporter(Exporter):
    """A complete document that compiles; its parts can be copied into others."""

    name = "latex"
    suffix = ".tex"
    summary = "a document that compiles: equation, table of coefficients, provenance"
    aliases = ("tex",)

    def write(self, rule: Rule, network: Network) -> str:
        """Return the document; see `Exporter.write`."""
        return document(
            "latex.tex.jinja", rule, network, latex,
            # Braces and percent signs belong to LaTeX.
            block_start_string="<%", block_end_string="%>",
            variable_start_string="<<", variable_end_string=">>",
            comment_start_string="<#", comment_end_string="#>",
        )  # fmt: skip


latex_exporter = LatexExporter()
