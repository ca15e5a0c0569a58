"""What the verbs return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._chain import ChainInfo
from ._report import Asked, Finding, Report, VerifiedSegment
from ._result import Result, size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Asked", "Finding", "Report", "Result", "VerifiedSegment", "size"]


@dataclass(frozen=True, repr=False)
class Backup(Result):
    """What `backup` made. It may stand wherever a segment's path may, and as `since`.

    Attributes:
        path: The segment; None when it went to standard output.
        kind: `"full"` or `"inc"`.
        via: How it came: `"rpc"`; `"blocks"` or `"raw"`, block by block; of a datastore on this machine `"store"` or `"badger"`.
        lacks: What the source could not give, by names that the manifest's page explains.
        bytes: Size of the segment.
        entries: Entries in it, tombstones included.
        since_version: What it follows, exclusive; 0 for a full backup.
        last_version: The highest version in it.
        complete_version: Up to this version it surely misses nothing.
        next_since: Where the next increment has to begin.
        announced_height: The tip when the backup began.
        tip_height: The tip inside the segment, which may be torn.
        complete_height: The highest height that is whole in it.
        deletes: `"exact"`, `"derived"` or `"unknown"`: how sure it is that what was deleted is deleted by it.
        sha256: Of the segment's bytes, as hex.
        elapsed_s: Seconds it took.
        source: Where it came from, without credentials.
        notes: What a person should know, such as why it is full after all.
    """

    path: Path | None
    kind: str
    via: str
    lacks: tuple[str, ...]
    bytes: int
    entries: int
    since_version: int
    last_version: int
    complete_version: int
    next_since: int
    announced_height: int
    tip_height: int
    complete_height: int
    deletes: str
    sha256: str
    elapsed_s: float
    source: str
    notes: tuple[str, ...] = ()

    _paths = frozenset({"path"})

    def __fspath__(self) -> str:
        if self.path is None:
            raise TypeError("expected a backup with a path, found one that went to standard output")
        return str(self.path)

    def _short(self) -> str:
        return f"{self.kind} {self.path or '-'}: {size(self.bytes)}, {self.entries:,} entries, height {self.complete_height:,}"


@dataclass(frozen=True, repr=False)
class Change(Result):
    """One kind of change that a cut made to one family of keys.

    Attributes:
        family: The family, such as `"headers"`, `"metadata"` or `"queue"`.
        action: `"dropped"`, `"rewritten"` or `"added"`.
        entries: How many keys.
        keys: The names of the first hundred; none of what is merely above the cut.
        why: Why.
    """

    family: str
    action: str
    entries: int
    keys: tuple[str, ...]
    why: str

    def _short(self) -> str:
        return f"{self.family}: {self.entries:,} {self.action}: {self.why}"


@dataclass(frozen=True, repr=False)
class Restored(Result):
    """What `restore` made, or with `dry_run` would make.

    Attributes:
        path: The datastore.
        engine: `"badger"` or `"rocksdb"`.
        dry_run: Nothing was written.
        segments: The segments it was made from, in order; or the datastore.
        entries: Entries written; of a plan, those that the manifests or the store count.
        bytes: Bytes of the segments, or about how many the datastore has.
        last_version: The highest version that was ever given out; what is written to it next is above.
        complete_version: The version up to which it misses nothing.
        store_id: The new history that begins with it, as hex; empty in a plan.
        deletes: `"exact"`, `"derived"` or `"unknown"`.
        tip_height: The tip in it.
        complete_height: The highest height that is whole.
        cut_height: The height at which it was cut, or None where nothing was.
        changes: What the cut changed, family by family.
        dangers: What may go wrong with what was cut.
        next_steps: What to do before a node starts on what was cut.
        replaced: Where the datastore that stood there is now, or None.
        notes: What a person should know, such as the command that removes the replaced one.
        elapsed_s: Seconds it took.
    """

    path: Path
    engine: str
    dry_run: bool
    segments: tuple[Path, ...]
    entries: int
    bytes: int
    last_version: int
    complete_version: int
    store_id: str
    deletes: str
    tip_height: int
    complete_height: int
    cut_height: int | None
    changes: tuple[Change, ...]
    dangers: tuple[str, ...]
    next_steps: tuple[str, ...]
    replaced: Path | None
    notes: tuple[str, ...]
    elapsed_s: float

    _paths = frozenset({"path", "segments", "replaced"})
    _nested: ClassVar[Mapping[str, type[Result]]] = {"changes": Change}

    def _short(self) -> str:
        plan = "plan: " if self.dry_run else ""
        return f"{plan}{self.path} ({self.engine}): {self.entries:,} entries, {size(self.bytes)}, height {self.complete_height:,}"


@dataclass(frozen=True, repr=False)
class Alignment(Result):
    """Where `align` says to cut.

    Attributes:
        at_height: Cut here: what `restore` takes.
        timestamp: The block's time, Unix seconds.
        state_root: The app's state after the block, as hex.
        header_hash: The hash of the block's header, as hex.
        chain_id: The chain's name.
        compared: What the execution layer said and the block has: `"timestamp"`, `"state_root"`.
        segments: The segments that are needed, in order; or the datastore.
        notes: What a person should know.
        elapsed_s: Seconds it took.
    """

    at_height: int
    timestamp: int
    state_root: str
    header_hash: str
    chain_id: str
    compared: tuple[str, ...]
    segments: tuple[Path, ...]
    notes: tuple[str, ...]
    elapsed_s: float

    _paths = frozenset({"segments"})

    def _short(self) -> str:
        proof = " and ".join(self.compared) or "height alone"
        return f"cut at height {self.at_height:,}: the same {proof}"


@dataclass(frozen=True, repr=False)
class Applied(Result):
    """What `apply` added to a store.

    Attributes:
        path: The store.
        segments: The segments that were applied; those already in it are left out.
        entries: Entries that are new in it.
        bytes: Bytes of the segments.
        last_version: The highest version in it.
        complete_version: The version up to which it now misses nothing.
        store_id: Which history it belongs to, as hex.
        new_history: Entries arrived below what it had shown, so that it began a new history: its next backup is a full one.
        deletes: `"exact"`, `"derived"` or `"unknown"`.
        notes: What a person should know.
        elapsed_s: Seconds it took.
    """

    path: Path
    segments: tuple[Path, ...]
    entries: int
    bytes: int
    last_version: int
    complete_version: int
    store_id: str
    new_history: bool
    deletes: str
    notes: tuple[str, ...]
    elapsed_s: float

    _paths = frozenset({"path", "segments"})

    def _short(self) -> str:
        return f"{self.path}: {self.entries:,} entries, complete to version {self.complete_version:,}"


@dataclass(frozen=True, repr=False)
class Segment(Result):
    """What `inspect` reads from a segment: its manifest, or without one its bytes.

    Attributes:
        path: The segment.
        has_manifest: A manifest lies beside it.
        kind: `"full"`, `"inc"`, or `"unknown"` without a manifest.
        bytes: Its size.
        entries: Entries in it.
        frames: Frames in it.
        runs: Its sorted runs, or None where they are not known.
        since_version: What it follows, exclusive.
        last_version: The highest version in it.
        complete_version: Up to this version it surely misses nothing, or None where nobody says so.
        next_since: Where the next increment has to begin, or None where nobody says so.
        pinned: It was read at one version.
        store_id: Which history of versions it belongs to, as hex, or None.
        parent: The digest of the segment that it follows, or None.
        run_id: The run that wrote it, or None: increments without news share a digest, and this tells them apart.
        parent_run_id: The run that wrote the segment that it follows, or None.
        deletes: `"exact"`, `"derived"` or `"unknown"`.
        listed: Live keys listed beside it.
        announced_height: The tip when the backup began.
        tip_height: The tip inside it.
        complete_height: The highest height that is whole in it.
        chain: What chain of blocks is in it; None: no keys of ev-node's, or a manifest that does not say.
        sha256: Of its bytes, as the manifest says, or None.
        source: Where it came from, or None.
        started_at: When the backup began, RFC 3339, or None.
        tool: What wrote it, or None.
        notes: What its maker noted.
        findings: What is wrong with it, as far as it was looked at.
    """

    path: Path
    has_manifest: bool
    kind: str
    bytes: int
    entries: int
    frames: int
    runs: int | None
    since_version: int
    last_version: int
    complete_version: int | None
    next_since: int | None
    pinned: bool
    store_id: str | None
    parent: str | None
    run_id: str | None
    parent_run_id: str | None
    deletes: str
    listed: int
    announced_height: int
    tip_height: int
    complete_height: int
    chain: ChainInfo | None
    sha256: str | None
    source: str | None
    started_at: str | None
    tool: str | None
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]

    _paths = frozenset({"path"})
    _nested: ClassVar[Mapping[str, type[Result]]] = {"findings": Finding, "chain": ChainInfo}

    def _short(self) -> str:
        return f"{self.kind} {self.path}: {size(self.bytes)}, {self.entries:,} entries, height {self.complete_height:,}"


@dataclass(frozen=True, repr=False)
class AppliedSegment(Result):
    """One segment that a store took.

    Attributes:
        sha256: Its digest, as hex.
        store_id: The store id of its source, as hex; empty when it had none.
        complete_version: Up to this version it missed nothing.
    """

    sha256: str
    store_id: str
    complete_version: int

    def _short(self) -> str:
        return f"{self.sha256[:12]} to version {self.complete_version:,}"


@dataclass(frozen=True, repr=False)
class DatastoreInfo(Result):
    """What `inspect` says of a datastore.

    Attributes:
        path: Its directory.
        engine: `"badger"` or `"rocksdb"`.
        store_id: Which history of versions it belongs to, as hex.
        pinned_version: Entries above this version are not shown.
        last_version: The highest version in it.
        entries: Entries, all versions.
        bytes: Bytes of their keys and values.
        disk_bytes: Bytes on the disk.
        tables: Tables that a Badger directory lists; None for a store.
        deletes: `"exact"`, `"derived"` or `"unknown"`.
        tip_height: The tip in it.
        chain: What chain of blocks is in it; None: no keys of ev-node's.
        applied: What was applied to it, oldest first.
    """

    path: Path
    engine: str
    store_id: str
    pinned_version: int
    last_version: int
    entries: int
    bytes: int
    disk_bytes: int
    tables: int | None
    deletes: str
    tip_height: int
    chain: ChainInfo | None
    applied: tuple[AppliedSegment, ...]

    _paths = frozenset({"path"})
    _nested: ClassVar[Mapping[str, type[Result]]] = {"applied": AppliedSegment, "chain": ChainInfo}

    def _short(self) -> str:
        return f"{self.path} ({self.engine}): {self.entries:,} entries, version {self.pinned_version:,}, height {self.tip_height:,}"
