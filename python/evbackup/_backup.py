"""`backup` and its twin."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from . import _evbackup, _run
from ._job import wait, wait_async
from ._results import Backup
from ._types import StrPath, Tls, local, reading_of, refuse, whole
from .errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._progress import ProgressOption

Since: TypeAlias = int | Backup | StrPath


def backup(
    addr: StrPath,
    path: StrPath,
    since: Since = 0,
    *,
    via: Literal["auto", "rpc", "blocks"] = "auto",
    raw: bool = False,
    on_mismatch: Literal["error", "full"] = "error",
    exact: bool | None = None,
    target_height: int | None = None,
    overwrite: bool = False,
    tls: Tls | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    insecure: bool = False,
    max_rate: int | None = None,
    connect_timeout_s: float = 10.0,
    idle_timeout_s: float = 60.0,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    progress: ProgressOption = None,
) -> Backup:
    """Takes a hot backup of a node, of `evbackup serve`, or of a datastore on this machine.

    The segment appears under its name whole, with its manifest beside it, or not at all.

    Args:
        addr: `host:port` (7331, the node's, when there is no port), `http://…` or `https://…`; or a datastore on this machine: an
            `os.PathLike`, or a text that starts with `/`, `./`, `../` or `~`.
        path: The segment to write; or a folder, which gets a segment named after its source and the time.
        since: What is backed up already: an earlier `Backup`, the path of an earlier segment, a version (exclusive), or
            `"auto"`: whatever the folder `path` holds. 0 is a full backup.
        via: How a node is asked. `"rpc"`: by the Backup RPC. `"blocks"`: block by block, by the RPCs that every released node has;
            `lacks` says what they do not give. `"auto"`: by the Backup RPC, and block by block where there is none, which `via` and
            `notes` say; a chain goes on in the way that it was begun.
        raw: Where blocks are copied: byte for byte, by names that lead out of the node's metadata. They work in released nodes by
            accident and are probed first; where they do not, blocks are copied by the documented RPCs.
        on_mismatch: When the source is not what `since` is based on: `"error"`, or `"full"`: take a full backup instead, and
            say so in `kind` and `notes`.
        exact: Compare with all keys of the base, so that every delete is found; None: where it is needed.
        target_height: Fail before anything is sent if the node's tip is below this height.
        overwrite: Replace the segment and manifest that stand at `path`.
        tls: Speak TLS with these files; `https://` alone trusts the machine's roots.
        token: A bearer token; refused over plain text to another machine unless `insecure`.
        headers: More gRPC metadata to send.
        insecure: Send the token over plain text all the same.
        max_rate: Bytes per second at most; of a Badger directory, what is copied.
        connect_timeout_s: Seconds to wait for a connection.
        idle_timeout_s: Seconds to wait for the next message; there is no limit for the whole.
        offline: The node is stopped: its lock is held meanwhile, and nothing is copied. For Badger directories, as the next two.
        staging: Where to copy what a running node may take away; None: beside the directory.
        any_file_system: Read a running node's directory even where the file system may not show what the node writes.
        progress: True for a bar in a terminal or a notebook, or a callable that gets a `Progress` at most ten times a second.

    Returns:
        What was written, from which version to which.

    Raises:
        UnavailableError: Nobody answers there; worth a retry.
        IncompleteError: The stream ended early; nothing was written.
        MismatchError: The source is not what the increment is based on.
        ExistsError: There is something at `path`.
        UnsupportedError: There is no Backup RPC, where only that may be used; the hint says what to do instead.
        DamagedError: A node sent blocks that are not what they must be; the text says at which height.
        DeniedError: TLS, the token or file modes are in the way.
        LockedError: With `offline`, a node has the directory open.

    Example:
        >>> full = evbackup.backup("node:7331", "full.badger")  # doctest: +SKIP
        >>> inc = evbackup.backup("node:7331", "inc1.badger", since=full)  # doctest: +SKIP
    """
    options = _options(locals())
    return Backup._of(wait(_evbackup.backup(options), progress))


async def backup_async(
    addr: StrPath,
    path: StrPath,
    since: Since = 0,
    *,
    via: Literal["auto", "rpc", "blocks"] = "auto",
    raw: bool = False,
    on_mismatch: Literal["error", "full"] = "error",
    exact: bool | None = None,
    target_height: int | None = None,
    overwrite: bool = False,
    tls: Tls | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    insecure: bool = False,
    max_rate: int | None = None,
    connect_timeout_s: float = 10.0,
    idle_timeout_s: float = 60.0,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
    progress: ProgressOption = None,
) -> Backup:
    """`backup` for asyncio: same arguments, same result; cancelling the task leaves nothing behind."""
    options = _options(locals())
    return Backup._of(await wait_async(_evbackup.backup(options), progress))


def stream(addr: StrPath, manifest: StrPath | None, options: dict[str, Any], progress: ProgressOption) -> Backup:
    """`backup` with the bare segment written to standard output; for the command line."""
    given = _options({**(backup.__kwdefaults__ or {}), **options, "addr": addr, "path": "-"})
    native = {**given, "output": ("stdout", "-"), "manifest": None if manifest is None else os.fspath(manifest)}
    return Backup._of({**wait(_evbackup.backup(native), progress), "path": None})


OF_PATHS = ("offline", "staging", "any_file_system")
OF_NODES = ("tls", "token", "headers", "insecure")


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the native module takes them."""
    directory = local(given["addr"])
    place = {"addr": given["addr"] if directory is None else None}
    refuse({**given, **place}, backup.__kwdefaults__ or {}, of_paths=OF_PATHS, of_nodes=OF_NODES)
    path = os.fspath(given["path"])
    folder = path.endswith("/") or os.path.isdir(path)  # noqa: PTH112  # keeps a trailing slash
    tls: Tls | None = given["tls"]
    return {
        "source": ("directory", directory) if directory is not None else ("address", given["addr"]),
        "output": ("folder" if folder else "file", path),
        "manifest": None,
        "since": _since(given["since"]),
        "via": given["via"],
        "raw": given["raw"],
        "on_mismatch": given["on_mismatch"],
        "exact": given["exact"],
        "target_height": whole("target_height", given["target_height"]),
        "overwrite": given["overwrite"],
        "tls": None if tls is None else tls._options(),
        "token": given["token"],
        "headers": list((given["headers"] or {}).items()),
        "insecure": given["insecure"],
        "max_rate": whole("max_rate", given["max_rate"], at_least=1),
        "reading": reading_of(
            offline=given["offline"],
            staging=given["staging"],
            any_file_system=given["any_file_system"],
            max_rate=given["max_rate"],
        ),
        "connect_timeout_s": given["connect_timeout_s"],
        "idle_timeout_s": given["idle_timeout_s"],
        "run_id": _run.manifest_id(),
    }


def _since(since: Since) -> tuple[str, str | None, int]:
    if isinstance(since, Backup):
        # Its segment proves what the increment is based on; one that went to standard output left only its number.
        return ("version", None, since.next_since) if since.path is None else ("segment", str(since.path), 0)
    if isinstance(since, bool) or not isinstance(since, (int, str, os.PathLike)):
        raise InvalidArgument(f"expected a version, a backup, a path or 'auto' for since, found {since!r}")
    if isinstance(since, int):
        return ("version", None, whole("since", since))
    return ("auto", None, 0) if since == "auto" else ("segment", os.fspath(since), 0)
