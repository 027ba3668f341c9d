"""README and docs: links lead somewhere, and every block is run or says why it is not."""

import ast
import importlib.util
import re
import tomllib

import pytest
from documents import LANGUAGES, PAGES, ROOT, blocks, commands, ours, tokens

from metaplast.commands import command_names

INDEX = (ROOT / "docs" / "index.md").read_text("utf-8")
# Pages that building the site makes.
MADE = {"docs/gallery.md", "docs/api/index.rst"}
# Programs that are not ours, of which a page may show the command line.
OTHERS = ("pip", "bash", "python", "uv", "uvx", "alias", "source", "tensorboard", "git")


def slug(heading):
    """Return the anchor that GitHub and MyST give a heading."""
    text = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return text.strip().replace(" ", "-")


def anchors(path):
    lines = path.read_text("utf-8").splitlines()
    return {slug(line.lstrip("#")) for line in lines if re.match(r"#+ ", line)}


def links(page):
    for token in tokens(page):
        for child in token.children or ():
            target = child.attrGet("src") if child.type == "image" else child.attrGet("href")
            if target:
                yield str(target)


def test_links_and_pictures_are_found():
    found = list(links("docs/design.md"))
    assert "concepts.md" in found
    assert "images/house.svg" in found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for target in links(page):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (PAGES[page].parent / name).resolve() if name else PAGES[page]
        if path.relative_to(ROOT).as_posix() in MADE:
            continue
        assert path.exists(), (page, target)
        assert not anchor or anchor in anchors(path), (page, target)


@pytest.mark.parametrize("page", PAGES)
def test_blocks_have_a_language_and_are_fenced(page):
    assert not [token.content for token in tokens(page) if token.type == "code_block"]
    for block in blocks(page):
        assert block.language in LANGUAGES, block


@pytest.mark.parametrize("page", PAGES)
def test_command_lines_are_ours_or_say_why_they_are_not_run(page):
    for block in blocks(page):
        if block.language != "sh":
            continue
        for words in commands(block):
            if ours(words):
                name = ours(words)[0]
                assert name in (*command_names(), "--help"), words
            elif words[:2] != ["python", "docs/draw_house.py"]:
                assert block.not_run, words
                assert words[0] in OTHERS, words


@pytest.mark.parametrize("page", PAGES)
def test_python_and_toml_can_be_read(page):
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text)
        if block.language == "toml":
            tomllib.loads(block.text)


def test_every_page_is_in_the_table_of_contents_or_at_the_end_of_the_guides():
    listed = {line.strip() for line in INDEX.splitlines()}
    assert "% other guides" in listed
    for name in listed & {"start", "concepts", "discover", "own_data", "design"}:
        assert f"docs/{name}.md" in PAGES
    named = [line for line in listed if re.fullmatch(r"[a-z_]+", line)]
    assert len(named) > 20
    for name in named:
        assert f"docs/{name}.md" in PAGES or name == "gallery", name


def test_the_readme_is_short_and_its_picture_up_to_date():
    readme = PAGES["README.md"].read_text("utf-8")
    assert len(readme.splitlines()) <= 100
    script = ROOT / "docs" / "draw_rule.py"
    spec = importlib.util.spec_from_file_location("draw_rule", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--check"]) == 0
    for name, mean, low, high, _ in module.BARS:
        assert f"{mean} [{low}, {high}]" in (ROOT / "docs" / "findings.md").read_text("utf-8"), name
