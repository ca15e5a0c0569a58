"""`verify`, `inspect`, `digest` and their twins: what only reads."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal

from . import _evbackup
from ._job import wait, wait_async
from ._results import DatastoreInfo, Report, Segment
from ._types import Paths, StrPath, address, paths_of, reading_of, refuse, trusted_of, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._progress import ProgressOption
    from ._types import Tls


def verify(
    paths: Paths,
    *,
    level: Literal["quick", "full"] = "full",
    chain: bool | None = None,
    trusted: tuple[int, str] | None = None,
    genesis: StrPath | None = None,
    signatures: Literal["required", "optional", "other-payload", "unverified"] = "required",
    was_based: bool = False,
    el_height: int | None = None,
    el_timestamp: int | None = None,
    el_state_root: str | None = None,
    against: Paths | None = None,
    sample: int = 100,
    tls: Tls | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    insecure: bool = False,
    connect_timeout_s: float = 10.0,
    idle_timeout_s: float = 60.0,
    progress: ProgressOption = None,
) -> Report:
    """Proves a segment, a chain of segments or a datastore without restoring it, and the blocks in it.

    Or holds a running node against a backup, block by block at some heights.

    Reads to the end and collects; only what cannot be read at all is raised.

    Args:
        paths: A segment or several; together they are checked as a chain. Or a datastore: a store, or a Badger directory whose
            node is stopped. Or the address of a node: `http://…`, `https://…`, or `host:port` where no file is called so.
        level: `"quick"` (manifest, sizes, frames, checksums) or `"full"` (also digests, every entry, order, the chain, the blocks).
        chain: Check the blocks, too; None: when ev-node's keys are found.
        trusted: A height and the hash, as hex, of the header that the block at that height must have; the links lead down to it.
        genesis: The chain's `genesis.json`.
        signatures: `"required"`; `"optional"` for a based sequencer, whose blocks have none; `"other-payload"` for an app that signs
            bytes of its own, which cannot be verified; `"unverified"`: they must be there and are not verified, which is quicker.
        was_based: The chain has switched away from a based sequencer, which may have broken the link of headers once.
        el_height: A block of the execution layer, whose values follow.
        el_timestamp: Its time in Unix seconds.
        el_state_root: The state root after it, as hex.
        against: For the address of a node: the segments of a chain, or a datastore, whose blocks it must have. None: only the node's
            own blocks are checked.
        sample: For the address of a node: how many heights are compared, spread over what both have, both ends among them.
        tls: For the address of a node: speak TLS with these files; `https://` alone trusts the machine's roots.
        token: A bearer token; refused over plain text to another machine unless `insecure`.
        headers: More gRPC metadata to send.
        insecure: Send the token over plain text all the same.
        connect_timeout_s: Seconds to wait for a connection.
        idle_timeout_s: Seconds to wait for an answer.
        progress: True for a bar, or a callable that gets a `Progress` at most ten times a second.

    Returns:
        Everything found. Ask `.ok`, or call `.raise_for_findings()`.

    Raises:
        MissingError: There is no such file.
        InvalidArgument: The call cannot be meant.
        DamagedError: A manifest is damaged, so nobody knows what its segment should be.
        UnavailableError: No node answers at the address.

    Example:
        >>> evbackup.verify(["full.badger", "inc1.badger"]).raise_for_findings()  # doctest: +SKIP
    """
    job, asked = _job(locals())
    return Report._of({**wait(job, progress), "asked": asked})


async def verify_async(
    paths: Paths,
    *,
    level: Literal["quick", "full"] = "full",
    chain: bool | None = None,
    trusted: tuple[int, str] | None = None,
    genesis: StrPath | None = None,
    signatures: Literal["required", "optional", "other-payload", "unverified"] = "required",
    was_based: bool = False,
    el_height: int | None = None,
    el_timestamp: int | None = None,
    el_state_root: str | None = None,
    against: Paths | None = None,
    sample: int = 100,
    tls: Tls | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    insecure: bool = False,
    connect_timeout_s: float = 10.0,
    idle_timeout_s: float = 60.0,
    progress: ProgressOption = None,
) -> Report:
    """`verify` for asyncio: same arguments, same result."""
    job, asked = _job(locals())
    return Report._of({**await wait_async(job, progress), "asked": asked})


# What is held against paths alone, and what a running node alone is asked. How long to wait may always be said.
OF_PATHS = ("level", "chain", "genesis", "was_based", "el_height", "el_timestamp", "el_state_root")
OF_NODES = ("against", "sample", "tls", "token", "headers", "insecure")


def node_of(paths: Paths) -> str | None:
    """The address that `paths` is, else None."""
    return address(paths) if isinstance(paths, str) else None


def _job(given: dict[str, Any]) -> tuple[_evbackup.Job, dict[str, Any]]:
    """The work that the arguments mean, and what of them the report says."""
    paths, addr = paths_of(given["paths"]), node_of(given["paths"])
    refuse({**given, "addr": addr}, verify.__kwdefaults__ or {}, of_paths=OF_PATHS, of_nodes=OF_NODES)
    given = {
        **given,
        "trusted": trusted_of(given["trusted"]),
        **{name: whole(name, given[name]) for name in ("el_height", "el_timestamp", "sample")},
        "genesis": None if given["genesis"] is None else os.fspath(given["genesis"]),
        "against": [] if given["against"] is None else paths_of(given["against"]),
    }
    if addr is None:
        asked = {name: given[name] for name in (*OF_PATHS, "trusted", "signatures")}
        return _evbackup.verify({**asked, "paths": paths}), asked
    asked = {name: given[name] for name in ("against", "sample", "trusted", "signatures")}
    tls: Tls | None = given["tls"]
    options = {
        **asked,
        "addr": addr,
        "tls": None if tls is None else tls._options(),
        "headers": list((given["headers"] or {}).items()),
        **{name: given[name] for name in ("token", "insecure", "connect_timeout_s", "idle_timeout_s")},
    }
    # Nobody should write a password into an address; if somebody has, it does not come into the report.
    return _evbackup.verify_live(options), {**asked, "addr": re.sub(r"//[^/]*@", "//", addr)}


def inspect(
    path: StrPath,
    *,
    count: bool = True,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
) -> Segment | DatastoreInfo:
    """Says what a segment or a datastore is, and what chain of blocks is in it; nothing is proven by it.

    Args:
        path: A segment, or the directory of a datastore.
        count: Count the keys of a datastore by family, which reads all of it; not of a running node's directory.
        offline: The node is stopped: its lock is held meanwhile, and nothing is copied. For Badger directories, as the next two.
        staging: Where to copy what a running node may take away; None: beside the directory.
        any_file_system: Read a running node's directory even where the file system may not show what the node writes.
        max_rate: Bytes per second to copy at most.

    Returns:
        A `Segment` or a `DatastoreInfo`.

    Raises:
        MissingError: There is nothing.
        InvalidArgument: It is a directory that is no datastore.
        DamagedError: Its manifest, or a store, is damaged.
        UnsupportedError: It is an encrypted Badger directory, or one of another version or on a network file system.

    Example:
        >>> evbackup.inspect("full.badger").next_since  # doctest: +SKIP
        1042
    """
    reading = reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate)
    return _inspected(wait(_evbackup.inspect(os.fspath(path), count, reading)))


async def inspect_async(
    path: StrPath,
    *,
    count: bool = True,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
) -> Segment | DatastoreInfo:
    """`inspect` for asyncio: same arguments, same result."""
    reading = reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate)
    return _inspected(await wait_async(_evbackup.inspect(os.fspath(path), count, reading)))


def _inspected(found: dict[str, Any]) -> Segment | DatastoreInfo:
    made: type[Segment | DatastoreInfo] = Segment if found.pop("type") == "segment" else DatastoreInfo
    return made._of(found)


def digest(
    path: Paths,
    *,
    at: int | None = None,
    now: int | None = None,
    history: bool = False,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
    progress: ProgressOption = None,
) -> str:
    """The logical digest: equal for a chain, a directory and a store that hold the same data.

    Args:
        path: The directory of a datastore, or the segments of a chain.
        at: The version to look at; None: everything.
        now: Unix seconds at which expiry is judged; None: now.
        history: Cover every entry, not only the newest live ones.
        offline: The node is stopped: its lock is held meanwhile, and nothing is copied. For Badger directories, as the next two.
        staging: Where to copy what a running node may take away; None: beside the directory.
        any_file_system: Read a running node's directory even where the file system may not show what the node writes.
        max_rate: Bytes per second to copy at most.
        progress: True for a bar, or a callable that gets a `Progress` at most ten times a second.

    Returns:
        SHA-256 as hex.

    Raises:
        MissingError: There is nothing.
        DamagedError: It cannot be read to the end.
        MismatchError: The segments do not belong together.

    Example:
        >>> evbackup.digest("full.badger") == evbackup.digest("/var/lib/restored")  # doctest: +SKIP
        True
    """
    reading = reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate)
    return str(wait(_digest(path, at, now, history=history, reading=reading), progress))


async def digest_async(
    path: Paths,
    *,
    at: int | None = None,
    now: int | None = None,
    history: bool = False,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
    progress: ProgressOption = None,
) -> str:
    """`digest` for asyncio: same arguments, same result."""
    reading = reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate)
    return str(await wait_async(_digest(path, at, now, history=history, reading=reading), progress))


def _digest(
    path: Paths, at: int | None, now: int | None, *, history: bool, reading: tuple[bool, str | None, bool, int | None]
) -> _evbackup.Job:
    return _evbackup.digest(paths_of(path), whole("at", at), whole("now", now), history, reading)
