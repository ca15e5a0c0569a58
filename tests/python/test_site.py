"""What looks at the built site finds what a browser would."""

from pathlib import Path

import pytest

import links

GOOD = '<link href="_static/a.css" rel="stylesheet"><a href="b.html#x">b</a><a href="https://example.org/">out</a><p id="here"><a href="#here">'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.css").touch()
    (tmp_path / "a.html").write_text(GOOD)
    (tmp_path / "b.html").write_text('<h1 id="x">b</h1>')
    return tmp_path


def test_a_sound_site(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert links.main([str(site)]) == 0
    assert capsys.readouterr().out == "all links of 2 pages lead somewhere\n"


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="c.html">', "c.html: expected a file of the site, found none"),
        ('<a href="b.html#y">', "b.html#y: expected an anchor of that page, found none"),
        ('<a href="#nowhere">', "#nowhere: expected an anchor of that page, found none"),
        ('<img src="gone.png">', "gone.png: expected a file of the site, found none"),
        (
            '<script src="https://cdn.example.org/a.js">',
            "https://cdn.example.org/a.js: expected a file of the site, found one from elsewhere",
        ),
        (
            '<link href="//fonts.example.org/a.css">',
            "//fonts.example.org/a.css: expected a file of the site, found one from elsewhere",
        ),
        ('<a href="http://example.org/">', "http://example.org/: expected https"),
    ],
)
def test_what_is_wrong_is_said(site: Path, capsys: pytest.CaptureFixture[str], html: str, said: str) -> None:
    (site / "a.html").write_text(GOOD + html)
    assert links.main([str(site)]) == 1
    assert capsys.readouterr().out == f"a.html: {said}\n"
