"""The reference: one page for each folder with public names, made from their docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import metaplast
from site_parts.equations import typeset

# Titles of pages, in the order of the table of contents. A folder that is not here comes last, and
# its page has its name.
TITLES = {
    "discovery": "Discovery",
    "rules": "Rules",
    "terms": "Terms",
    "systems": "Systems, feedbacks, objectives, constraints",
    "tasks": "Tasks and data",
    "engines": "Engines",
    "meta": "The outer loop",
    "online": "Online training",
    "export": "Export",
    "reservoirs": "Reservoirs",
    "base": "Basics for plug-ins",
}
INTRODUCTION = """\
Reference
=========

These are the public names: what ``metaplast`` offers, and what its folders offer to plug-ins.
Semantic versioning holds for the names of ``metaplast``. Everything else is private.

"""


def folders() -> dict[str, str]:
    """Return the title of the page of every folder that offers names."""
    found = sorted(info.name for info in pkgutil.iter_modules(metaplast.__path__) if info.ispkg)
    offering = {name for name in found if hasattr(_module(name), "__all__")} | set(TITLES)
    others = {name: name.replace("_", " ").capitalize() for name in found if name in offering}
    return {**TITLES, **{name: title for name, title in others.items() if name not in TITLES}}


def _module(folder: str) -> Any:
    return importlib.import_module(f"metaplast.{folder}")


def names_of(module: str) -> list[str]:
    """Return the public names of a module, sorted without regard to case."""
    return sorted(importlib.import_module(module).__all__, key=str.lower)


def listed(folder: str) -> list[str]:
    """Return the full public names that a folder's page lists, those of `metaplast` first."""
    of_folder = names_of(f"metaplast.{folder}")
    homes = metaplast._HOMES
    top = [n for n in names_of("metaplast") if homes[n].split(".")[0] == folder]
    rest = [n for n in of_folder if n not in homes]
    return [f"metaplast.{n}" for n in top] + [f"metaplast.{folder}.{n}" for n in rest]


def found(name: str) -> Any:
    """Return the object with a full name."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def summary(name: str) -> str:
    """Return the first sentence of what a name is."""
    value = found(name)
    own = inspect.isclass(value) or inspect.isroutine(value)
    text = inspect.getdoc(value if own else type(value)) or ""
    return " ".join(text.split("\n\n")[0].split())


def entry(name: str) -> str:
    """Return the directive that documents a name."""
    value, (module, _, last) = found(name), name.rpartition(".")
    if inspect.isclass(value):
        return f".. autoclass:: {name}\n   :members:\n   :exclude-members: __new__, __init__\n"
    if inspect.isroutine(value):
        return f".. autofunction:: {name}\n"
    kind = type(value).__name__
    return f".. py:data:: {last}\n   :module: {module}\n   :type: {kind}\n\n   {summary(name)}\n"


def page(title: str, names: list[str], about: str) -> str:
    """Return a page of the reference."""
    parts = [f"{title}\n{'=' * len(title)}\n", f"{about}\n", *map(entry, names)]
    return "\n".join(parts)


def pages() -> dict[str, str]:
    """Return all pages of the reference by name, the index first."""
    made = {
        folder: page(title, listed(folder), f"From ``metaplast`` and ``metaplast.{folder}``.")
        for folder, title in folders().items()
    }
    sources = [f"episodes.{name}" for name in names_of("episodes")]
    made["episodes"] = page("Your own data", sources, "From the package ``episodes``.")
    toctree = "\n".join(f"   {name}" for name in made)
    everything = [name for folder in folders() for name in listed(folder)] + sources
    rows = [f"   * - :py:obj:`{name}`\n     - {_cell(summary(name))}" for name in everything]
    table = ".. list-table::\n   :widths: 40 60\n\n" + "\n".join(rows)
    made["index"] = f"{INTRODUCTION}.. toctree::\n   :hidden:\n\n{toctree}\n\n{table}\n"
    return made


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


def write(app: Any) -> None:
    """Write the pages that have changed."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    made = {f"{name}.rst": text for name, text in pages().items()}
    for old in set(folder.glob("*.rst")) - {folder / name for name in made}:
        old.unlink()
    for name, text in made.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")


def docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Typeset the equations of a docstring, and keep signs that mean something to Sphinx."""
    if what in ("attribute", "property") and lines:
        lines[0] = lines[0].replace(": ", " – ")  # A colon there would end a type.
    if lines and lines[0].startswith("Alias for field number"):
        lines[:] = []  # Of a named tuple.
    lines[:] = typeset(lines)


def _name_attributes() -> None:
    """Call the attributes of a class Attributes, and not Variables."""
    from sphinx.domains.python import PyObject

    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before Sphinx reads them."""
    _name_attributes()
    app.connect("builder-inited", write, priority=400)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    return {"parallel_read_safe": True}
