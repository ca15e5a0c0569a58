"""Makes the pictures in `docs/pictures` anew: `make pictures`. Each notebook is run and photographed, and so is the page of a report.

Needs what `make notebook-tools` installs, and Chromium. Nothing is fetched: what a template would load from elsewhere is turned away.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import sync_playwright

import evbackup

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "python"))
from support import damaged_report  # noqa: E402  # the tests look at the same page

# Width, height and colours of each picture of the page.
VIEWS = {"desktop-light": (1100, 1000, "light"), "phone-dark": (390, 844, "dark")}
NOTEBOOK = (900, 1100)


def pages(folder: Path) -> dict[str, tuple[Path, int, int, str]]:
    """For each picture the page that it is of, and how it is looked at."""
    report = damaged_report(folder)
    page = report.to_html(folder / "report.html")
    found = {f"report-{name}": (page, *view) for name, view in VIEWS.items()}
    for path in sorted((ROOT / "examples" / "notebooks").glob("*.ipynb")):
        found[path.stem.replace("_", "-")] = (notebook(path, folder), *NOTEBOOK, "light")
    return found


def notebook(path: Path, folder: Path) -> Path:
    """The notebook as HTML, with what its cells give."""
    read = nbformat.read(path, as_version=4)
    NotebookClient(read, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    html, _ = HTMLExporter().from_notebook_node(read)
    page = folder / f"{path.stem}.html"
    page.write_text(html)
    return page


def ours_only(route: Any) -> None:
    """Lets nothing through that is not in our folder."""
    if route.request.url.startswith(("file:", "data:")):
        route.continue_()
    else:
        route.abort()


def main(target: Path) -> None:
    """Makes all of them."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise evbackup.MissingError("expected chromium in the path, found none", hint="apt-get install chromium")
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (page, width, height, scheme) in pages(folder).items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab = context.new_page()
            tab.route("**/*", ours_only)
            tab.goto(page.as_uri())
            # Of a notebook, what it shows says more than how it begins.
            tab.evaluate(
                "(document.querySelector('.jp-RenderedSVG') || document.querySelector('.jp-RenderedHTML table'))?.scrollIntoView()"
            )
            tab.screenshot(path=target / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
