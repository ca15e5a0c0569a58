"""The page of a report in a real browser: nothing is loaded, nothing sticks out, everybody can read it, and it prints."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evbackup
from notebooks.extras import library
from support import damaged_report

WIDTHS = {"phone": 390, "desktop": 1280}


def axe() -> str:
    """The script of axe-core."""
    return (Path(library("axe_playwright_python").__file__).parent / "axe.min.js").read_text()


@pytest.fixture(scope="module", params=["sound", "damaged"])
def written(request: pytest.FixtureRequest, full: evbackup.Backup, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a report."""
    folder = tmp_path_factory.mktemp("page")
    report = evbackup.verify(full) if request.param == "sound" else damaged_report(folder)
    return report.to_html(folder / "report.html")


@pytest.fixture(scope="module", params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=list(WIDTHS))
def shown(request: pytest.FixtureRequest, browser: Any, written: Path, scheme: str) -> Iterator[Any]:
    """The page as it is shown, with what it asked for and what it complained of."""
    size = {"width": WIDTHS[request.param], "height": 844}
    # Our own script reads the page, so its policy is set aside; that it has one is tested elsewhere.
    context = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
    tab = context.new_page()
    tab.requested, tab.said = [], []
    tab.on("request", lambda request: tab.requested.append(request.url))
    tab.on("console", lambda message: tab.said.append(message.text))
    tab.on("pageerror", lambda error: tab.said.append(str(error)))
    tab.goto(written.as_uri())
    yield tab
    context.close()


def test_it_loads_nothing_and_complains_of_nothing(shown: Any, written: Path) -> None:
    assert [url for url in shown.requested if not url.startswith("data:")] == [written.as_uri()]
    assert not shown.said


def test_nothing_sticks_out(shown: Any) -> None:
    assert shown.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_everybody_can_read_it(shown: Any) -> None:
    shown.evaluate(axe())
    options = "{resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}"
    found = shown.evaluate(f"axe.run(document, {options})")
    assert len(found["passes"]) > 10
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []


def test_it_prints(browser: Any, written: Path, tmp_path: Path) -> None:
    tab = browser.new_page(color_scheme="dark")
    tab.goto(written.as_uri())
    tab.emulate_media(media="print")
    # On paper it is dark on light, whatever the screen was.
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    paper = tmp_path / "report.pdf"
    tab.pdf(path=paper, format="A4")
    assert paper.read_bytes().startswith(b"%PDF")
    tab.close()


def test_its_policy_keeps_scripts_out(browser: Any, written: Path, tmp_path: Path) -> None:
    """Even if something slipped through the escaping, it would not run."""
    injected = tmp_path / "injected.html"
    text = written.read_text()
    injected.write_text(
        text.replace("<main>", "<main><script>document.title = 'ran'</script><img src='x' onerror='document.title=1'>")
    )
    tab = browser.new_page()
    tab.goto(injected.as_uri())
    assert tab.title().startswith("Verification")
    tab.close()


def test_results_in_a_notebook_can_be_read_in_light_and_dark(
    browser: Any, full: evbackup.Backup, tmp_path: Path, scheme: str
) -> None:
    """On the backgrounds of JupyterLab."""
    background, ink = {"light": ("#ffffff", "#212121"), "dark": ("#111111", "#e0e0e0")}[scheme]
    report = damaged_report(tmp_path)
    shown = "".join(
        result._repr_html_() for result in (full, report, dataclasses.replace(report, ok=True, findings=()))
    )
    tab = browser.new_page()
    tab.set_content(
        f'<html lang="en"><title>x</title><body style="background:{background};color:{ink}"><main><h1>x</h1>{shown}</main></body></html>'
    )
    tab.evaluate(axe())
    found = tab.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa']})")
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
    tab.close()
