"""`align` and its twin: where a backup of ev-node and a copy of the execution layer belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _evbackup
from ._job import wait, wait_async
from ._results import Alignment
from ._types import Paths, StrPath, paths_of, reading_of, whole
from .errors import InvalidArgument

if TYPE_CHECKING:
    from ._progress import ProgressOption

_ROOT_BYTES = 32


def align(
    source: Paths,
    *,
    el_height: int,
    el_timestamp: int | None = None,
    el_state_root: str | bytes | None = None,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
    progress: ProgressOption = None,
) -> Alignment:
    """Says at which height to cut, so that what is restored fits a copy of the execution layer.

    What the copy says of its last block is held against the block of the same height: its time in seconds and the state root after
    it. Without these only the height is compared.

    Args:
        source: The full segment and its increments, in any order; or one datastore, a store or a Badger directory.
        el_height: The last block of the execution layer's copy.
        el_timestamp: Its time, in Unix seconds.
        el_state_root: The state root after it, as hex or as 32 bytes.
        offline: The node is stopped: its lock is held meanwhile, and nothing is copied. For Badger directories, as the next two.
        staging: Where to copy what a running node may take away; None: beside the directory.
        any_file_system: Read a running node's directory even where the file system may not show what the node writes.
        max_rate: Bytes per second to copy at most.
        progress: True for a bar, or a callable that gets a `Progress` at most ten times a second.

    Returns:
        Where to cut.

    Raises:
        MismatchError: The block is not there yet, was pruned, or is another one; the text says what was found, the hint what may help.
        MissingError: There is no such source, or the state of the block is pruned.
        DamagedError: The block cannot be read.

    Example:
        >>> fit = evbackup.align("full.badger", el_height=120_000, el_timestamp=1_767_225_600)  # doctest: +SKIP
        >>> evbackup.restore("full.badger", "evm-single", at_height=fit.at_height, role="follower")  # doctest: +SKIP
    """
    reading = reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate)
    job = _job(source, el_height, el_timestamp, el_state_root, reading)
    return Alignment._of(wait(job, progress))


async def align_async(
    source: Paths,
    *,
    el_height: int,
    el_timestamp: int | None = None,
    el_state_root: str | bytes | None = None,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    max_rate: int | None = None,
    progress: ProgressOption = None,
) -> Alignment:
    """`align` for asyncio: same arguments, same result."""
    reading = reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate)
    job = _job(source, el_height, el_timestamp, el_state_root, reading)
    return Alignment._of(await wait_async(job, progress))


def _job(
    source: Paths,
    el_height: int,
    el_timestamp: int | None,
    el_state_root: str | bytes | None,
    reading: tuple[bool, str | None, bool, int | None],
) -> _evbackup.Job:
    el_height, el_timestamp = whole("el_height", el_height), whole("el_timestamp", el_timestamp)
    return _evbackup.align(paths_of(source), el_height, el_timestamp, _root(el_state_root), reading)


def _root(given: str | bytes | None) -> bytes | None:
    """A state root as bytes."""
    if given is None:
        return None
    try:
        root = bytes.fromhex(given.removeprefix("0x")) if isinstance(given, str) else given
    except ValueError:
        root = b""
    if len(root) != _ROOT_BYTES:
        raise InvalidArgument(f"expected a state root of 64 hex digits or 32 bytes, found {given!r}")
    return root
