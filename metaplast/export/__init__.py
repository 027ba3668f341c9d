"""Export a rule as stand-alone code, as an equation, or as data.

An exporter is one small file in `formats/`, found through the entry-point group
`metaplast.exporters`. Code is run and compared with the engine before it is returned.
"""

from metaplast.export.export import Export, export_rule
from metaplast.export.exporter import CodeExporter, Exporter, all_exporters, get_exporter
from metaplast.export.network_choice import Wanted, network_of, open_rule

__all__ = [
    "CodeExporter",
    "Export",
    "Exporter",
    "Wanted",
    "all_exporters",
    "export_rule",
    "get_exporter",
    "network_of",
    "open_rule",
]
