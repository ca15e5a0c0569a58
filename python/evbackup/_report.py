"""What `verify` returns: what was asked, what was found, and what each segment claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ._chain import ChainReport
from ._result import Result, count_of, size
from .errors import DamagedError, EvbackupError, InvalidArgument, MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ._table import Table
    from ._types import StrPath


@dataclass(frozen=True, repr=False)
class Finding(Result):
    """One thing that `verify` found.

    Attributes:
        level: `"error"`, `"warning"` or `"info"`.
        code: A stable name, for scripts.
        message: What was expected and what was found.
        file: The file it is about, or None.
        offset: The byte in that file, or None.
        key: The entry's key as hex, or None.
        height: The block, or None.
        hint: What to do next, or None.
        until: The last block where it is about several, or None.
        rule: The number of the chain's rule that is broken, or None.
        kind: Which error it is: `"damaged"`, `"mismatch"`, `"missing"` or `"unsupported"`.
    """

    level: str
    code: str
    message: str
    file: Path | None = None
    offset: int | None = None
    key: str | None = None
    height: int | None = None
    hint: str | None = None
    until: int | None = None
    rule: int | None = None
    kind: str = "damaged"

    _paths = frozenset({"file"})

    def _short(self) -> str:
        return f"{self.level} {self.code}: {self}"

    def __str__(self) -> str:
        where = f"{self.file}: " if self.file is not None else ""
        at = f" at byte {self.offset}" if self.offset is not None and "at byte " not in self.message else ""
        return f"{where}{self.message}{at}"


@dataclass(frozen=True, repr=False)
class VerifiedSegment(Result):
    """One segment as `verify` has read it: what its manifest claims, which the report's findings confirm or deny.

    Attributes:
        path: The segment.
        kind: `"full"`, `"inc"`, or `"unknown"` without a manifest.
        bytes: Its size.
        entries: Entries in it, or None where nobody has counted them.
        since_version: What it follows, exclusive.
        last_version: The highest version in it.
        tip_height: The tip inside it.
        complete_height: The highest height that is whole in it.
        sha256: Of its bytes, as the manifest says, or None.
        started_at: When the backup began, RFC 3339, or None.
        source: Where it came from, or None.
    """

    path: Path
    kind: str
    bytes: int
    entries: int | None
    since_version: int
    last_version: int
    tip_height: int
    complete_height: int
    sha256: str | None
    started_at: str | None
    source: str | None

    _paths = frozenset({"path"})

    def _short(self) -> str:
        return f"{self.kind} {self.path}: {size(self.bytes)}, height {self.complete_height:,}"


@dataclass(frozen=True, repr=False)
class Asked(Result):
    """What `verify` was asked: its options, but for secrets and how to connect. What does not apply has no value.

    Attributes:
        addr: The address of a node; None for paths.
        against: What the node was held against: the segments of a chain, or a datastore.
        sample: How many of the node's heights were to be compared.
        level: `"quick"` or `"full"`.
        chain: Whether the blocks were to be checked; None also when that was left to what is found.
        trusted: A height and the hash that its header must have.
        genesis: The chain's genesis file.
        signatures: What was said of signatures: `"required"`, `"optional"`, `"other-payload"` or `"unverified"`.
        was_based: The chain has switched away from a based sequencer.
        el_height: A block of the execution layer.
        el_timestamp: Its time in Unix seconds.
        el_state_root: The state root after it, as hex.
    """

    addr: str | None = None
    against: tuple[Path, ...] = ()
    sample: int | None = None
    level: str | None = None
    chain: bool | None = None
    trusted: tuple[int, str] | None = None
    genesis: Path | None = None
    signatures: str | None = None
    was_based: bool | None = None
    el_height: int | None = None
    el_timestamp: int | None = None
    el_state_root: str | None = None

    _paths = frozenset({"against", "genesis"})

    def _short(self) -> str:
        given = ((name, value) for name, value in self.as_dict().items() if value not in (None, False, []))
        return ", ".join(f"{name} {value}" for name, value in given)


@dataclass(frozen=True, repr=False)
class Report(Result):
    """What `verify` found out. Ask `.ok`, or call `raise_for_findings()`; the report itself is neither true nor false.

    Attributes:
        ok: No errors; there may be warnings.
        level: `"quick"` or `"full"`.
        findings: Everything found, in the order of the segments.
        segments: The segments, oldest first.
        bytes: Bytes read.
        entries: Entries read; None when not all were.
        last_version: The highest version.
        complete_version: Up to this version nothing is missing; None when nothing says so.
        announced_height: The newest height that the source announced.
        tip_height: The tip in the newest segment.
        complete_height: The highest height that is whole.
        deletes: `"exact"`, `"derived"` or `"unknown"`.
        elapsed_s: Seconds it took.
        chain: What came of the blocks; None where they were not checked.
        paths: What was given: the segments, or the datastore; empty where it was a running node.
        parts: What each segment claims, in their order.
        compared_heights: How many heights of a running node were looked at; None where it was none.
        asked: What was asked; None where nobody has noted it.
    """

    ok: bool
    level: str
    findings: tuple[Finding, ...]
    segments: tuple[Path, ...]
    bytes: int
    entries: int | None
    last_version: int
    complete_version: int | None
    announced_height: int
    tip_height: int
    complete_height: int
    deletes: str
    elapsed_s: float
    chain: ChainReport | None = None
    paths: tuple[Path, ...] = ()
    parts: tuple[VerifiedSegment, ...] = ()
    compared_heights: int | None = None
    asked: Asked | None = None

    _paths = frozenset({"segments", "paths"})
    _nested: ClassVar[Mapping[str, type[Result]]] = {
        "findings": Finding,
        "chain": ChainReport,
        "parts": VerifiedSegment,
        "asked": Asked,
    }

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make it not ok."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that `strict` counts as well."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def raise_for_findings(self, *, strict: bool = False) -> Report:
        """Raises when something is wrong.

        Args:
            strict: Count warnings, too.

        Returns:
            The report itself, so that calls chain.

        Raises:
            DamagedError: There are errors; its path and offset are those of the first.
            MismatchError: All of them say that two things do not belong together, such as the chain and the genesis.
        """
        bad = self.errors + (self.warnings if strict else ())
        if bad:
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            first = bad[0]
            hint = first.hint or "look at .findings for all of them"
            foreign = all(finding.kind == MismatchError.code for finding in bad)
            cls: type[EvbackupError] = MismatchError if foreign else DamagedError
            raise cls(f"{first}{more}", hint=hint, path=first.file, offset=first.offset)
        return self

    def table(self, name: Literal["findings"] = "findings") -> Table:
        """The findings as rows for polars, DuckDB, pandas and whatever else reads Arrow.

        Args:
            name: `"findings"`.

        Returns:
            A row for each finding, with its fields as columns.

        Raises:
            InvalidArgument: There is no such table.
        """
        from ._table import of_findings  # noqa: PLC0415  # only notebooks come here

        if name != "findings":
            raise InvalidArgument(f'expected "findings" as the table of a report, found {name!r}')
        return of_findings(self.findings)

    def to_html(self, path: StrPath, *, overwrite: bool = False, strict: bool = False) -> Path:
        """Writes the report as a page: one file that loads nothing, to look at, to print, to send.

        It says what was checked and what was found, shows heights and gaps, lists digests, and how to repeat it by hand.

        Args:
            path: The file; it appears whole or not at all.
            overwrite: Replace the file that is there.
            strict: Count warnings as errors, as `raise_for_findings(strict=True)` does.

        Returns:
            The file's path.

        Raises:
            ExistsError: Something is there.
            IoError: It cannot be written.

        Example:
            >>> evbackup.verify("full.badger").to_html("full.html")  # doctest: +SKIP
        """
        from ._page import write  # noqa: PLC0415  # few need it

        return write(self, path, overwrite=overwrite, strict=strict)

    def __bool__(self) -> bool:
        raise TypeError("a report is neither true nor false: use .ok or .raise_for_findings()")

    def _short(self) -> str:
        state = "ok" if self.ok else count_of(len(self.errors), "error")
        warned = f", {count_of(len(self.warnings), 'warning')}" if self.warnings else ""
        if (node := self._node()) is not None:
            return f"{state}{warned}: node {node}: {count_of(self.compared_heights or 0, 'height')} compared"
        entries = "" if self.entries is None else f", {self.entries:,} entries"
        what = count_of(len(self.segments), "segment") if self.segments else "datastore"
        return f"{state}{warned}: {what}, {size(self.bytes)}{entries}"

    def _node(self) -> str | None:
        """The address of the node that was asked; None where it was paths."""
        return None if self.asked is None else self.asked.addr
