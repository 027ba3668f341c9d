"""Check the built site: it loads nothing from another host, and its own links lead somewhere.

python docs/check_site.py site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself: attributes of elements, and addresses in style sheets and scripts.
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)")
SCRIPTS = re.compile(r"(?:fetch|importScripts|import)\(\s*[\"'`]((?:https?:)?//[^\"'`]+)")
# A link element of these kinds is not loaded.
NOT_LOADED = {"author", "canonical", "copyright", "index", "next", "prev", "search", "top"}


class Page(HTMLParser):
    """Collects what a page loads, where its links lead, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read the start of an element."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        target = given.get(LOADED.get(tag, ""), "")
        if target and not (tag == "link" and given.get("rel", "") in NOT_LOADED):
            self.loads.append(target)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        self.loads += STYLES.findall(given.get("style", ""))


def is_elsewhere(address: str) -> bool:
    """Tell whether an address is on another host; data within the page is not."""
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme not in ("", "data")


def faults(site: Path) -> Iterator[str]:
    """Yield a sentence for everything that is wrong."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} has no pages."
    for path in sorted([*site.rglob("*.css"), *site.rglob("*.js")]):
        pattern = STYLES if path.suffix == ".css" else SCRIPTS
        for address in pattern.findall(path.read_text("utf-8")):
            yield f"{path.relative_to(site)} loads {address}."
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (f"{name} loads {each}." for each in page.loads if is_elsewhere(each))
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            inside = target.is_relative_to(site.resolve())
            known = pages.get(site / target.relative_to(site.resolve())) if inside else None
            if not inside or not target.exists():
                yield f"{name} links to {link}, which does not exist."
            elif known and parts.fragment and unquote(parts.fragment) not in known.anchors:
                yield f"{name} links to {link}, which has no such place."


def main(arguments: Sequence[str]) -> int:
    """Print what is wrong with the site in a folder; return the exit code."""
    found = list(faults(Path(arguments[0])))
    print(
        "\n".join(found) or "The site loads nothing from elsewhere, and its links lead somewhere."
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
