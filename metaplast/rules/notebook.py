"""Show a rule in notebooks and pages: typeset equations and a table of terms."""

from __future__ import annotations

import html

from metaplast.rules.equation import MATRICES
from metaplast.rules.rule import Rule
from metaplast.terms.notation import LATEX, TEXT

# Browsers render latex2mathml's output for these wrongly: bold letters, escapes within text, and
# capital Greek letters, which LaTeX sets upright.
_MENDED = {
    'mathvariant="bold"': 'style="font-weight: bold"',
    "\\_": "_",
    "<mi>&#x00394;</mi>": '<mi mathvariant="normal">&#x00394;</mi>',
}


def mathml(latex: str) -> str:
    """Return LaTeX as MathML, which browsers typeset on their own."""
    from latex2mathml.converter import convert

    converted: str = convert(latex)
    for theirs, browsers in _MENDED.items():
        converted = converted.replace(theirs, browsers)
    return converted


def equation_html(rule: Rule) -> str:
    """Return the equations as MathML, one term at a time, so that a narrow page can break them."""
    lines = []
    for matrix in MATRICES:
        parts = rule.summands(matrix, LATEX)
        if not parts and (matrix == "B" or rule.terms):
            continue
        pieces = [f"{LATEX.delta}{LATEX.matrix[matrix]} ="]
        # An empty group makes a sign binary, with space around it.
        pieces += [
            (f"{{}} {sign} {text}" if index or sign != "+" else text)
            for index, (sign, text) in enumerate(parts)
        ] or ["0"]
        spans = " ".join(f"<span>{mathml(piece)}</span>" for piece in pieces)
        lines.append(f'<div class="equation">{spans}</div>')
    return "".join(lines)


def rule_html(rule: Rule) -> str:
    """Return the equation as MathML with a table of the terms below it."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in _rows(rule)
    )
    head = "".join(f"<th>{name}</th>" for name in _HEAD)
    return (
        f"{equation_html(rule)}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def rule_latex(rule: Rule) -> str:
    """Return the equations as one block of LaTeX, aligned at their equals signs."""
    lines = [line.replace(" = ", " &= ", 1) for line in rule.equation(LATEX).splitlines()]
    body = r" \\ ".join(lines)
    return rf"$\displaystyle \begin{{aligned}} {body} \end{{aligned}}$"


def rule_markdown(rule: Rule) -> str:
    """Return the equation as LaTeX with a table of the terms below it, in Markdown."""
    # An unescaped bar would end the cell.
    rows = [" | ".join(c.replace("|", "\\|") for c in row) for row in (_HEAD, *_rows(rule))]
    rows.insert(1, " | ".join("---" for _ in _HEAD))
    equations = "\n".join(f"$${line}$$" for line in rule.equation(LATEX).splitlines())
    return "\n".join([equations, "", *(f"| {row} |" for row in rows)])


_HEAD = ("term", "formula", "θ", "locality", "source")


def _rows(rule: Rule) -> list[tuple[str, ...]]:
    """Return the table's entries for each term."""
    return [
        (
            term.name,
            f"Δ{TEXT.matrix[term.matrix.name]} = {term.spell()}",
            typographic(rule.named_theta.text(term.name)),
            term.locality,
            term.citation,
        )
        for term in rule.terms
    ]


def typographic(numbers: str) -> str:
    """Return a text of numbers with proper minus signs instead of hyphens, for pages."""
    return numbers.replace("-", "−")
