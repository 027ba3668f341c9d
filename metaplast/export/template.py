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
    """Return a filled-in template; a name that the context does not have is an error.

    Args:
        name: the name of the file in `templates/`.
        context: the values of the template's names.
        filters: functions for use in the template.
        syntax: its delimiters, if the usual ones have a meaning in the format.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("metaplast.export"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        # Nothing here is HTML: foreign text is made safe before it gets here.
        autoescape=False,
        **syntax,  # type: ignore[arg-type]
    )
    environment.filters |= filters
    return environment.get_template(name).render(context)
