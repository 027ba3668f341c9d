"""Export as a LaTeX document."""

from metaplast.export.contract import Exporter
from metaplast.export.document import document
from metaplast.export.text import latex
from metaplast.network import FullyConnected
from metaplast.rule import Rule


class LatexExporter(Exporter):
    """A document that compiles as it is; its parts can be pasted."""

    name = "latex"
    suffix = ".tex"
    summary = "a document that compiles: equation, table of coefficients, provenance"
    aliases = ("tex",)

    def write(self, rule: Rule, network: FullyConnected) -> str:
        """Return the document; see `Exporter.write`."""
        return document(
            "latex.tex.jinja", rule, network, latex,
            # Braces and percent signs are LaTeX's own.
            block_start_string="<%", block_end_string="%>",
            variable_start_string="<<", variable_end_string=">>",
            comment_start_string="<#", comment_end_string="#>",
        )  # fmt: skip


latex_exporter = LatexExporter()
