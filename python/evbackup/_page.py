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
from ._result import count_of, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ._results import Finding, Report, VerifiedSegment
    from ._types import StrPath

# So many findings are listed; the others are counted. A report may have ten thousand.
LISTED = 500
# So many segments get a bar of their own.
BARS = 48
# The picture tells so many places apart.
PLACES = 400
LEVELS = {"error": "Errors", "warning": "Warnings", "info": "Remarks"}

# The rules of `evnode::chain`, by their numbers.
RULES = (
    "header, data and signature are there",
    "they can be read, and are those of their height",
    "there is one chain id",
    "the data names the header's chain id, height and time",
    "the header commits to the data",
    "the header names the hash of the header before",
    "the data names the hash of the data before",
    "time does not go back",
    "the signature is there, and true",
    "the signer is the proposer",
    "the proposer is the one that was expected",
    "the state after it is there, and is of this block",
    "the state names the header's hash",
    "the header names the app's state before it",
    "the index by hash finds it",
    "nothing is above the tip",
    "the pending block is whole, and of this chain",
    "DA marks are not above the tip, and included blocks say where",
    "values and names have their lengths",
    "the execution layer agrees, where it was asked",
)

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


def write(report: Report, path: StrPath, *, overwrite: bool) -> Path:
    """Writes the page of a report."""
    # A path may be no text at all: what cannot be shown is shown as its bytes.
    text = page(report).encode("utf-8", "backslashreplace")
    wait(_evbackup.write_file(os.fspath(path), text, overwrite))
    return Path(path)


def page(report: Report, *, made: datetime | None = None) -> str:
    """The page of a report.

    Args:
        report: What it is about.
        made: When; None: now.
    """
    moment = (made or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M:%S UTC")
    names = [name.rsplit("/", 1)[-1] or name for name in map(str, report.paths)]
    of = f"{names[0]} and {count_of(len(names) - 1, 'segment')} more" if len(names) > 1 else "".join(names)
    title = escape(f"Verification of {of or 'a running node'}")
    sections = (_summary(report), _heights(report), _found(report), _checked(report), _parts(report), _repeat(report))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        f"{_verdict(report)}\n</header>\n<main>\n{''.join(sections)}</main>\n"
        f"<footer><p>Made by evbackup {escape(_evbackup.__version__)} on {moment}. "
        "This page has no scripts and loads nothing.</p></footer>\n</body>\n</html>\n"
    )


def _section(title: str, name: str, *body: str) -> str:
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n{"".join(body)}</section>\n'


def _pairs(pairs: Iterable[tuple[str, object]]) -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in pairs if value not in (None, ""))
    return f"<dl>{''.join(rows)}</dl>\n"


def _verdict(report: Report) -> str:
    errors, warnings = len(report.errors), len(report.warnings)
    if errors:
        word, kind = f"Not sound: {count_of(errors, 'error')}", "error"
        text = "Do not rely on a restore of this before each error below is understood."
    elif warnings:
        word, kind = f"Sound, with {count_of(warnings, 'warning')}", "warning"
        text = "Nothing is wrong. What a warning names cannot be promised."
    else:
        word, kind = "Sound", "ok"
        text = "Nothing is wrong: a restore takes exactly what was read here."
    if not errors and report.level == "quick":
        text += " This was the quick check: bytes and entries were not all read."
    return f'<p class="verdict {kind}"><strong>{word}</strong> <span>{text}</span></p>'


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


def _checked(report: Report) -> str:
    if not report.paths:
        text = "<p>A running node, through its own read calls: blocks and how they are linked, by samples or against segments.</p>\n"
        return _section("What was checked", "checked", text)
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
    items = "".join(f"<li>{escape(item)}</li>" for item in done)
    return _section(
        "What was checked", "checked", f"<p>Level: {escape(report.level)}.</p>\n<ul>{items}</ul>\n", _blocks(report)
    )


def _blocks(report: Report) -> str:
    """The rules of the chain, each with whether it holds."""
    chain = report.chain
    if chain is None:
        return "<p>The blocks themselves were not checked.</p>\n"
    broken = {rule.rule: rule for rule in chain.rules}

    def verdict(number: int) -> str:
        rule = broken.get(number)
        if rule is None or not (rule.errors or rule.warnings):
            return '<strong class="ok">holds</strong>'
        said = [count_of(rule.errors, "error")] if rule.errors else []
        said += [count_of(rule.warnings, "warning")] if rule.warnings else []
        return f'<strong class="{"error" if rule.errors else "warning"}">broken: {", ".join(said)}</strong>'

    items = "".join(f"<li>{escape(text)}: {verdict(number)}</li>" for number, text in enumerate(RULES, 1))
    torn = ""
    if chain.torn is not None:
        low, high = chain.torn
        torn = f"<p>Blocks {low:,} to {high:,} were still being written when the backup was taken: a restore leaves them out.</p>\n"
    what = f"{count_of(chain.blocks, 'block')}, {count_of(chain.signatures, 'signature')} verified"
    return f"<p>And the chain of blocks: {what}. For every block of it:</p>\n<ol>{items}</ol>\n{torn}"


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
    return (
        f"{finding.height:,}" if finding.until is None else f"{finding.height:,} to {getattr(finding, 'until', None):,}"
    )


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


def _repeat(report: Report) -> str:
    if not report.paths:
        return ""
    paths = [shlex.quote(str(path)) for path in report.paths]
    version = escape(_evbackup.__version__)
    verify = escape(" ".join(["evbackup verify", "--level", report.level, "--", *paths]))
    steps = [
        f"<li><p>With evbackup, where the files are:</p><pre>pip install evbackup=={version}\n{verify}</pre></li>",
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
