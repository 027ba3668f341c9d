"""Export as Markdown."""

from metaplast.export.document import document
from metaplast.export.exporter import Exporter, Network
from metaplast.export.text import markdown
from metaplast.rules.rule import Rule


class MarkdownExporter(Exporter):
    """Markdown with formulas between dollar signs, as GitHub, Jupyter and Pandoc read it."""

    name = "markdown"
    suffix = ".md"
    summary = "equation, table of coefficients, provenance; formulas between dollar signs"
    aliases = ("md",)

    def write(self, rule: Rule, network: Network) -> str:
        """Return the text; see `Exporter.write`."""
        return document("markdown.md.jinja", rule, network, markdown)


markdown_exporter = MarkdownExporter()
