"""The page of a report: whole, safe to open whatever the data says, and readable without a browser."""

import dataclasses
import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import evbackup
from evbackup._page import LISTED, page
from evbackup._results import Finding, Report, VerifiedSegment

EVIL = "</code><script>alert('x')</script>&\"'><img src=x onerror=alert(1)>"
PART = VerifiedSegment(
    path=Path("backups/full.badger"),
    kind="full",
    bytes=1_500_000,
    entries=1200,
    since_version=0,
    last_version=90,
    tip_height=41,
    complete_height=40,
    sha256="ab" * 32,
    started_at="2026-11-25T10:00:00Z",
    source="http://node:7331",
)


class Elements(HTMLParser):
    """The elements of a page with their attributes, the texts, and whether every element is closed."""

    VOID = frozenset({"meta", "link", "br", "img", "rect", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def names(self) -> list[str]:
        return [name for name, _ in self.elements]


def assert_safe(text: str) -> None:
    """No script, no handler, nothing from outside."""
    read = Elements(text)
    assert not {"script", "iframe", "object", "embed", "img", "form", "base", "video", "audio"} & set(read.names())
    for name, attributes in read.elements:
        for attribute, value in attributes.items():
            assert not attribute.startswith("on"), (name, attribute)
            if attribute in {"href", "src", "srcset", "action", "data"}:
                assert value == "data:,", (name, value)
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "@import" not in style
    assert not re.findall(r"url\((?!#)", style)


def report(**changes: Any) -> Report:
    """One whose every text can be set."""
    findings = (
        Finding("error", "order", "expected a, found b", Path("full.badger"), 12, "0a", 7, "take a new backup"),
        Finding("warning", "undigested", "no manifest", Path("inc.badger")),
        Finding("info", "dropped", "3 superseded versions"),
    )
    values: dict[str, Any] = {
        field.name: None if "None" in str(field.type) else () if "tuple" in str(field.type) else 1
        for field in dataclasses.fields(Report)
    }
    values |= {
        "ok": False,
        "level": "full",
        "findings": findings,
        "segments": (PART.path,),
        "parts": (PART,),
        "deletes": "derived",
        "announced_height": 42,
        "tip_height": 41,
        "complete_height": 40,
        "elapsed_s": 0.5,
    }
    return Report(**{**values, **changes})


def test_a_page_of_a_real_report(full: evbackup.Backup, tmp_path: Path) -> None:
    found = evbackup.verify(full)
    written = found.to_html(tmp_path / "report.html")
    assert written == tmp_path / "report.html"
    text = written.read_text()
    assert_safe(text)
    read = Elements(text)
    said = " ".join(read.texts)
    assert "Sound" in said
    assert str(full.sha256) in said
    assert f"evbackup verify --level full -- {full.path}" in said
    assert "Nothing." in said
    assert written.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_page_has_the_bones_of_a_document() -> None:
    text = page(report())
    read = Elements(text)
    assert text.startswith("<!DOCTYPE html>")
    assert ("html", {"lang": "en"}) in read.elements
    assert read.names().count("h1") == read.names().count("main") == read.names().count("title") == 1
    levels = [int(name[1]) for name in read.names() if re.fullmatch(r"h\d", name)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    pictures = [attributes for name, attributes in read.elements if name == "svg" and "aria-hidden" not in attributes]
    assert pictures
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    titles = [text for text in read.texts if text.strip()]
    for title in ("In short", "What was checked", "What was found", "Heights", "Segments and their digests"):
        assert title in titles


def test_a_page_says_what_was_found() -> None:
    said = " ".join(Elements(page(report())).texts)
    for text in (
        "Not sound: 1 error",
        "expected a, found b",
        "take a new backup",
        "byte 12",
        "height 7",
        "key 0a",
        "no manifest",
    ):
        assert text in said
    assert "errors: 1, warnings: 1, remarks: 1" in said
    warned = report(ok=True, findings=report().findings[1:])
    assert "Sound, with 1 warning" in " ".join(Elements(page(warned)).texts)
    quick = report(ok=True, findings=(), level="quick")
    assert "bytes and entries were not all read" in " ".join(Elements(page(quick)).texts)


def test_nothing_in_the_data_becomes_markup() -> None:
    evil = Path(EVIL)
    finding = Finding("error", EVIL, EVIL, evil, 1, EVIL, 3, EVIL)
    odd = dataclasses.replace(finding, level=EVIL)
    part = dataclasses.replace(PART, path=evil, kind=EVIL, sha256=EVIL, source=EVIL, started_at=EVIL)
    texts = {field.name: EVIL for field in dataclasses.fields(Report) if "str" in str(field.type)}
    found = report(**texts, findings=(finding, odd), segments=(evil,), parts=(part,))
    for text in (
        page(found),
        f"<div>{found._repr_html_()}</div>",
        f"<div>{finding._repr_html_()}{part._repr_html_()}</div>",
    ):
        assert_safe(text)
        assert EVIL in "".join(Elements(text).texts)


def test_a_page_stays_small() -> None:
    many = tuple(
        Finding("error", "order", "expected a, found b", Path("x"), at, None, at, None) for at in range(10_000)
    )
    chain = tuple(dataclasses.replace(PART, path=Path(f"inc{number}.badger")) for number in range(300))
    text = page(report(findings=many, parts=chain, segments=tuple(part.path for part in chain)))
    assert len(text) < 1_000_000
    assert f"And {10_000 - LISTED:,} more" in text


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    odd = Path("b\udcffd.badger")
    written = report(segments=(odd,), parts=(dataclasses.replace(PART, path=odd),)).to_html(tmp_path / "p.html")
    assert "b\\udcffd.badger" in written.read_text()


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    there = tmp_path / "report.html"
    there.write_text("mine")
    with pytest.raises(evbackup.ExistsError):
        report().to_html(there)
    assert there.read_text() == "mine"
    report().to_html(there, overwrite=True)
    assert there.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(evbackup.MissingError):
        report().to_html(tmp_path / "nowhere" / "report.html")


def test_on_the_command_line(
    command: Callable[..., tuple[int, str, str]], full: evbackup.Backup, tmp_path: Path
) -> None:
    assert full.path is not None
    there = tmp_path / "report.html"
    code, said, _ = command("verify", full.path, "--html", there)
    assert code == 0
    assert "ok" in said
    assert there.read_text().startswith("<!DOCTYPE html>")
    code, _, told = command("verify", full.path, "--html", there)
    assert code == evbackup.ExistsError.exit_code
    assert "--overwrite" in told
    assert command("verify", full.path, "--html", there, "--overwrite")[0] == 0
    # A page of what is damaged is there as well, and the exit code is that of the damage.
    damaged = tmp_path / "damaged.badger"
    damaged.write_bytes(full.path.read_bytes()[:-10])
    code, _, _ = command("verify", damaged, "--html", tmp_path / "damaged.html")
    assert code == evbackup.DamagedError.exit_code
    assert "Not sound" in (tmp_path / "damaged.html").read_text()
