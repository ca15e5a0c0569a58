"""`open`: blocks, states and entries of a datastore or of segments, read-only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from . import _evbackup
from ._blocks import Chain
from ._job import wait
from ._results import DatastoreInfo
from ._table import Table
from ._types import paths_of, reading_of, whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ._types import Paths, StrPath

# Large enough that the crossing costs nothing, small enough that a page of 1 MB values fits.
PAGE = 256


@dataclass(frozen=True)
class Entry:
    """One key at one version.

    Attributes:
        key: The key.
        version: Badger's version: higher is newer.
        value: The value.
        user_meta: The application's byte.
        expires_at: Unix seconds, 0 for never.
    """

    key: bytes
    version: int
    value: bytes
    user_meta: int
    expires_at: int


class Datastore(Chain):
    """An open datastore at one state, or open segments; use it in `with` or `async with`, or `close()` it.

    Attributes:
        path: Its directory, or the first segment.
    """

    def __init__(self, paths: list[str], native: _evbackup.Opened) -> None:
        self.path = paths[0]
        self._paths = paths
        self._native = native

    def get(self, key: bytes | str, *, version: int | None = None) -> Entry | None:
        """The newest entry of a key.

        Args:
            key: The key; a text is taken as UTF-8.
            version: The newest at this version or below; None: the newest of all. Segments know only the newest.

        Returns:
            The entry, or None when there is none or it was deleted.
        """
        found = wait(self._native.get(_bytes(key), whole("version", version)))
        return None if found is None else Entry(*found)

    def prefix(self, prefix: bytes | str = b"", *, version: int | None = None) -> Iterator[Entry]:
        """The newest live entries of the keys that begin with `prefix`, in key order.

        Args:
            prefix: The beginning of the keys; a text is taken as UTF-8.
            version: The newest at this version or below; None: the newest of all.

        Yields:
            The entries, read in pages as they are asked for.

        Raises:
            UnsupportedError: Of segments: restore them into a store first.
        """
        version = whole("version", version)
        after: bytes | None = None
        while True:
            page, after = wait(self._native.page(_bytes(prefix), after, version, PAGE))
            for entry in page:
                yield Entry(*entry)
            if after is None:
                return

    def table(self, name: Literal["blocks", "keys", "families", "findings"]) -> Table:
        """What is in it, as rows for polars, DuckDB, pandas and whatever else reads Arrow.

        Args:
            name: `"blocks"`: the blocks by height. `"keys"`: every key with its sizes, in key order. `"families"`: what the keys of
                each family weigh over height, in at most 512 stretches. `"findings"`: what `verify` finds in it, which reads all of it
                at once; a Badger directory's node must be stopped.

        Returns:
            The table; nothing is read before somebody asks it for rows.

        Raises:
            InvalidArgument: There is no such table, or the datastore is closed.

        Example:
            >>> blocks = store.table("blocks").select("height", "time")  # doctest: +SKIP
            >>> duckdb.sql("select max(height) from blocks")  # doctest: +SKIP
        """
        if name == "findings":
            from ._verify import verify  # noqa: PLC0415  # the two modules need each other

            return verify(self._paths).table("findings")
        return Table(name, self._native.table(name))

    def info(self) -> DatastoreInfo:
        """What `inspect` says of it; for datastores only."""
        return DatastoreInfo._of(wait(self._native.info()))

    def close(self) -> None:
        """Lets go of the files; a second time does nothing."""
        self._native.close()

    def __enter__(self) -> Datastore:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Datastore:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Datastore {self.path}>"


def _bytes(key: bytes | str) -> bytes:
    return key.encode() if isinstance(key, str) else key


def open(  # noqa: A001  # read as evbackup.open
    path: Paths,
    *,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
) -> Datastore:
    """Opens a datastore or segments for reading.

    Args:
        path: The directory of a store or of a Badger database, told apart by their files. Or a segment; or the segments of a chain, in
            any order: their blocks, states and keys are read where they stand, without restoring them.
        offline: The node is stopped: its lock is held meanwhile, and nothing is copied. For Badger directories, as the next three.
        staging: Where to copy what a running node may take away; None: beside the directory.
        any_file_system: Read a running node's directory even where the file system may not show what the node writes.
        max_rate: Bytes per second to copy at most.

    Returns:
        The datastore at its present state. Of a directory that a node writes to, single keys and blocks are read as they are now until
        the first entries of a prefix are; from then on everything is of that moment.

    Raises:
        MissingError: There is nothing; or a link of the chain is not there.
        InvalidArgument: It is neither a datastore nor a segment.
        LockedError: Somebody is replacing it.
        DamagedError: A segment or its manifest is not what it must be.
        UnsupportedError: It is an encrypted Badger directory, or one of another version or on a network file system. Or a segment is not
            sorted: restore it, and open what it was restored to.

    Example:
        >>> with evbackup.open("restored") as store:  # doctest: +SKIP
        ...     print(store.chain_id, store.height, store.block(7).transactions)
        >>> with evbackup.open(["full.badger", "inc1.badger"]) as chain:  # doctest: +SKIP
        ...     print(chain.block("ba686e569c119e6384cb2c157462ac11252cc10cdec9957429a0ffa6fd630c1a"))
    """
    paths = paths_of(path)
    reading = reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate)
    if len(paths) > 1 or os.path.isfile(paths[0]):  # noqa: PTH113  # stays a text
        return Datastore(paths, wait(_evbackup.open_segments(paths)))
    return Datastore(paths, wait(_evbackup.open(paths[0], reading)))
