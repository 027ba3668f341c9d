"""Fill the templates of programs and documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jinja2

Filter = Callable[[str], str]


def fill(
    name: str,
    context: Mapping[str, Any],
    filters: Mapping[str, Filter],
    **syntax: str,
) -> str:
    """Return a filled-in template; a name that is not in the context is an error.

    Args:
        name: the name of the file in `templates/`.
        context: the values of the template's names.
        filters: functions for use in the template; compiled templates are cached for each set.
        syntax: its delimiters, if the usual delimiters have a meaning in the format.
    """
    environment = _environment(tuple(filters.items()), tuple(syntax.items()))
    return environment.get_template(name).render(context)


@cache
def in_library(library: str) -> Filter:
    """Return the filter that inserts the name of the program's array library into code."""
    return lambda code: code.format(xp=library)


@cache
def _environment(
    filters: tuple[tuple[str, Filter], ...], syntax: tuple[tuple[str, str], ...]
) -> jinja2.Environment:
    """Return an environment, which keeps the templates that it has compiled.

    It serves one set of filters, because jinja applies filters to constants as it compiles.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("metaplast.export"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        # Nothing here is HTML: text from files is made safe before it gets here.
        autoescape=False,
        **dict(syntax),  # type: ignore[arg-type]
    )
    environment.filters |= dict(filters)
    return environment
