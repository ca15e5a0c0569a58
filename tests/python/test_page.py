"""The page of a report: whole, safe to open whatever the data says, and readable without a browser."""

import dataclasses
import itertools
import re
import shlex
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import evbackup
from evbackup import _verify
from evbackup._page import LISTED, RULES, page
from evbackup._results import Finding, Report, VerifiedSegment
from evbackup.cli import main
from support import BLOCKS, ROOT

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
    said = " ".join(Elements(page(quick)).texts)
    assert (
        "every byte against the checksums of its manifest, where there is one, and no digest, no entry and no block"
        in said
    )


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


def said_of(found: Report, *, strict: bool = False) -> str:
    return " ".join(" ".join(Elements(page(found, strict=strict)).texts).split())


def rule_of(text: str, number: int) -> str:
    """What the page says of a rule."""
    read = re.search(rf"<li>{re.escape(RULES[number - 1])}: <strong[^>]*>(.*?)</strong>", text)
    assert read is not None
    return read[1]


def test_the_rules_are_those_of_the_checker() -> None:
    source = (ROOT / "src" / "evnode" / "chain" / "finding.rs").read_text()
    told = re.findall(r"^    /// (\d+): (.*)\.$", source, re.MULTILINE)
    assert [(int(number), text) for number, text in told] == list(enumerate(RULES, 1))


def test_a_page_attests_nothing_that_nobody_asked_for(full: evbackup.Backup) -> None:
    text = page(evbackup.verify(full))
    assert (rule_of(text, 9), rule_of(text, 20)) == ("holds", "not asked")
    text = page(evbackup.verify(full, signatures="unverified"))
    assert rule_of(text, 9) == "not verified, as asked: that they are there holds"
    found = evbackup.verify(full, signatures="other-payload")
    text = page(found)
    assert rule_of(text, 9) == f"not verified: {BLOCKS} of them cannot be"
    assert "broken" not in text
    assert "Sound, with 1 warning" in said_of(found)
    assert "Not sound: 1 warning" in said_of(found, strict=True)
    trusted = evbackup.verify(full, trusted=(7, "ab" * 32), el_height=9, el_timestamp=1)
    text = page(trusted)
    assert rule_of(text, 20).startswith("broken: 1 error")
    assert f"the trusted hash at height 7, {'ab' * 32}: differs" in said_of(trusted)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"level": "quick"},
        {"chain": False},
        {"chain": True, "signatures": "optional", "was_based": True},
        {"genesis": Path("it's mine.json"), "trusted": (7, "ab" * 32)},
        {"el_height": 1, "el_timestamp": 2, "el_state_root": "ab" * 32, "signatures": "unverified"},
    ],
)
@pytest.mark.parametrize("how", [{}, {"strict": True}])
def test_what_the_page_says_to_repeat_asks_the_same(
    options: dict[str, Any], how: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"level": "full", "signatures": "required", "was_based": False, **options}
    found = report(asked=evbackup.Asked(**values), paths=(Path("a b.badger"), Path("-c.badger")))
    repeated(found, ["a b.badger", "-c.badger"], monkeypatch, **how)


def test_so_it_is_with_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = evbackup.Asked(
        addr="http://node:7331",
        against=(Path("a b"), Path("c")),
        sample=7,
        trusted=(7, "ab"),
        signatures="optional",
    )
    repeated(report(asked=asked, paths=(), segments=()), "http://node:7331", monkeypatch)


def repeated(found: Report, paths: str | list[str], monkeypatch: pytest.MonkeyPatch, *, strict: bool = False) -> None:
    """Reads the command from the page and gives it to the command line."""
    command = "".join(Elements(page(found, strict=strict)).texts).partition(f"evbackup=={evbackup.__version__}\n")[2]
    words = shlex.split(command.partition("The digests")[0])
    assert words[:2] == ["evbackup", "verify"]
    given: dict[str, Any] = {}

    def verify(what: Any, **options: Any) -> Report:
        given.update(options, paths=what)
        return report(ok=True, findings=())

    monkeypatch.setattr(_verify, "verify", verify)
    assert main(words[1:]) == 0
    assert ("--strict" in words) == strict
    assert found.asked is not None
    assert (given["paths"] if isinstance(paths, str) else list(given["paths"])) == paths
    for name, value in found.asked.as_dict().items():
        if name != "addr":
            was = list(given.get(name) or ()) if isinstance(value, list) else given.get(name)
            assert was == value, name


def test_a_page_of_a_running_node_claims_nothing_of_a_restore(
    full: evbackup.Backup, server: evbackup.Server, tmp_path: Path
) -> None:
    found = evbackup.verify(server.address, against=full, sample=20)
    found.to_html(tmp_path / "node.html")
    text = (tmp_path / "node.html").read_text()
    assert_safe(text)
    said = said_of(found)
    assert f"<h1>Verification of the node {server.address}</h1>" in text
    assert "Heights compared 20" in said
    assert "at 20 heights that were looked at, the node and what it was held against agree" in said
    for claim in ("restore", "Read", "Deletes", "Level", "Segments"):
        assert claim not in said
    html = found._repr_html_()
    assert ">bytes<" not in html
    assert ">deletes<" not in html
    nothing = dataclasses.replace(found, compared_heights=0, findings=report().findings[1:2])
    assert "Nothing was compared" in said_of(nothing)
    assert "Sound" not in said_of(nothing)
    alone = said_of(evbackup.verify(server.address, sample=3))
    assert "at 3 heights that were looked at, the node's blocks are right" in alone


def test_a_page_says_what_a_restore_leaves_out() -> None:
    values: dict[str, Any] = {
        field.name: None if "None" in str(field.type) else () if "tuple" in str(field.type) else 1
        for field in dataclasses.fields(evbackup.ChainReport)
    }
    torn = evbackup.ChainReport(**{**values, "complete_height": 1204, "torn": (1205, 1207)})
    said = said_of(report(ok=True, findings=(), chain=torn))
    assert "a restore takes it up to height 1,204 and leaves out 1,205 to 1,207." in said
    assert "exactly" not in said


def test_a_page_of_a_datastore_speaks_of_no_segments(sample: Path) -> None:
    said = said_of(evbackup.verify(sample, level="quick"))
    assert "manifest" not in said
    assert "This was the quick check: the datastore without its blocks" in said
