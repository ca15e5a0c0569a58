"""What several verbs take."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

from .errors import InvalidArgument

StrPath: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = StrPath | Iterable[StrPath]


@dataclass(frozen=True)
class Tls:
    """How to speak TLS: files in PEM. `Tls()` is TLS with the machine's roots.

    Attributes:
        ca: Certificates to trust instead of the machine's; for a server, those that clients must be signed by.
        cert: Our own certificate chain.
        key: The private key of `cert`.
        server_name: The name that the server's certificate must carry, if not that of the address.
    """

    ca: StrPath | None = None
    cert: StrPath | None = None
    key: StrPath | None = None
    server_name: str | None = None

    def _options(self) -> dict[str, Any]:
        files = {name: None if file is None else os.fspath(file) for name, file in self._files().items()}
        return {**files, "server_name": self.server_name}

    def _files(self) -> dict[str, StrPath | None]:
        return {"ca": self.ca, "cert": self.cert, "key": self.key}


def paths_of(paths: Paths) -> list[str]:
    """One path or several, as a list."""
    if isinstance(paths, (str, os.PathLike)):
        return [os.fspath(paths)]
    listed = [os.fspath(path) for path in paths]
    if not listed:
        raise InvalidArgument("expected at least one path, found none")
    return listed


@overload
def whole(name: str, value: int, *, at_least: int = 0) -> int: ...
@overload
def whole(name: str, value: int | None, *, at_least: int = 0) -> int | None: ...
def whole(name: str, value: int | None, *, at_least: int = 0) -> int | None:
    """A whole number as the native module takes it, or an error that names the option; None stays None."""
    if value is None:
        return None
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if number < at_least:
        raise InvalidArgument(f"expected a whole number of at least {at_least} for {name}, found {value!r}")
    if number >= 1 << 64:
        raise InvalidArgument(f"expected a whole number below 2^64 for {name}, found {value!r}")
    return number


def trusted_of(value: tuple[int, str] | None) -> tuple[int, str] | None:
    """A height and a hash."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not isinstance(value[1], str):  # noqa: PLR2004
        raise InvalidArgument(f"expected a height and a hash for trusted, found {value!r}")
    try:
        return whole("trusted", value[0]), value[1]
    except InvalidArgument:
        raise InvalidArgument(f"expected a height and a hash for trusted, found {value!r}") from None


def reading_of(
    *,
    offline: bool,
    staging: StrPath | None,
    any_file_system: bool,
    max_rate: int | None,
) -> tuple[bool, str | None, bool, int | None]:
    """How a Badger directory is read, as the native module takes it."""
    return (
        offline,
        None if staging is None else os.fspath(staging),
        any_file_system,
        whole("max_rate", max_rate, at_least=1),
    )


def address(text: str) -> str | None:
    """The address that a text means: a URL, or `host:port` where no file is called so; else None."""
    if text.startswith(("http://", "https://")):
        return text
    is_place = re.fullmatch(r"[^/]+:[0-9]{1,5}", text) is not None
    return text if is_place and not os.path.lexists(text) else None


def local(addr: StrPath) -> str | None:
    """The path when `addr` means a datastore on this machine, else None."""
    if isinstance(addr, os.PathLike):
        return os.fspath(addr)
    if addr.startswith(("/", "./", "../")) or addr in {".", ".."}:
        return addr
    return os.path.expanduser(addr) if addr.startswith("~") else None  # noqa: PTH111  # stays a text


def refuse(given: dict[str, Any], usual: dict[str, Any], *, of_paths: Iterable[str], of_nodes: Iterable[str]) -> None:
    """Refuses what is meant for the address of a node where a path is given, and the other way round.

    What would be passed over in silence is no option of a call: who says `offline` counts on a lock that nobody holds.

    Args:
        given: The arguments of the call; `addr` is the address, or None where a path is given.
        usual: What each is when nobody gives it.
        of_paths: Names of those that mean something for a path only.
        of_nodes: The same for the address of a node.
    """
    is_path = given["addr"] is None
    # No metadata is no metadata, however it is said.
    given = {**given, "headers": given["headers"] or None}
    said = ", ".join(name for name in (of_nodes if is_path else of_paths) if given[name] != usual[name])
    if said:
        expected, found = ("the address of a node", "a path") if is_path else ("a path", "the address of a node")
        raise InvalidArgument(f"expected {expected} with {said}, found {found}")
