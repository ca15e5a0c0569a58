"""`restore`, `apply` and their twins: what writes a datastore."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from . import _evbackup
from ._job import wait, wait_async
from ._results import Applied, Restored
from ._types import Paths, StrPath, paths_of, reading_of, trusted_of, whole
from .errors import InvalidArgument

if TYPE_CHECKING:
    from ._progress import ProgressOption


def restore(
    paths: Paths,
    dest: StrPath,
    *,
    engine: Literal["badger", "rocksdb"] = "badger",
    history: bool = False,
    at_height: int | None = None,
    role: Literal["follower", "aggregator"] | None = None,
    drop_queue: bool = False,
    requeue: bool = False,
    force: bool = False,
    trusted: tuple[int, str] | None = None,
    genesis: StrPath | None = None,
    was_based: bool = False,
    overwrite: bool = False,
    keep_replaced: bool = True,
    owner: str | None = None,
    dry_run: bool = False,
    memory_mib: int = 256,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
    progress: ProgressOption = None,
) -> Restored:
    """Makes a datastore from a full segment and the increments that follow it, or from another datastore.

    It is built beside `dest`, proven while it is read, and takes its name only when it is whole and on the disk. What stood
    there is kept beside it.

    Args:
        paths: The full segment and its increments, in any order; or one datastore, a store or a Badger directory.
        dest: The datastore's directory, such as `/var/lib/evnode/data/evm-single`.
        engine: `"badger"` (what a node opens) or `"rocksdb"` (our store: query it, serve it, apply increments to it).
        history: Write every version of every key into a Badger directory, deletes included, instead of the newest live ones. A
            store always keeps them all.
        at_height: Cut the chain at this height, as if the node had stopped there: of a chain of segments the shortest part that is
            whole at it. None: take it all; of a torn chain, into a Badger directory, what is whole; and a copy of blocks that was
            cut short gets there in its newest state what is known of DA.
        role: What will start on what is cut: `"follower"` or `"aggregator"`, which gets what it submitted to DA and cannot know to be
            included submitted again, and is refused below what is public on DA.
        drop_queue: Leave the sequencer's queue out of what is cut.
        requeue: Put the transactions of the blocks above the cut into the sequencer's queue, before what is there.
        force: Cut below what is public on DA even for an aggregator.
        trusted: A height and the hash, as hex, of the header that the block at that height must have; the links lead down to it.
        genesis: The chain's `genesis.json`, which the blocks must fit. With one of these two the links of all blocks that would be
            written are checked first; what else may be wrong with them is for `verify`.
        was_based: The chain has switched away from a based sequencer, which may have broken one link: then a trusted hash says nothing
            of what lies on the other side of it.
        overwrite: Replace a datastore that stands at `dest` and that nobody holds open.
        keep_replaced: Keep what stood there beside it; the result names it.
        owner: `user` or `user:group` of the new files; None: as what is replaced; else, for root, as the parent directory.
        dry_run: Only plan: what would be read, written and replaced.
        memory_mib: Memory to use at most, in MiB.
        offline: The node is stopped: its lock is held meanwhile, and nothing is copied. For Badger directories, as the next two.
        staging: Where to copy what a running node may take away; None: beside the directory.
        any_file_system: Read a running node's directory even where the file system may not show what the node writes.
        max_rate: Bytes per second to copy at most.
        progress: True for a bar, or a callable that gets a `Progress` at most ten times a second.

    Returns:
        What was made, or with `dry_run` what would be.

    Raises:
        MissingError: A segment, or a link of the chain, is not there.
        MismatchError: A segment does not belong to the chain; an aggregator would start below what is public on DA; or the blocks are
            not those of `genesis` or `trusted`.
        DamagedError: A segment is not what its manifest says, or the block at `at_height` is not whole; nothing was written.
        ExistsError: There is something at `dest`, or it may not be replaced.
        InvalidArgument: There is no whole block at `at_height`; the text says which heights there are.
        UnsupportedError: There is an entry that Badger cannot hold; or the chain is of a release before v1.0.0-beta.9, which is
            restored whole but not cut.
        LockedError: A running node holds `dest`.
        NoSpaceError: It would not fit.
        InvalidArgument: The owner is unknown, or a directory stands among segments.

    Example:
        >>> evbackup.restore(["full.badger", "inc1.badger"], "/var/lib/evnode/data/evm-single")  # doctest: +SKIP
    """
    return Restored._of(wait(_evbackup.restore(_options(locals())), progress))


async def restore_async(
    paths: Paths,
    dest: StrPath,
    *,
    engine: Literal["badger", "rocksdb"] = "badger",
    history: bool = False,
    at_height: int | None = None,
    role: Literal["follower", "aggregator"] | None = None,
    drop_queue: bool = False,
    requeue: bool = False,
    force: bool = False,
    trusted: tuple[int, str] | None = None,
    genesis: StrPath | None = None,
    was_based: bool = False,
    overwrite: bool = False,
    keep_replaced: bool = True,
    owner: str | None = None,
    dry_run: bool = False,
    memory_mib: int = 256,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
    progress: ProgressOption = None,
) -> Restored:
    """`restore` for asyncio: same arguments, same result; cancelling the task leaves nothing behind."""
    return Restored._of(await wait_async(_evbackup.restore(_options(locals())), progress))


def _options(given: dict[str, Any]) -> dict[str, Any]:
    named = (
        *("engine", "history", "role", "drop_queue", "requeue", "force", "was_based"),
        *("overwrite", "keep_replaced", "dry_run"),
    )
    return {
        "paths": paths_of(given["paths"]),
        "dest": os.fspath(given["dest"]),
        "trusted": trusted_of(given["trusted"]),
        "at_height": whole("at_height", given["at_height"]),
        "memory_mib": whole("memory_mib", given["memory_mib"], at_least=1),
        "genesis": None if given["genesis"] is None else os.fspath(given["genesis"]),
        "owner": None if given["owner"] is None else _owner(given["owner"]),
        "reading": reading_of(
            offline=given["offline"],
            staging=given["staging"],
            any_file_system=given["any_file_system"],
            max_rate=given["max_rate"],
        ),
        **{name: given[name] for name in named},
    }


def _owner(owner: str) -> tuple[int, int]:
    """`user`, `user:group` or numbers, as numbers; without a group it is the user's own."""
    import grp  # noqa: PLC0415  # costs import time; few restores name an owner
    import pwd  # noqa: PLC0415

    user, colon, group = owner.partition(":")
    try:
        account = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        uid, own_group = account.pw_uid, account.pw_gid
    except KeyError:
        if not user.isdecimal() or not colon:
            raise InvalidArgument(f"expected a user of this machine as owner, found {user!r}") from None
        uid, own_group = int(user), 0
    if not colon:
        return uid, own_group
    try:
        return uid, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidArgument(f"expected a group of this machine as owner, found {group!r}") from None


def apply(paths: Paths, store: StrPath, *, progress: ProgressOption = None) -> Applied:
    """Adds increments to a store that is there; all of them or none.

    Args:
        paths: The increments, in any order; those already in the store are left out.
        store: The directory of a store (engine `"rocksdb"`).
        progress: True for a bar, or a callable that gets a `Progress` at most ten times a second.

    Returns:
        What was added.

    Raises:
        MissingError: There is a gap between the store and the increments.
        MismatchError: They do not belong to this store.
        LockedError: Another process holds the store.

    Example:
        >>> evbackup.apply("inc2.badger", "restored")  # doctest: +SKIP
    """
    return Applied._of(wait(_evbackup.apply(paths_of(paths), os.fspath(store)), progress))


async def apply_async(paths: Paths, store: StrPath, *, progress: ProgressOption = None) -> Applied:
    """`apply` for asyncio: same arguments, same result."""
    return Applied._of(await wait_async(_evbackup.apply(paths_of(paths), os.fspath(store)), progress))
