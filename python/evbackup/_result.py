"""What all results share: frozen, comparable, picklable, with a short `repr`, a table in a notebook and a dict of JSON types."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

R = TypeVar("R", bound="Result")

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """A number of bytes for people: `1.5 GB`."""
    unit = 0
    while count >= 999.5 and unit < len(UNITS) - 1:  # noqa: PLR2004  # the last that rounds to three digits
        count /= 1000
        unit += 1
    return f"{count:.0f} {UNITS[unit]}" if unit == 0 else f"{count:.3g} {UNITS[unit]}"


def count_of(number: int, what: str) -> str:
    """A number of things for people: `1,200 blocks`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def plain(value: object) -> Any:
    """A value as JSON types."""
    if isinstance(value, Result):
        return value.as_dict()
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, os.PathLike) else value


@dataclass(frozen=True, repr=False)
class Result:
    """The parent of all results."""

    # Fields that hold a path, and fields that hold results.
    _paths: ClassVar[frozenset[str]] = frozenset()
    _nested: ClassVar[Mapping[str, type[Result]]] = {}

    @classmethod
    def _of(cls: type[R], values: Mapping[str, Any]) -> R:
        """Makes the result from what the native module gives: lists become tuples, some texts paths."""

        def typed(name: str, value: Any) -> Any:
            if value is None:
                return None
            if name in cls._paths:
                return tuple(map(Path, value)) if isinstance(value, list) else Path(value)
            if nested := cls._nested.get(name):
                return tuple(map(nested._of, value)) if isinstance(value, list) else nested._of(value)
            return tuple(value) if isinstance(value, list) else value

        return cls(**{name: typed(name, value) for name, value in values.items()})

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON types; its fields are a contract: more may come, none goes."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}

    def _short(self) -> str:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._short()}>"

    def _repr_html_(self) -> str:
        from . import _html  # noqa: PLC0415  # costs import time; only notebooks come here

        return _html.result(self)
