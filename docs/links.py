"""Looks at the built site as a browser would: every link inside it leads somewhere, and nothing is fetched from elsewhere.

Sphinx checks the links that it resolves. This one checks what came out: files, anchors, pictures, scripts and styles. Links to other sites are
not followed, since a build needs no network; that they are `https` is all that is asked of them.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a page fetches by itself, and so must come with the site.
FETCHED = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src")}
LINKED = {*FETCHED, ("a", "href")}


class Page(HTMLParser):
    """The anchors of a page, and where its links lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.anchors: set[str] = set()
        self.links: list[tuple[str, bool]] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        for name, value in attrs:
            if value and name in {"id", "name"}:
                self.anchors.add(value)
            if value and (tag, name) in LINKED:
                self.links.append((value, (tag, name) in FETCHED))


def wrong(site: Path) -> list[str]:
    """A line for each link that leads nowhere."""
    pages = {page.resolve(): Page(page) for page in sorted(site.rglob("*.html"))}
    found = []
    for page in pages.values():
        for link, fetched in page.links:
            if problem := _problem(page, link, pages, fetched=fetched):
                found.append(f"{page.path.relative_to(site)}: {link}: {problem}")
    return found


def _problem(page: Page, link: str, pages: dict[Path, Page], *, fetched: bool) -> str | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        if parts.scheme == "data":
            return None
        if fetched:
            return "expected a file of the site, found one from elsewhere"
        return None if parts.scheme == "https" else "expected https"
    target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
    if not target.exists():
        return "expected a file of the site, found none"
    # The search page makes its own anchors.
    if parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "expected an anchor of that page, found none"
    return None


def main(arguments: list[str]) -> int:
    """`links.py SITE`."""
    site = Path(arguments[0])
    found = wrong(site)
    print("\n".join(found) if found else f"all links of {len(list(site.rglob('*.html')))} pages lead somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
