"""What notebooks show: HTML without scripts, style sheets and anything from outside, in the colours of whatever page is around it.

Text takes the colour of the page, so that it reads well in light and dark; only badges bring their own, with their background.
"""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import datetime, timezone
from html import escape
from typing import TYPE_CHECKING, Any

from ._result import Result, count_of, size
from ._results import Finding, Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# White on these has a contrast of at least 5 to 1.
COLOURS = {"ok": "#1a7f37", "error": "#b3261e", "warning": "#8a5300", "info": "#4a5568"}
SIZES = frozenset({"bytes", "disk_bytes", "total_bytes"})
LINE = "border-bottom:1px solid rgba(128,128,128,0.35);padding:0.2em 0.8em 0.2em 0;vertical-align:top"
# In a row with others, its beginning tells it apart.
HASH = re.compile("[0-9a-f]{40,}")
# So many findings are shown, and so many of whatever else there are several; the others are counted.
SHOWN = 20


def badge(level: str, text: str | None = None) -> str:
    """A word on its own background."""
    style = f"background:{COLOURS[level]};color:#fff;padding:0.05em 0.5em;border-radius:0.3em;white-space:nowrap"
    return f'<span style="{style}">{escape(level if text is None else text)}</span>'


def cell(name: str, value: object) -> str:
    """A value for people."""
    if isinstance(value, tuple):
        more = [f"and {len(value) - SHOWN:,} more"] if len(value) > SHOWN else []
        return "<br>".join([*(cell(name, item) for item in value[:SHOWN]), *more])
    if name == "level" and value in COLOURS:
        return badge(str(value))
    return "" if value is None else escape(_text(name, value))


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return repr(value) if isinstance(value, Result) else str(value)
    if name in SIZES and value >= 1000:  # noqa: PLR2004  # below, it would say the same twice
        return f"{value:,} ({size(value)})"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"


def result(of: Result) -> str:
    """The fields of a result, one in a row; those that say nothing are left out."""
    if isinstance(of, Report):
        return _report(of)
    return _fields(of, [field.name for field in fields(of)], escape(type(of).__name__))


def _report(report: Report) -> str:
    state = badge("ok") if report.ok else badge("error", count_of(len(report.errors), "error"))
    if report.warnings:
        state += " " + badge("warning", count_of(len(report.warnings), "warning"))
    hidden = {"findings", "ok", "paths", "parts"}
    if report.asked is not None and report.asked.addr is not None:
        # A node shows its blocks, and nothing of what they are stored in.
        hidden |= {"level", "bytes", "entries", "last_version", "complete_version", "tip_height", "deletes"}
    names = [field.name for field in fields(report) if field.name not in hidden]
    html = _fields(report, names, f"Report {state}")
    if report.findings:
        more = len(report.findings) - SHOWN
        caption = f"Findings, the first {SHOWN} of {len(report.findings):,}" if more > 0 else "Findings"
        rows = [_finding(finding) for finding in report.findings[:SHOWN]]
        html += table(("level", "code", "height", "what", "hint"), rows, caption=caption)
    return html


def _finding(finding: Finding) -> tuple[object, ...]:
    return finding.level, finding.code, finding.height, str(finding), finding.hint


def _fields(of: Result, names: Iterable[str], caption: str) -> str:
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;{LINE}">{name}</th>'
        f'<td style="text-align:left;overflow-wrap:anywhere;{LINE}">{cell(name, getattr(of, name))}</td></tr>'
        for name in names
        if getattr(of, name) not in (None, (), "")
    )
    return f'<table style="border-collapse:collapse">{_caption(caption)}<tbody>{rows}</tbody></table>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str) -> str:
    """Rows of plain values under their names."""

    def of(name: str, value: object) -> str:
        text = when(value) if name in {"time", "expires_at"} and isinstance(value, int) else cell(name, value)
        if HASH.fullmatch(text):
            text = f'<span title="{text}">{text[:12]}…</span>'
        side = "right" if isinstance(value, int) and not isinstance(value, bool) else "left"
        wrap = "white-space:nowrap" if name in {"code", "height", "time"} else "overflow-wrap:anywhere"
        return f'<td style="text-align:{side};{wrap};{LINE}">{text}</td>'

    head = "".join(f'<th scope="col" style="text-align:left;{LINE}">{escape(name)}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(map(of, columns, row))}</tr>" for row in rows)
    return (
        f'<table style="border-collapse:collapse">{_caption(escape(caption))}'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _caption(html: str) -> str:
    return f'<caption style="text-align:left;caption-side:top;color:inherit;font-weight:bold">{html}</caption>'


def when(nanoseconds: int) -> str:
    """A moment in UTC, to the millisecond."""
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, timezone.utc)
    except (OverflowError, ValueError):
        return f"{nanoseconds:,} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{nanoseconds // 1_000_000 % 1000:03}Z"


def bar(done: float | None, text: str, *, ended: bool = False) -> str:
    """A progress bar with what it stands at; without a share, one that only says that something goes on."""
    style = "vertical-align:middle;margin-right:0.6em;width:16em"
    value = "" if done is None else f' value="{min(max(done, 0.0), 1.0):.3f}" max="1"'
    progress = "" if ended else f'<progress style="{style}" aria-label="progress"{value}></progress>'
    return f"<div>{progress}<span>{escape(text)}</span></div>"


def attributes(**given: Any) -> str:
    """Attributes of an element, escaped; those that are None are left out."""
    return "".join(
        f' {name.replace("_", "-")}="{escape(str(value))}"' for name, value in given.items() if value is not None
    )
