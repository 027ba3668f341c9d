"""LaTeX compiles or at least parses, Markdown renders, JSON loads back; nothing breaks out."""

import json
import re
import shutil
import subprocess

import pytest
import torch
from markdown_it import MarkdownIt
from pylatexenc.latexwalker import (
    LatexEnvironmentNode,
    LatexMacroNode,
    LatexWalker,
    LatexWalkerParseError,
)
from support import FORWARD, named, random_synapses
from test_code_exports import CASES, PAYLOADS, network, rule

from metaplast import Rule
from metaplast.export import all_exporters, export_rule
from metaplast.terms import notation
from metaplast.terms.term import full_update

LATEX, MARKDOWN, JSON = (all_exporters()[name] for name in ("latex", "markdown", "json"))
BIO = named("error_hebbian", "error_error", "oja")
LETTERS = "".join(map(chr, range(0x20, 0x250)))
HOSTILE = rule(BIO, **{f"key {text}": text for text in PAYLOADS})
DOCUMENTS = {
    **CASES,
    "hostile provenance": (HOSTILE, network()),
    "every letter": (rule(BIO, letters=" ".join(LETTERS)), network()),
    "tiny": (Rule(BIO, ((1.5e-7, -2e-12, 3e20),), "fixed"), network()),
}


def nodes_of(nodes):
    for node in nodes:
        if node is None:
            continue
        yield node
        yield from nodes_of(getattr(node, "nodelist", None) or [])
        arguments = getattr(node, "nodeargd", None)
        yield from nodes_of((arguments.argnlist if arguments else None) or [])


def parsed(text):
    """Return all nodes of a LaTeX text; unbalanced braces or environments are an error."""
    nodes, _, _ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    return list(nodes_of(nodes))


KNOWN = set(
    re.findall(
        r"\S+",
        r"""documentclass usepackage begin end section subsection caption small centering toprule
    midrule bottomrule item Delta ell top odot sigma theta beta mathbf mathrm operatorname text
    lvert rvert log tanh max dots times exp raggedright smallskip tabularnewline textbackslash
    textasciicircum textasciitilde textless textgreater textbar pm cdot mu circ eta varepsilon
    leftarrow quad
    char { } $ & # % _ , \ """,
    )
)


@pytest.mark.slow
@pytest.mark.parametrize("case", DOCUMENTS)
def test_latex_parses_and_uses_known_macros_alone(case):
    text = export_rule(*DOCUMENTS[case], LATEX).text
    nodes = parsed(text)
    environments = [n.environmentname for n in nodes if isinstance(n, LatexEnvironmentNode)]
    assert environments[:2] == ["document", "align*"]
    assert set(environments) <= {"document", "align*", "table", "tabular", "description"}
    assert {n.macroname for n in nodes if isinstance(n, LatexMacroNode)} <= KNOWN


def test_the_latex_parser_finds_what_is_wrong():
    with pytest.raises(LatexWalkerParseError):
        parsed(r"\begin{align*} \frac{1}{2 \end{align*}")


COMPILER = next((c for c in ("pdflatex", "tectonic", "xelatex") if shutil.which(c)), None)


@pytest.mark.skipif(COMPILER is None, reason="no TeX on PATH")
@pytest.mark.parametrize(
    "case",
    ["no terms", "all terms", "all terms per layer", "hostile provenance", "every letter", "tiny"],
)
def test_latex_compiles(case, tmp_path):
    (tmp_path / "rule.tex").write_text(export_rule(*DOCUMENTS[case], LATEX).text, encoding="utf-8")
    halt = [] if COMPILER == "tectonic" else ["-halt-on-error", "-interaction=nonstopmode"]
    done = subprocess.run(
        [COMPILER, *halt, "rule.tex"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "rule.pdf").stat().st_size > 1000


@pytest.mark.parametrize("case", ["feedback fixed", "all terms per layer"])
def test_latex_gives_equation_and_coefficients(case):
    given, net = DOCUMENTS[case]
    text = export_rule(given, net, LATEX).text
    for term in given.terms:
        assert term.name.replace("_", r"\_") in text
        assert term.spell(notation.LATEX) in text


# --- Markdown ---


def tokens_of(case):
    text = export_rule(*DOCUMENTS[case], MARKDOWN).text
    return text, MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)


@pytest.mark.parametrize("case", DOCUMENTS)
def test_markdown_renders_as_headings_table_and_list(case):
    given, _ = DOCUMENTS[case]
    text, tokens = tokens_of(case)
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings == ["Plasticity rule", *(["Terms"] if given.terms else []), "Provenance"]
    rows = [t for t in tokens if t.type == "tr_open"]
    assert len(rows) == (len(given.terms) + 1 if given.terms else 0)
    cells = sum(t.type in ("td_open", "th_open") for t in tokens)
    assert cells == len(rows) * (len(given.theta) + 4)
    assert text.count("$$") == 4
    # A reader that knows no formulas must leave them as they are.
    formulas = [part for k, part in enumerate(re.split(r"(?<!\\)\$+", text)) if k % 2]
    assert formulas
    assert not [f for f in formulas if re.search(r"\\[^a-zA-Z]", f)]
    assert len(re.findall(r"(?<![\\$])\$(?!\$)", text)) % 2 == 0


def test_markdown_shows_foreign_text_as_it_is():
    _, tokens = tokens_of("hostile provenance")
    inline = [child for token in tokens for child in token.children or []]
    kinds = {t.type for t in (*tokens, *inline)}
    assert not kinds & {"html_block", "html_inline", "code_inline", "fence", "link_open", "image"}
    shown = "\n".join("".join(c.content for c in t.children) for t in tokens if t.type == "inline")
    assert "{{ 7 * 7 }}{% raise %}{xp}" in shown
    assert "*/ --> $$ \\end{document} ]]>" in shown


def test_markdown_gives_each_coefficient():
    given, net = DOCUMENTS["all terms per layer"]
    text = export_rule(given, net, MARKDOWN).text
    for term in given.terms:
        start = f"| {term.name} |".replace("_", r"\_")
        (line,) = (line for line in text.splitlines() if line.startswith(start))
        for value in given.coefficients[term.name]:
            mantissa = re.match(r"-?[\d.]+", f"{value:.4g}").group()
            assert f"${mantissa}" in line
        assert term.locality in line


# --- JSON ---


@pytest.mark.parametrize("case", DOCUMENTS)
def test_json_loads_back_as_the_rule(case, tmp_path):
    given, net = DOCUMENTS[case]
    text = export_rule(given, net, JSON).text
    (tmp_path / "rule.json").write_text(text, encoding="utf-8")
    loaded = Rule.load(tmp_path / "rule.json")
    assert loaded == given
    assert loaded.provenance == given.provenance
    assert json.loads(text)["network"] == {
        "widths": list(net.widths), "activation": net.activation, "init": net.init,
    }  # fmt: skip


def plain(function, x):
    """Return an elementwise function of the JSON form."""
    return {
        "same": x, "square": x**2, "cube": x**3, "sign": (x > 0) * 1.0 - (x < 0) * 1.0,
        "rectified": torch.where(x > 0, x, 0.0), "magnitude": torch.where(x > 0, x, -x),
    }[function]  # fmt: skip


def vector(spec, ends, matrix):
    """Return a vector of the JSON form; a plain interpreter that shares nothing with ours."""
    values = {
        ("post", "activity"): ends.post_activity, ("post", "error"): ends.post_error,
        ("pre", "activity"): ends.pre_activity, ("pre", "error"): ends.pre_error,
        ("post", "one"): torch.ones_like(ends.post_error),
        ("pre", "one"): torch.ones_like(ends.pre_error),
    }  # fmt: skip
    if isinstance(spec, list):
        parts = [plain(part["function"], vector(part, ends, matrix)) for part in spec]
        return torch.stack(parts).prod(0)
    value = values[spec["population"], spec["kind"]][0, 0]
    return matrix.T @ value if "through" in spec else value


@pytest.mark.parametrize("term", [*FORWARD, *CASES["every part of the algebra"][0].terms])
def test_json_monomials_mean_the_formula(term):
    data = json.loads(export_rule(rule((term,), "plastic"), network(), JSON).text)
    ends = random_synapses(term.matrix, episodes=1)
    matrix = ends.operator.tensor[0]
    total = torch.zeros_like(matrix)
    for monomial in data["terms"][term.name]["monomials"]:
        part = matrix
        if monomial["row"] is not None:
            row, column = (vector(monomial[k], ends, matrix) for k in ("row", "column"))
            part = row[:, None] * column[None, :]
        for left, right in monomial["gates"]:
            part = part * (vector(left, ends, matrix) * vector(right, ends, matrix)).sum()
        part = part * matrix ** monomial.get("power", 0)
        total += monomial["coefficient"] * part
    assert torch.allclose(total, full_update(term, ends)[0], atol=1e-12)
