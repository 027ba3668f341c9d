"""Pages and links: what GitHub shows and what the site shows are the same files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# Files beside docs/ that are pages of the site.
BESIDE = {"../CONTRIBUTING.md": "contributing.md", "../CHANGELOG.md": "changelog.md"}
MARK = "% other guides"


def read(app: Any, name: str, source: list[str]) -> None:
    """Point links to files beside docs/ at their pages, and list pages that no list names."""
    for path, page in BESIDE.items():
        source[0] = re.sub(rf"\]\({re.escape(path)}(#[^)]*)?\)", rf"]({page}\1)", source[0])
    if name == "index":
        source[0] = source[0].replace(MARK, "\n".join(unlisted(Path(app.srcdir), source[0])))


def unlisted(folder: Path, index: str) -> list[str]:
    """Return the pages directly in a folder that no line of the index is."""
    lines = {line.strip() for line in index.splitlines()} | {"index"}
    return sorted(path.stem for path in folder.glob("*.md") if path.stem not in lines)


def setup(app: Any) -> dict[str, bool]:
    """Read every page through `read`."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True}
