"""Fill the templates of pages, which share one style sheet."""

from __future__ import annotations

from importlib.resources import files
from typing import Any


def filled_page(template: str, **values: Any) -> str:
    """Return a page: a template of this folder, with the common style and these values."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("metaplast.report")
    source, style = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in (template, "page.css")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(source).render(style=Markup(style), **values)
