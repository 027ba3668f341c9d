"""Read README and docs: pages, fenced blocks with the comments above them, commands, links."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
# Pages that a program writes are tested with the program.
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").glob("*.md")),
    )
    if path.name != "gallery.md"
}
LANGUAGES = {"sh", "python", "toml", "text"}
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>\S.*?) -->\s*", re.DOTALL)
# A block whose first line names a file of this package is that file.
_FILE = re.compile(r"# (my_package/\w+\.py)\n")


class Block(NamedTuple):
    """A fenced block: its page, first line, language and text, and why it is not run, if so."""

    page: str
    line: int
    language: str
    text: str
    not_run: str

    @property
    def file(self) -> str:
        """The file that the block is, or nothing."""
        found = _FILE.match(self.text)
        return found[1] if found and self.language == "python" else ""


def tokens(page):
    return MarkdownIt("commonmark").enable("table").parse(PAGES[page].read_text("utf-8"))


def blocks(page):
    """Return the fenced blocks of a page, in order."""
    found, before = [], None
    for token in tokens(page):
        if token.type == "fence":
            said = before is not None and before.type == "html_block"
            reason = _NOT_RUN.fullmatch(before.content) if said else None
            found.append(
                Block(
                    page, token.map[0] + 1, token.info.strip(), token.content,
                    reason["reason"] if reason else "",
                )
            )  # fmt: skip
        before = token
    return found


def commands(block):
    """Return the command lines of a block as lists of words."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def ours(words):
    """Return name and arguments if a command line is one of metaplast's commands, else None."""
    words = list(words)
    if words[:2] == ["uv", "run"]:
        words = words[2:]
        while words and words[0] in ("--extra", "--group", "--quiet"):
            words = words[1 if words[0] == "--quiet" else 2 :]
    if words[:1] == ["metaplast"]:
        return words[1], words[2:]
    script = re.fullmatch(r"scripts/(\w+)\.py", words[0]) if words else None
    return (script[1], words[1:]) if script else None
