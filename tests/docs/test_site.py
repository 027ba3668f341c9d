"""The modules that make the site: reference, gallery, equations, and the check of what is built."""

import importlib
import importlib.util
import json
import sys
import xml.dom.minidom
from pathlib import Path

import pytest

import metaplast
from metaplast.rules.notebook import mathml

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))
api, equations, gallery, pages = (
    importlib.import_module(f"site_parts.{name}")
    for name in ("api", "equations", "gallery", "pages")
)
sys.path.remove(str(DOCS))


def checker():
    spec = importlib.util.spec_from_file_location("check_site", DOCS / "check_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public():
    """Return the objects of all public names of metaplast and its folders."""
    folders = [
        f"metaplast.{path.parent.name}" for path in DOCS.parent.glob("metaplast/*/__init__.py")
    ]
    modules = [importlib.import_module(name) for name in ("metaplast", *folders)]
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules
        for name in getattr(module, "__all__", ())
    }


def test_every_public_name_is_in_the_reference_once():
    listed = [name for folder in api.folders() for name in api.listed(folder)]
    assert len(set(listed)) == len(listed)
    assert {f"metaplast.{name}" for name in metaplast.__all__} <= set(listed)
    by_last = {name.rpartition(".")[2] for name in listed}
    assert {name.rpartition(".")[2] for name in public()} == by_last
    made = api.pages()
    assert ":: metaplast.discover\n" in made["discovery"]
    assert ":: metaplast.systems.Group\n" in made["systems"]
    assert ":: metaplast.Term\n" not in made["discovery"]
    assert ":py:obj:`episodes.from_tensors`" in made["index"]


def test_every_equation_of_a_public_docstring_is_typeset():
    found = 0
    for name, value in public().items():
        lines = (value.__doc__ or "").splitlines() if callable(value) else []
        if not lines:
            continue
        lines = [lines[0], *(line[4:] for line in lines[1:])]
        typeset = equations.typeset(lines)
        for line in typeset:
            if line.endswith(r" \\"):
                found += 1
                text = mathml(line.strip().removesuffix(r"\\"))
                assert "\\" not in text, (name, text)
                xml.dom.minidom.parseString(text)
    assert found > 15


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("e_t = B_h e_{t+1} ⊙ σ'(z_t)", r"e_{t} = B_{h} e_{t+1} \odot  \sigma '(z_{t})"),
        ("ē = (I − G Wᵀ)⁻¹ ∇", r"\bar{e} = (I - G W^{T})^{-1} \nabla "),
        ("W_out = linearised_error", r"W_{out} = \;\text{linearised\_error}\;"),
        ("max_i |r|_i ≤ 1", r"\mathrm{max}_{i} |r|_{i} \le  1"),
    ],
)
def test_an_equation_in_plain_text_becomes_latex(plain, latex):
    assert equations.is_equation([plain])
    assert equations.latex(plain) == latex
    xml.dom.minidom.parseString(mathml(latex))


@pytest.mark.parametrize("text", [">>> x = 1", "- name = what", "print('a = b')", "no sign here"])
def test_what_is_not_an_equation_stays(text):
    assert not equations.is_equation([text])
    before = ["Text.", "", f"    {text}", "", "|r| * more"]
    assert equations.typeset(before)[:4] == ["Text.", "", "::", ""]


def test_the_gallery_has_every_claim_of_every_stored_result():
    text = gallery.gallery(DOCS / "results")
    stored = [json.loads(path.read_text("utf-8")) for path in DOCS.glob("results/*.json")]
    claims = [claim for summary in stored for claim in summary["verdicts"]]
    assert text.count("{.verdict ") == len(claims) > 60
    for summary in stored:
        assert f"(results/{summary['figures'][0]}.png)" in text
    for claim in claims:
        assert f"{claim['claim']}: {gallery.number(claim)} ({claim['criterion']})" in text


def test_a_page_that_no_list_names_is_at_the_end_of_the_guides(tmp_path):
    for name in ("index", "start", "recordings"):
        (tmp_path / f"{name}.md").write_text("# A page\n")
    assert pages.unlisted(tmp_path, "start\n% other guides\n") == ["recordings"]


GOOD = '<h1 id="top">A</h1><a href="b.html#end">b</a><img src="data:image/png;base64,AA">'


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "a.html loads https://cdn.example/x"),
        ('<link rel="stylesheet" href="//fonts.example/f.css">', "a.html loads //fonts.example"),
        ('<a href="c.html">c</a>', "links to c.html, which does not exist"),
        ('<a href="b.html#middle">b</a>', "links to b.html#middle, which has no such place"),
        ('<a href="https://example.org">elsewhere</a>', ""),
    ],
)
def test_the_check_of_the_site_finds(more, fault, tmp_path, capsys):
    (tmp_path / "a.html").write_text(GOOD + more)
    (tmp_path / "b.html").write_text('<p id="end">B</p>')
    assert checker().main([str(tmp_path)]) == bool(fault)
    assert fault in capsys.readouterr().out
    (tmp_path / "s.css").write_text('@import "https://fonts.example/f.css";')
    assert "s.css loads https://fonts.example/f.css" in "".join(checker().faults(tmp_path))
