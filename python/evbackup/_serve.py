"""`serve`: a datastore behind the RPCs of a node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import _evbackup
from ._job import wait, wait_async
from ._types import reading_of, whole

if TYPE_CHECKING:
    from types import TracebackType

    from ._types import StrPath, Tls


class Server:
    """A running server; use it in `with` or `async with`, or `stop()` it.

    Attributes:
        address: Where it listens, such as `127.0.0.1:7332`; with the real port when 0 was asked for.
    """

    def __init__(self, native: _evbackup.Server) -> None:
        self._native = native
        self.address: str = native.address

    def stop(self) -> None:
        """Stops it; backups under way are cut, and their clients say so. A second time does nothing."""
        wait(self._native.stop())

    def wait(self) -> None:
        """Waits until it is stopped, or for Ctrl-C."""
        wait(self._native.stopped())

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await wait_async(self._native.stop())

    def __repr__(self) -> str:
        return f"<Server {self.address}>"


def serve(
    path: StrPath,
    addr: str = "127.0.0.1:7332",
    *,
    tls: Tls | None = None,
    token: str | None = None,
    insecure: bool = False,
    max_rate: int | None = None,
    max_backups: int = 2,
    offline: bool = False,
    staging: StrPath | None = None,
    any_file_system: bool = False,
) -> Server:
    """Serves a datastore: backups of it, for this tool and the node's own clients, and the RPCs that read a node's blocks.

    Args:
        path: The directory of a datastore: a store, or a Badger directory, whose node may be running.
        addr: Where to listen; port 0 picks a free one.
        tls: Our certificate and key; with `ca`, clients need a certificate signed by it.
        token: The bearer token that clients must send.
        insecure: Listen beyond this machine without TLS and token, or take the token over plain text.
        max_rate: Bytes per second at most, for all backups together; and for what each copies of a Badger directory.
        max_backups: Backups at once; more are told to come back.
        offline: The node is stopped: its lock is held meanwhile, and nothing is copied. For Badger directories, as the next two.
        staging: Where to copy what a running node may take away; None: beside the directory.
        any_file_system: Read a running node's directory even where the file system may not show what the node writes.

    Returns:
        The server, already listening.

    Raises:
        MissingError: There is nothing.
        InvalidArgument: It is no datastore; or beyond this machine, and neither TLS and a token nor `insecure`; or not an address
            of this machine.
        LockedError: The port is in use, or somebody is replacing the datastore.
        UnsupportedError: It is an encrypted Badger directory, or one of another version or on a network file system.

    Example:
        >>> with evbackup.serve("restored", "127.0.0.1:0") as server:  # doctest: +SKIP
        ...     evbackup.backup(server.address, "again.badger")
    """
    options = {
        "path": os.fspath(path),
        "addr": addr,
        "tls": None if tls is None else tls._options(),
        "token": token,
        "insecure": insecure,
        "max_rate": whole("max_rate", max_rate, at_least=1),
        "max_backups": whole("max_backups", max_backups, at_least=1),
        "reading": reading_of(offline=offline, staging=staging, any_file_system=any_file_system, max_rate=max_rate),
    }
    return Server(wait(_evbackup.serve(options)))
