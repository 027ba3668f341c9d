"""Equations as MathML, which browsers typeset themselves: no script and no font is loaded."""

from __future__ import annotations

from typing import Any

from metaplast.rules.notebook import mathml


def inline(translator: Any, node: Any) -> None:
    """Write an equation within a sentence."""
    translator.body.append(mathml(node.astext()))
    raise _skip()


def block(translator: Any, node: Any) -> None:
    """Write an equation on lines of its own; a narrow page scrolls it."""
    lines = (line for line in node.astext().split(r"\\") if line.strip())
    for line in lines:
        converted = mathml(line.strip()).replace('display="inline"', 'display="block"')
        translator.body.append(f'<div class="equation-line">{converted}</div>\n')
    raise _skip()


def _skip() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer under the name `mathml`."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline, None), block_renderers=(block, None)
    )
    return {"parallel_read_safe": True}
