"""What evbackup raises.

One class per kind of failure, cut by what a caller can do about it. All are `EvbackupError`s; where Python has a fitting built-in
exception, the class is also one of those, so that `except FileNotFoundError` and `except ConnectionError` work.

The text says where, what was expected and what was found; `hint` says what to do next.

Example:
    >>> import evbackup
    >>> try:
    ...     evbackup.verify("/nowhere/full.badger")
    ... except evbackup.MissingError as error:
    ...     print(error.code, error.exit_code, error.path)
    missing 10 /nowhere/full.badger
"""

from __future__ import annotations

import errno as _errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DamagedError",
    "DeniedError",
    "EvbackupError",
    "ExistsError",
    "IncompleteError",
    "InvalidArgument",
    "IoError",
    "LockedError",
    "MismatchError",
    "MissingError",
    "NoSpaceError",
    "UnavailableError",
    "UnsupportedError",
]


class EvbackupError(Exception):
    """The parent of everything that evbackup raises.

    Attributes:
        code: A stable name of the kind, such as `"damaged"`: for scripts.
        exit_code: What the command line exits with.
        hint: What to do next, in words, or None.
        path: The file or directory it is about, or None.
        offset: The byte in that file, or None.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    default_errno: ClassVar[int | None] = None

    hint: str | None
    path: Path | None
    offset: int | None

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        path: str | os.PathLike[str] | None = None,
        offset: int | None = None,
        errno: int | None = None,
    ) -> None:
        if isinstance(self, OSError):
            number = self.default_errno if errno is None else errno
            # Three arguments set errno, strerror and filename; strerror is the message, and so is str().
            super().__init__(number, message, None if path is None else os.fspath(path))
        else:
            super().__init__(message)
        self._message = message
        self.hint = hint
        self.path = None if path is None else Path(path)
        self.offset = offset

    def __str__(self) -> str:
        return self._message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._message!r})"

    def __reduce__(self) -> tuple[Callable[..., EvbackupError], tuple[object, ...]]:
        path = None if self.path is None else str(self.path)
        details = {"hint": self.hint, "path": path, "offset": self.offset}
        if isinstance(self, OSError):
            details["errno"] = self.errno
        return _rebuild, (type(self), self._message, details)

    def as_dict(self) -> dict[str, object]:
        """The error as JSON types: `code`, `message`, `hint`, `path`, `offset`."""
        path = None if self.path is None else str(self.path)
        return {"code": self.code, "message": str(self), "hint": self.hint, "path": path, "offset": self.offset}


def _rebuild(cls: type[EvbackupError], message: str, details: dict[str, Any]) -> EvbackupError:
    return cls(message, **details)


class InvalidArgument(EvbackupError, ValueError):  # noqa: N818  # named as the wire names it
    """A call that cannot be meant."""

    code = "invalid-argument"
    exit_code = 2


class MissingError(EvbackupError, FileNotFoundError):
    """A segment, a directory or a link of a chain is not there."""

    code = "missing"
    exit_code = 10
    default_errno = _errno.ENOENT


class LockedError(EvbackupError):
    """Another run, or a running node, holds it."""

    code = "locked"
    exit_code = 11


class DeniedError(EvbackupError, PermissionError):
    """File modes, TLS, a token or a wrong key are in the way."""

    code = "denied"
    exit_code = 12
    default_errno = _errno.EACCES


class UnavailableError(EvbackupError, ConnectionError):
    """Cannot connect, refused, name unknown, idle too long: worth a retry."""

    code = "unavailable"
    exit_code = 13
    default_errno = _errno.EHOSTUNREACH


class IncompleteError(UnavailableError):
    """The source ended a stream before completing it; the text says after how long."""

    code = "incomplete"
    exit_code = 3
    default_errno = _errno.ECONNABORTED


class ExistsError(EvbackupError, FileExistsError):
    """The target is there, or is not what may be replaced."""

    code = "exists"
    exit_code = 14
    default_errno = _errno.EEXIST


class UnsupportedError(EvbackupError):
    """Right in itself, but evbackup or that node does not do it; the hint says what to do instead."""

    code = "unsupported"
    exit_code = 15


class NoSpaceError(EvbackupError, OSError):
    """The disk is full, or would be."""

    code = "no-space"
    exit_code = 16
    default_errno = _errno.ENOSPC


class MismatchError(EvbackupError):
    """Two things do not belong together: a foreign increment, another store or chain, reused versions."""

    code = "mismatch"
    exit_code = 17


class IoError(EvbackupError, OSError):
    """The disk or the system failed otherwise."""

    code = "io"
    exit_code = 18
    default_errno = _errno.EIO


class DamagedError(EvbackupError):
    """Bytes are not what they must be; also what `Report.raise_for_findings` raises."""

    code = "damaged"
    exit_code = 20
