"""The report of a verification as a page: one file that loads nothing, for a browser, a printer, a ticket and a screen reader.

All text is escaped, there is no script, and the page forbids itself to load anything (a content security policy). Lists stand where
tables would, so that it reads on a phone. What the picture shows is said in words, too.
"""

from __future__ import annotations

import os
import re
import shlex
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from . import _evbackup
from ._html import attributes
from ._job import wait
from ._report import Asked
from ._result import count_of, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._chain import ChainReport, RuleCount
    from ._report import Finding, Report, VerifiedSegment
    from ._types import StrPath

# So many findings are listed; the others are counted. A report may have ten thousand.
LISTED = 500
# So many segments get a bar of their own.
BARS = 48
# The picture tells so many places apart.
PLACES = 400
LEVELS = {"error": "Errors", "warning": "Warnings", "info": "Remarks"}

# The rules of `evnode::chain`, by their numbers and in its words; a test holds them together.
RULES = (
    "the tip, and every block's header, data and signature are there",
    "they can be read and are those of their height",
    "one chain id everywhere",
    "the data's metadata is the header's",
    "the header's data hash is the data's commitment",
    "the header names the header before",
    "the data name the data before",
    "time does not go back",
    "the signature is there and true",
    "the signer is the proposer",
    "the proposer is the one expected",
    "the state is there and of its block",
    "the state names its header",
    "the header names the state before",
    "the index finds the block",
    "nothing is above the tip",
    "the pending block is whole",
    "DA marks are not above the tip, included blocks say where",
    "values have their lengths",
    "the execution layer agrees",
)
SIGNATURE, EXECUTION_LAYER = 9, 20

CSS = """
:root { color-scheme: light dark; --bg: #ffffff; --ink: #1c2128; --soft: #59616e; --line: #d6dae0; --card: #f4f5f7;
  --ok: #176b30; --error: #b3261e; --warning: #8a5300; --info: #46505f; --on: #ffffff; --bar: #2f6fb0; --hole: #dfe3e8; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171b; --ink: #e6e9ee; --soft: #a4adba; --line: #363c45; --card: #1d2127;
  --ok: #55c46f; --error: #ff8a80; --warning: #f0b354; --info: #b3bcc9; --on: #14171b; --bar: #5b9bdc; --hole: #30363f; } }
@media print { :root { color-scheme: light; --bg: #fff; --ink: #000; --soft: #444; --line: #bbb; --card: #fff; --ok: #176b30;
  --error: #b3261e; --warning: #8a5300; --info: #444; --on: #fff; --bar: #2f6fb0; --hole: #ddd; }
  body { font-size: 10pt; } main, header, footer { max-width: none; } li, .part, .row, pre { break-inside: avoid; }
  h2 { break-after: avoid; } @page { margin: 15mm; } }
* { box-sizing: border-box; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 1rem/1.5 system-ui, "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 54rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1.5rem 0 0.75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 0.5rem; padding-bottom: 0.25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
p { margin: 0.5rem 0; overflow-wrap: anywhere; }
.verdict { border: 2px solid currentColor; border-radius: 0.5rem; padding: 0.75rem 1rem; margin: 0; }
.verdict strong { display: block; font-size: 1.3rem; } .verdict span { color: var(--ink); }
.ok { color: var(--ok); } .error { color: var(--error); } .warning { color: var(--warning); } .info { color: var(--info); }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr); gap: 0.2rem 1rem; margin: 0.5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.875em; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.75rem; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: 0.5rem 0; }
ul, ol { padding-left: 1.25rem; margin: 0.5rem 0; } li { margin: 0.35rem 0; }
.findings { list-style: none; padding: 0; }
.findings li { border-left: 0.25rem solid currentColor; padding: 0.1rem 0 0.1rem 0.75rem; margin: 0.75rem 0; }
.findings li > * { color: var(--ink); margin: 0; }
.badge { display: inline-block; border-radius: 0.3rem; padding: 0 0.5rem; font-size: 0.875rem; font-weight: 600; color: var(--on); }
.badge.error { background: var(--error); } .badge.warning { background: var(--warning); } .badge.info { background: var(--info); }
.findings .badge { color: var(--on); } .findings .soft, .soft { color: var(--soft); }
.part { background: var(--card); border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.75rem 1rem; margin: 0.75rem 0; }
figure { margin: 0.75rem 0; } figcaption { color: var(--soft); margin-top: 0.5rem; }
.row { display: grid; grid-template-columns: 11rem 1fr; gap: 0.75rem; align-items: center; margin: 0.25rem 0; }
.row > span { font-size: 0.875rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.row > svg { width: 100%; height: 1.1rem; display: block; } .axis { display: flex; justify-content: space-between; color: var(--soft);
  font-size: 0.875rem; font-variant-numeric: tabular-nums; }
.there { fill: var(--bar); } .torn { fill: url(#torn); } .hole { fill: var(--hole); } .stripe { stroke: var(--bar); }
svg .error { fill: var(--error); } svg .warning { fill: var(--warning); } svg .info { fill: var(--info); }
footer { color: var(--soft); border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 0.75rem; padding-bottom: 2rem; }
@media (max-width: 40rem) { .row { grid-template-columns: 1fr; gap: 0; } dl { grid-template-columns: 6.5rem minmax(0, 1fr); }
  h1 { font-size: 1.35rem; } }
"""
# Where a script or anything from outside would come from, were there any.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def write(report: Report, path: StrPath, *, overwrite: bool, strict: bool = False) -> Path:
    """Writes the page of a report."""
    # A path may be no text at all: what cannot be shown is shown as its bytes.
    text = page(report, strict=strict).encode("utf-8", "backslashreplace")
    wait(_evbackup.write_file(os.fspath(path), text, overwrite))
    return Path(path)


def page(report: Report, *, made: datetime | None = None, strict: bool = False) -> str:
    """The page of a report.

    Args:
        report: What it is about.
        made: When; None: now.
        strict: Warnings count as errors.
    """
    moment = (made or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M:%S UTC")
    title = escape(f"Verification of {_what(report)}")
    asked = report.asked or Asked(level=report.level)
    if asked.addr is None:
        sections = [_summary(report), _heights(report), _found(report), _checked(report, asked), _parts(report)]
    else:
        sections = [_compared(report, asked), _found(report), _checked_of_node(asked)]
    body = "".join([*sections, _repeat(report, asked, strict=strict)])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        f"{_verdict(report, asked, strict=strict)}\n</header>\n<main>\n{body}</main>\n"
        f"<footer><p>Made by evbackup {escape(_evbackup.__version__)} on {moment}. "
        "This page has no scripts and loads nothing.</p></footer>\n</body>\n</html>\n"
    )


def _what(report: Report) -> str:
    """What the page is about."""
    if report.asked is not None and report.asked.addr is not None:
        return f"the node {report.asked.addr}"
    names = [name.rsplit("/", 1)[-1] or name for name in map(str, report.paths)]
    return f"{names[0]} and {count_of(len(names) - 1, 'segment')} more" if len(names) > 1 else "".join(names)


def _section(title: str, name: str, *body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{"".join(body)}</section>\n'


def _pairs(pairs: Iterable[tuple[str, object]]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs if value not in (None, ""))
    return f"<dl>{''.join(rows)}</dl>\n"


def _verdict(report: Report, asked: Asked, *, strict: bool) -> str:
    errors, warnings = len(report.errors), len(report.warnings)
    bad = [count_of(errors, "error")] if errors else []
    bad += [count_of(warnings, "warning")] if strict and warnings else []
    if bad:
        word, kind = f"Not sound: {', '.join(bad)}", "error"
        each = "error" if errors else "warning"
        text = (
            f"Do not rely on a restore of this before each {each} below is understood."
            if asked.addr is None
            else f"The node is not what it should be: each {each} below says where."
        )
    elif asked.addr is not None and not report.compared_heights:
        word, kind, text = "Nothing was compared", "warning", "So nothing is said of the node."
    else:
        word, kind = (f"Sound, with {count_of(warnings, 'warning')}", "warning") if warnings else ("Sound", "ok")
        text = _promise(report, asked)
    return f'<p class="verdict {kind}"><strong>{word}</strong> <span>{text}</span></p>'


def _promise(report: Report, asked: Asked) -> str:
    """What follows where nothing is wrong."""
    if asked.addr is not None:
        heights = count_of(report.compared_heights or 0, "height")
        held = "the node and what it was held against agree" if asked.against else "the node's blocks are right"
        return f"Nothing is wrong: at {heights} that were looked at, {held}."
    unsaid = " What a warning names cannot be promised." if report.warnings else ""
    if report.level == "quick":
        quick = (
            "every byte against the checksums of its manifest, where there is one, and no digest, no entry and no block"
            if report.segments
            else "the datastore without its blocks"
        )
        return f"Nothing is wrong in what was read. This was the quick check: {quick}.{unsaid}"
    chain = report.chain
    if chain is not None and chain.torn is not None:
        low, high = chain.torn
        whole = f"up to height {chain.complete_height:,}" if chain.complete_height else "without its torn blocks"
        return f"Nothing is wrong: a restore takes it {whole} and leaves out {low:,} to {high:,}.{unsaid}"
    return f"Nothing is wrong: a restore takes exactly what was read here.{unsaid}"


def _compared(report: Report, asked: Asked) -> str:
    """In short, of a node."""
    against = ", ".join(map(str, asked.against)) or "nothing but itself: each block, and its link to the one before"
    return _section(
        "In short",
        "short",
        _pairs(
            [
                ("Node", asked.addr),
                ("Held against", against),
                ("Heights compared", f"{report.compared_heights or 0:,}"),
                ("The highest that agrees", f"{report.complete_height:,}" if report.complete_height else "none"),
                ("The node's tip", f"{report.announced_height:,}"),
                ("Took", f"{report.elapsed_s:,.1f} s"),
            ]
        ),
    )


def _checked_of_node(asked: Asked) -> str:
    held = "its header hash, its data hash and its signature against those of the backup, and " if asked.against else ""
    text = f"<p>The running node, through its own read calls. Of each height: {held}its link to the block before.</p>\n"
    trusted = [] if asked.trusted is None else [f"the trusted hash at height {asked.trusted[0]:,}: {asked.trusted[1]}"]
    items = "".join(f"<li>{escape(item)}</li>" for item in trusted)
    return _section("What was checked", "checked", text, f"<ul>{items}</ul>\n" if items else "")


def _summary(report: Report) -> str:
    complete = "nobody says so" if report.complete_version is None else f"{report.complete_version:,}"
    return _section(
        "In short",
        "short",
        _pairs(
            [
                ("Chain", None if report.chain is None else report.chain.chain_id),
                ("Height", _height(report)),
                ("Read", f"{size(report.bytes)} ({report.bytes:,} bytes)"),
                ("Entries", None if report.entries is None else f"{report.entries:,}"),
                ("Highest version", f"{report.last_version:,}"),
                ("Misses nothing up to version", complete),
                ("Deletes", report.deletes),
                ("Took", f"{report.elapsed_s:,.1f} s"),
            ]
        ),
    )


def _height(report: Report) -> str:
    if not report.tip_height and not report.complete_height:
        return "no blocks"
    text = f"{'' if report.ok else 'said to be '}whole up to {report.complete_height:,}"
    if report.tip_height != report.complete_height:
        text += f", tip {report.tip_height:,}"
    if report.announced_height not in {report.tip_height, report.complete_height}:
        text += f"; the source announced {report.announced_height:,}"
    return text


def _checked(report: Report, asked: Asked) -> str:
    if report.segments:
        done = [
            "the manifest of each segment, and that it is the one that was written",
            "sizes, frames and their checksums",
        ]
        if report.level == "full":
            done += [
                "the SHA-256 of all bytes, where a manifest names it",
                "every entry: its form, its order, its version",
                "that the segments follow each other without a gap, and do not contradict each other",
            ]
    else:
        done = ["the datastore's files and their checksums", "every entry: its form, its order, its version"]
    items = "".join(f"<li>{escape(item)}</li>" for item in done)
    level = f"<p>Level: {escape(report.level)}.</p>\n<ul>{items}</ul>\n"
    return _section("What was checked", "checked", level, _blocks(report, asked))


def _blocks(report: Report, asked: Asked) -> str:
    """The rules of the chain, each with what came of it."""
    chain = report.chain
    if chain is None:
        return "<p>The blocks themselves were not checked.</p>\n"
    broken = {rule.rule: rule for rule in chain.rules}

    def verdict(number: int) -> str:
        rule = broken.get(number)
        if rule is not None and rule.errors:
            more = f", {count_of(rule.warnings, 'warning')}" if rule.warnings else ""
            return f'<strong class="error">broken: {count_of(rule.errors, "error")}{more}</strong>'
        if number == EXECUTION_LAYER and asked.el_height is None:
            return '<strong class="info">not asked</strong>'
        if number == SIGNATURE and (said := _signatures(chain, asked, rule)):
            return said
        if rule is not None and rule.warnings:
            return f'<strong class="warning">not certain: {count_of(rule.warnings, "warning")}</strong>'
        return '<strong class="ok">holds</strong>'

    items = "".join(f"<li>{escape(text)}: {verdict(number)}</li>" for number, text in enumerate(RULES, 1))
    torn = ""
    if chain.torn is not None:
        low, high = chain.torn
        torn = f"<p>Blocks {low:,} to {high:,} were still being written when the backup was taken: a restore leaves them out.</p>\n"
    what = f"{count_of(chain.blocks, 'block')}, {count_of(chain.signatures, 'signature')} verified"
    return f"<p>And the chain of blocks: {what}. For every block of it:</p>\n<ol>{items}</ol>\n{_held(report, asked)}{torn}"


def _signatures(chain: ChainReport, asked: Asked, rule: RuleCount | None) -> str | None:
    """What is to be said of signatures that were not all verified; None: they were."""
    if chain.signatures >= chain.blocks:
        return None
    if asked.signatures == "unverified":
        return '<strong class="info">not verified, as asked: that they are there holds</strong>'
    if asked.signatures == "optional":
        words = f"{chain.signatures:,} of {count_of(chain.blocks, 'block')} have one"
        return f'<strong class="ok">holds where there is one: {words}</strong>'
    if rule is None or not rule.warnings:
        return None
    return f'<strong class="warning">not verified: {chain.blocks - chain.signatures:,} of them cannot be</strong>'


def _held(report: Report, asked: Asked) -> str:
    """What somebody knew of the chain, and whether it is so."""
    wrong = {rule.code for rule in report.chain.rules if rule.errors} if report.chain is not None else set()
    given = [
        ("genesis", None if asked.genesis is None else f"the genesis {asked.genesis}"),
        (
            "trusted-hash",
            None if asked.trusted is None else f"the trusted hash at height {asked.trusted[0]:,}, {asked.trusted[1]}",
        ),
        (
            "execution-layer",
            None if asked.el_height is None else f"the execution layer's block {asked.el_height:,}",
        ),
    ]
    items = "".join(
        f'<li>{escape(text)}: <strong class="{"error" if code in wrong else "ok"}">'
        f"{'differs' if code in wrong else 'agrees'}</strong></li>"
        for code, text in given
        if text is not None
    )
    return f"<p>It was held against:</p>\n<ul>{items}</ul>\n" if items else ""


def _found(report: Report) -> str:
    if not report.findings:
        return _section("What was found", "found", "<p>Nothing.</p>\n")
    worst_first = [finding for level in LEVELS for finding in report.findings if finding.level == level]
    tally = ", ".join(
        f"{name.lower()}: {number:,}"
        for level, name in LEVELS.items()
        if (number := sum(finding.level == level for finding in report.findings))
    )
    items = "".join(map(_finding, worst_first[:LISTED]))
    more = len(worst_first) - LISTED
    left = f"<p>And {more:,} more: <code>evbackup verify --json</code> prints them all.</p>\n" if more > 0 else ""
    return _section("What was found", "found", f"<p>{tally}.</p>\n", f'<ul class="findings">{items}</ul>\n', left)


def _finding(finding: Finding) -> str:
    level = finding.level if finding.level in LEVELS else "info"
    where = [
        ("", finding.file),
        ("byte ", None if finding.offset is None else f"{finding.offset:,}"),
        ("height ", _stretch(finding)),
        ("key ", finding.key),
    ]
    place = ", ".join(f"{name}{value}" for name, value in where if value is not None)
    return (
        f'<li class="{level}"><p><span class="badge {level}">{level}</span> <code>{escape(finding.code)}</code></p>'
        f"<p>{_words(finding.message)}</p>"
        + (f'<p class="soft">{escape(place)}</p>' if place else "")
        + (f"<p>What to do: {_words(finding.hint)}</p>" if finding.hint else "")
        + "</li>"
    )


def _words(text: str) -> str:
    """Text in which backticks make code, as in our hints."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _stretch(finding: Finding) -> str | None:
    if finding.height is None:
        return None
    return f"{finding.height:,}" if finding.until is None else f"{finding.height:,} to {finding.until:,}"


class Span(NamedTuple):
    """Heights that a bar shows, both ends included."""

    kind: str
    low: int
    high: int


def _heights(report: Report) -> str:
    top = max(report.announced_height, report.tip_height, report.complete_height)
    if not top:
        return ""
    top = max([top, *(part.tip_height for part in report.parts)])
    placed = [finding for finding in report.findings if finding.height is not None]
    top = max([top, *(_span_of(finding).high for finding in placed)])
    bottom = _bottom(report)
    spans = list(_spans(report, bottom))
    left = len(spans) - BARS
    shown = [*spans[: BARS - 1], spans[-1]] if left > 0 else spans
    rows = [_bar(name, told, drawn, bottom, top) for name, told, drawn in shown]
    if left > 0:
        rows.insert(-1, f'<p class="soft">And {left:,} more segments.</p>')
    for level, name in LEVELS.items():
        marks = [_span_of(finding) for finding in placed if finding.level == level]
        if marks:
            low, high = min(span.low for span in marks), max(span.high for span in marks)
            rows.append(_bar(name, f"{name}: {len(marks):,}, between heights {low:,} and {high:,}", marks, bottom, top))
    axis = f'<div class="row"><span></span><div class="axis"><span>{bottom:,}</span><span>{top:,}</span></div></div>'
    caption = (
        "Heights from left to right: what each segment adds. Striped is what may be torn and is cut off by a restore."
    )
    torn = (
        '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs><pattern id="torn" width="6" height="6" '
        'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line class="stripe" x1="0" y1="0" x2="0" y2="6" '
        'stroke-width="6"/></pattern></defs></svg>'
    )
    figure = f"<figure>{torn}{''.join(rows)}{axis}<figcaption>{caption}</figcaption></figure>\n"
    return _section("Heights", "heights", figure)


def _span_of(finding: Finding) -> Span:
    low = finding.height or 0
    return Span(finding.level, low, max(finding.until or low, low))


def _bottom(report: Report) -> int:
    """The first height there is, or that there ever was."""
    chain = report.chain
    return (None if chain is None else chain.base or chain.initial_height) or 1


def _spans(report: Report, bottom: int) -> Iterator[tuple[str, str, list[Span]]]:
    """For each segment, and for all of them, what it is called, what it holds in words, and the stretches to draw."""
    after_gap = {finding.file for finding in report.findings if finding.code == "gap"}
    before = bottom - 1
    for part in report.parts:
        if part.path in after_gap:
            told = (
                f"up to height {part.complete_height:,}; where it begins is not known: a segment before it is missing"
            )
            yield (
                part.path.name,
                f"{part.path.name}: {told}",
                [Span("there", part.complete_height, part.complete_height)],
            )
        else:
            yield _span(part.path.name, before + 1, part.complete_height, part.tip_height)
        before = max(before, part.complete_height)
    if len(report.parts) != 1 and not after_gap:
        name, told, drawn = _span(
            "Together" if report.parts else "The blocks", bottom, report.complete_height, report.tip_height
        )
        broken = [
            _span_of(finding) for finding in report.findings if finding.level == "error" and finding.height is not None
        ]
        if broken:
            told += f", {len(broken):,} {'stretch' if len(broken) == 1 else 'stretches'} of it wrong or missing"
        yield name, told, drawn + broken


def _span(name: str, low: int, complete: int, tip: int) -> tuple[str, str, list[Span]]:
    drawn, told = [], []
    if complete >= low:
        drawn.append(Span("there", low, complete))
        told.append(f"heights {low:,} to {complete:,}")
    if tip > complete:
        drawn.append(Span("torn", max(complete + 1, low), tip))
        told.append(f"may be torn from {complete + 1:,} to {tip:,}")
    return name, f"{name}: {', '.join(told) or 'no new heights'}", drawn


def _bar(name: str, told: str, spans: list[Span], bottom: int, top: int) -> str:
    """One line of the picture; neighbours that fall into one place are drawn once."""
    scale = PLACES / (top - bottom + 1)

    def at(height: int) -> float:
        return round(min(max((height - bottom) * scale, 0), PLACES), 1)

    drawn = dict.fromkeys((span.kind, at(span.low), max(at(span.high + 1) - at(span.low), 1.5)) for span in spans)
    shapes = "".join(
        f'<rect class="{kind}" x="{x:g}" y="0" width="{width:g}" height="12"/>' for kind, x, width in drawn
    )
    label = attributes(aria_label=told)
    return (
        f'<div class="row"><span{attributes(title=name)}>{escape(name)}</span><svg role="img"{label} viewBox="0 0 {PLACES} 12" '
        f'preserveAspectRatio="none"><rect class="hole" x="0" y="0" width="{PLACES}" height="12"/>{shapes}</svg></div>'
    )


def _parts(report: Report) -> str:
    if not report.parts:
        return ""
    return _section("Segments and their digests", "parts", *map(_part, report.parts))


def _part(part: VerifiedSegment) -> str:
    kinds = {"full": "full", "inc": "increment"}
    pairs = [
        ("Kind", kinds.get(part.kind, "unknown: it has no manifest")),
        ("Path", part.path),
        ("Size", f"{size(part.bytes)} ({part.bytes:,} bytes)"),
        ("Versions", f"above {part.since_version:,}, up to {part.last_version:,}"),
        ("Heights", f"whole up to {part.complete_height:,}, tip {part.tip_height:,}" if part.tip_height else None),
        ("Taken", part.started_at),
        ("From", part.source),
    ]
    digest = f"<code>{escape(part.sha256)}</code>" if part.sha256 else "none: nobody vouches for these bytes"
    return f'<div class="part"><h3>{escape(part.path.name)}</h3>{_pairs(pairs)}<dl><dt>SHA-256</dt><dd>{digest}</dd></dl></div>\n'


def argv(report: Report, *, strict: bool) -> list[str]:
    """The command that asks the same; it has no secrets."""
    asked = report.asked or Asked(level=report.level)
    said: list[str] = []
    if asked.addr is None:
        said += ["--level", str(asked.level)]
        if asked.chain is not None:
            said.append("--chain" if asked.chain else "--no-chain")
    if asked.trusted is not None:
        said += ["--trusted", f"{asked.trusted[0]}:{asked.trusted[1]}"]
    if asked.signatures not in {None, "required"}:
        said += ["--signatures", str(asked.signatures)]
    if asked.was_based:
        said.append("--was-based")
    for name in ("genesis", "el_height", "el_timestamp", "el_state_root", "sample"):
        if (value := getattr(asked, name)) is not None:
            said += [f"--{name.replace('_', '-')}", str(value)]
    for path in asked.against:
        said += ["--against", str(path)]
    if strict:
        said.append("--strict")
    return ["evbackup", "verify", *said, "--", *([asked.addr] if asked.addr else map(str, report.paths))]


def _repeat(report: Report, asked: Asked, *, strict: bool) -> str:
    if not report.paths and asked.addr is None:
        return ""
    version = escape(_evbackup.__version__)
    command = escape(shlex.join(argv(report, strict=strict)))
    where = "where the files are" if asked.addr is None else "with the certificates and the token that the node wants"
    steps = [
        f"<li><p>With evbackup, {where}:</p><pre>pip install evbackup=={version}\n{command}</pre></li>",
    ]
    # sha256sum has its own way with such names, which nobody gives a backup.
    plain = [part for part in report.parts if part.sha256 and not set(str(part.path)) & set("\\\n\r")]
    sums = "\n".join(f"{part.sha256}  {part.path}" for part in plain)
    if sums:
        check = escape(f"sha256sum --check <<'END'\n{sums}\nEND")
        steps.append(f"<li><p>The digests, with nothing but coreutils:</p><pre>{check}</pre></li>")
        steps.append(
            "<li><p>Each segment is the stream of Badger's own backup, and nothing else: Badger's <code>Load</code> takes it.</p></li>"
        )
    return _section("How to repeat this by hand", "repeat", f"<ol>{''.join(steps)}</ol>\n")
