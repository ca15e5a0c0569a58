"""`evbackup check`: are the backups there, whole and young? The answer of a monitoring plugin: one line, and codes 0 to 3."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ._results import Segment, size
from .errors import DeniedError, EvbackupError

if TYPE_CHECKING:
    from collections.abc import Iterable

OK, WARNING, CRITICAL, UNKNOWN = range(4)
NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
# What weighs more: not to know is worse than a warning, and less than to know that something is wrong.
WEIGHT = {OK: 0, WARNING: 1, UNKNOWN: 2, CRITICAL: 3}

Problem: TypeAlias = tuple[int, str]

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# Clocks of two machines may differ by this much.
SKEW_S = 300


def seconds(text: str) -> int | None:
    """`6h`, `1h30m`, `90` (seconds) as seconds; None when it is nothing of the kind."""
    if text.isdecimal():
        return int(text)
    parts = re.findall(r"(\d+)([smhdw])", text)
    if not parts or "".join(map("".join, parts)) != text:
        return None
    return sum(int(number) * SECONDS[unit] for number, unit in parts)


def duration(count: float) -> str:
    """Seconds for people: the two largest units."""
    left, said = int(count), list[str]()
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= unit and len(said) < 2:  # noqa: PLR2004
            said.append(f"{left // unit} {name}")
            left %= unit
    return " ".join(said) or "0 s"


@dataclass(frozen=True)
class Backups:
    """What was found of one set of backups.

    Attributes:
        name: The folder, or the segment that was given first.
        problems: What is wrong, and how bad it is.
        newest: The newest segment, or None.
        chain: The segments that a restore of the newest needs, oldest first.
        age_s: Seconds since the newest was begun, or None.
        lag: How many blocks it is behind, or None.
        measures: The same as performance data.
    """

    name: str
    problems: tuple[Problem, ...]
    newest: Segment | None = None
    chain: tuple[Segment, ...] = ()
    age_s: float | None = None
    lag: int | None = None
    measures: tuple[tuple[str, str], ...] = ()

    def text(self) -> str:
        """It in a few words."""
        told = "; ".join(text for _, text in self.problems)
        if self.newest is None or self.age_s is None:
            return f"{self.name}: {told}"
        count, all_bytes = len(self.chain), size(sum(segment.bytes for segment in self.chain))
        sound = f"{count} segment{'' if count == 1 else 's'}, {all_bytes}" if count else "no chain"
        height = f", height {self.newest.complete_height:,}" if self.newest.complete_height else ""
        return f"{self.name}: {told}{'; ' if told else ''}{sound}, newest {duration(self.age_s)} old{height}"

    def as_dict(self) -> dict[str, Any]:
        """It as JSON types."""
        newest = self.newest
        return {
            "path": self.name,
            "state": NAMES[worst(self.problems)].lower(),
            "problems": [{"state": NAMES[code].lower(), "text": text} for code, text in self.problems],
            "newest": None if newest is None else str(newest.path),
            "started_at": None if newest is None else newest.started_at,
            "age_s": None if self.age_s is None else round(self.age_s, 3),
            "complete_height": None if newest is None else newest.complete_height,
            "height_lag": self.lag,
            "segments": [str(segment.path) for segment in self.chain],
            "bytes": sum(segment.bytes for segment in self.chain),
        }


@dataclass(frozen=True)
class State:
    """The answer.

    Attributes:
        backups: Of each set of backups.
        problems: Problems that belong to none of them.
    """

    backups: tuple[Backups, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def code(self) -> int:
        """0 to 3."""
        return worst(self.problems + tuple(problem for each in self.backups for problem in each.problems))

    def line(self) -> str:
        """The line of a monitoring plugin."""
        told = [text for _, text in self.problems] + [each.text() for each in self.backups]
        # A bar begins the performance data, and one line is all there is.
        text = re.sub(r"\s+", " ", "; ".join(told)).replace("|", "/")
        measures = " ".join(
            f"{self._label(each, name)}={value}" for each in self.backups for name, value in each.measures
        )
        return f"EVBACKUP {NAMES[self.code]} - {text}{' | ' if measures else ''}{measures}"

    def _label(self, each: Backups, name: str) -> str:
        if len(self.backups) == 1:
            return name
        return "'" + re.sub(r"['=|\s]", "_", f"{Path(each.name).name}_{name}") + "'"

    def as_dict(self) -> dict[str, Any]:
        """It as JSON types."""
        return {
            "state": NAMES[self.code].lower(),
            "code": self.code,
            "text": self.line(),
            "backups": [each.as_dict() for each in self.backups],
        }


def worst(problems: Iterable[Problem]) -> int:
    """The code of the weightiest problem."""
    return max((code for code, _ in problems), key=WEIGHT.__getitem__, default=OK)


def check(
    paths: Iterable[str], *, max_age_s: int | None = None, max_height_lag: int | None = None, against: str | None = None
) -> State:
    """Looks at backups without reading their data: manifests, sizes, the chain, age and height.

    Args:
        paths: Folders, each a set of backups; and segments, together one more.
        max_age_s: Older is critical.
        max_height_lag: More blocks behind is critical.
        against: The datastore whose tip counts; None: the tip that the source announced for the newest backup.

    Returns:
        The answer. Nothing is raised: what cannot be looked at is unknown.
    """
    given = [os.fspath(path) for path in paths]
    folders = [path for path in given if os.path.isdir(path)]  # noqa: PTH112  # stays a text
    segments = [path for path in given if path not in folders]
    problems: list[Problem] = []
    try:
        tip = None if against is None else _tip(against)
    except EvbackupError as error:
        tip = None
        problems.append((UNKNOWN, str(error)))
    try:
        sets = [(folder, _segments_of(folder)) for folder in folders]
        if segments:
            sets.append((segments[0], segments))
        found = [_look(name, files, max_age_s, max_height_lag, tip) for name, files in sets]
    except Exception as error:  # noqa: BLE001  # a plugin that breaks has to say that it does not know
        return State(problems=(*problems, (UNKNOWN, f"{type(error).__name__}: {error}")))
    return State(tuple(found), tuple(problems))


def _tip(datastore: str) -> int:
    from ._verify import inspect  # noqa: PLC0415

    return inspect(datastore, count=False).tip_height


def _segments_of(folder: str) -> list[str]:
    """The segments of a folder: what has a manifest, and what is called like one."""
    names = {entry.name for entry in os.scandir(folder) if entry.is_file()}
    found = {name for name in names if name.endswith(".badger")}
    found |= {name.removesuffix(".json") for name in names if name.endswith(".json")} & names
    return [str(Path(folder, name)) for name in sorted(found)]


def newest_chain(folder: str) -> list[str]:
    """The segments that a restore of the newest one in a folder needs, oldest first; none where there is none.

    Raises:
        EvbackupError: What stands beside a segment is damaged or may not be read, so nobody knows which chain it belongs to.
    """
    from ._verify import inspect  # noqa: PLC0415

    looked = [inspect(file) for file in _segments_of(folder) if _has_manifest(file)]
    newest = _newest([found for found in looked if isinstance(found, Segment)])
    return [] if newest is None else [str(segment.path) for segment in newest[0]]


def _has_manifest(file: str) -> bool:
    """Whether one stands beside it, or is about to: a run that was cut off there is made up for by whoever reads it."""
    return any(os.path.lexists(f"{file}{suffix}") for suffix in (".json", ".json.next"))


def _inspected(file: str) -> Segment | Problem:
    from ._verify import inspect  # noqa: PLC0415

    if os.path.isfile(file) and not _has_manifest(file):  # noqa: PTH113  # stays a text
        # What stands in it would only be known from reading all of it.
        return (WARNING, f"{file}: expected a manifest beside it, found none")
    try:
        found = inspect(file)
    except EvbackupError as error:
        return (UNKNOWN if isinstance(error, DeniedError) else CRITICAL, str(error))
    return found if isinstance(found, Segment) else (UNKNOWN, f"{file}: expected a segment, found a datastore")


def _look(name: str, files: list[str], max_age_s: int | None, max_height_lag: int | None, tip: int | None) -> Backups:
    looked = [_inspected(file) for file in files]
    segments = [found for found in looked if isinstance(found, Segment)]
    problems: list[Problem] = [found for found in looked if not isinstance(found, Segment)]
    found = _newest(segments)
    if found is None:
        return Backups(name, (*problems, (CRITICAL, "expected a backup, found none")))

    chain, broken = found
    newest = chain[-1]
    problems += broken
    problems += [
        (CRITICAL if finding.level == "error" else WARNING, str(finding))
        for segment in chain
        for finding in segment.findings
        if finding.level in {"error", "warning"}
    ]
    problems += [problem for segment in chain for problem in _cut(segment)]
    age = time.time() - (_began(newest) or 0.0)
    if max_age_s is not None and age > max_age_s:
        problems.append((CRITICAL, f"expected a backup of the last {duration(max_age_s)}"))
    if age < -SKEW_S:
        problems.append((WARNING, f"{newest.path}: it was begun in the future: a clock is wrong"))
    lag = max(0, (newest.announced_height if tip is None else tip) - newest.complete_height)
    if max_height_lag is not None and lag > max_height_lag:
        problems.append((CRITICAL, f"expected at most {max_height_lag:,} blocks behind, found {lag:,}"))
    measures = (
        ("age", f"{max(age, 0):.0f}s;;{_bound(max_age_s)};0"),
        ("height", f"{newest.complete_height};;;0"),
        ("lag", f"{lag};;{_bound(max_height_lag)};0"),
        ("segments", f"{len(chain)};;;0"),
        ("bytes", f"{sum(segment.bytes for segment in chain)}B;;;0"),
    )
    return Backups(name, tuple(problems), newest, () if broken else tuple(chain), age, lag, measures)


def _cut(segment: Segment) -> list[Problem]:
    """A file that has another length than its manifest says."""
    import json  # noqa: PLC0415

    try:
        manifest = json.loads(Path(f"{segment.path}.json").read_bytes())
    except (OSError, ValueError) as error:
        return [(UNKNOWN, f"{segment.path}: cannot read its manifest: {error}")]
    # What is compressed or encrypted has a length of its own.
    if manifest.get("encoding") or manifest.get("bytes") == segment.bytes:
        return []
    return [(CRITICAL, f"{segment.path}: expected {manifest.get('bytes')} bytes, found {segment.bytes}")]


def _bound(limit: int | None) -> str:
    return "" if limit is None else str(limit)


def _began(segment: Segment) -> float | None:
    """Unix seconds; None without a manifest."""
    if segment.started_at is None:
        return None
    # Python 3.10 knows neither the Z nor nine digits.
    text = re.sub(r"(\.\d{6})\d+", r"\1", re.sub(r"\.(\d+)", lambda digits: f".{digits[1]:0<6}", segment.started_at))
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _newest(segments: list[Segment]) -> tuple[list[Segment], list[Problem]] | None:
    """The chain of the segment that was begun last, and where it breaks off; None without one."""
    dated = [segment for segment in segments if _began(segment) is not None]
    if not dated:
        return None
    newest = max(dated, key=lambda segment: (_began(segment) or 0.0, segment.complete_version or 0))
    return _chain(newest, dated)


def _chain(newest: Segment, segments: list[Segment]) -> tuple[list[Segment], list[Problem]]:
    """What a restore of the newest needs, oldest first, and where it breaks off."""
    chain = [newest]
    while chain[0].kind != "full":
        after = chain[0]
        before = [segment for segment in segments if segment not in chain and _precedes(segment, after)]
        if not before:
            return chain, [(CRITICAL, f"{after.path}: expected the segment that it follows, found none")]
        chain.insert(0, max(before, key=lambda segment: (segment.complete_version or 0, _began(segment) or 0.0)))
    return chain, []


def _precedes(before: Segment, after: Segment) -> bool:
    if after.parent is not None:
        return before.sha256 == after.parent and after.parent_run_id in {None, before.run_id}
    # It was asked for from a bare version: whatever reaches that far will do.
    return before.complete_version is not None and before.complete_version >= after.since_version
