"""Indices in sentences: W_x and z_{t+1} have a subscript on the site, and F^k a superscript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

# One letter, perhaps with a Δ before and a sign above, and its index: in braces, or short.
_INDEX = re.compile(
    r"(?<![\w/.])([Δδ∂]?[A-Za-zα-ωΑ-Ωℓ][\u0300-\u036f]?)([_^])(?:\{([^{}]+)\}|([A-Za-z0-9ℓ]{1,3}))(?![A-Za-z0-9_])"
)
_VERBATIM = (
    nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw, nodes.title,
    nodes.comment, nodes.FixedTextElement,
)  # fmt: skip


class Indices(SphinxPostTransform):
    """Makes subscripts and superscripts, except in code, equations and titles."""

    default_priority = 900
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace each text that has an index."""
        for text in list(self.document.findall(nodes.Text)):
            if _INDEX.search(text) and not _is_verbatim(text):
                text.parent.replace(text, list(pieces(str(text))))


def _is_verbatim(node: Any) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, (*_VERBATIM, addnodes.desc_signature)):
            return True
    return False


def pieces(text: str) -> Iterator[nodes.Node]:
    """Yield a text as plain parts, subscripts and superscripts."""
    start = 0
    for match in _INDEX.finditer(text):
        yield nodes.Text(text[start : match.start()] + match[1])
        index = match[3] or match[4]
        kind = nodes.subscript if match[2] == "_" else nodes.superscript
        yield kind(index, index)
        start = match.end()
    if start < len(text):
        yield nodes.Text(text[start:])


def setup(app: Any) -> dict[str, bool]:
    """Register the transform."""
    app.add_post_transform(Indices)
    return {"parallel_read_safe": True}
