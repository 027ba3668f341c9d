"""Fill the templates of programs and documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2


def fill(
    name: str,
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[[str], str]],
    **syntax: str,
) -> str:
    """Return a template filled in; a name that the context lacks is an error.

    Args:
        name: of the file in `templates/`.
        context: what the template's names stand for.
        filters: functions that the template applies.
        syntax: its delimiters, where the usual ones mean something in the format.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("metaplast.export"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        # Nothing here is HTML: what is foreign is made safe before it gets here.
        autoescape=False,
        **syntax,  # type: ignore[arg-type]
    )
    environment.filters |= filters
    return environment.get_template(name).render(context)
