"""The site of these pages: `make docs` builds it, and every warning is an error.

The pages are read in the repository, too, so they are plain Markdown with relative links. The source folder of the site is the repository
itself, so that a link to an example or a notebook leads to the same file in both places. The navigation is made from the lists of `index.md`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
INDEX = "docs/index"

project = "evbackup"
author = "The evbackup authors"
version = release = re.findall(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[0]

extensions = ["myst_nb"]
root_doc = INDEX
include_patterns = ["docs/**", "examples/notebooks/*.ipynb", "CHANGELOG.md", "CONTRIBUTING.md"]
# Folders that need not be searched.
exclude_patterns = [".*", "dist", "target", "src", "tests", "python", "proto", "docs/_*", "**/.ipynb_checkpoints"]
nitpicky = True

# A dash pair is an option, and a quote in a code word is a quote.
smartquotes = False
myst_heading_anchors = 4
# Notebooks run when they or the module have changed, and a cell that fails fails the build.
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_cache_path = str(ROOT / "dist" / "notebooks")

html_theme = "furo"
html_title = f"evbackup {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options: dict[str, list[str]] = {"top_of_page_buttons": []}

LISTED = re.compile(r"^- \[[^\]]+\]\(([\w/.-]+\.(?:md|ipynb))\)", re.MULTILINE)


def navigation(_: Sphinx, page: str, source: list[str]) -> None:
    """Puts behind each list of the index a table of contents of the pages in it, for the side bar.

    A page that stands in none of them is a warning of Sphinx, and so an error.
    """
    if page != INDEX:
        return
    head, *sections = re.split(r"^## (.+)$", source[0], flags=re.MULTILINE)
    text = [head]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        text.append(f"## {title}{body}")
        if pages := LISTED.findall(body):
            text.append("\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", "", ""]))
    source[0] = "".join(text)


def front_door(app: Sphinx, exception: Exception | None) -> None:
    """The index lies in a folder, as in the repository: whoever opens the site is led there."""
    if exception is None and app.builder.format == "html":
        page = f'<!doctype html><title>evbackup</title><meta http-equiv="refresh" content="0; url={INDEX}.html">\n'
        (Path(app.outdir) / "index.html").write_text(page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", navigation)
    app.connect("build-finished", front_door)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
