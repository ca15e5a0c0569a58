"""What the command line takes that is more than a text or a number."""

from __future__ import annotations

from typing import Any

import click

from ._check import seconds


class Since(click.ParamType[Any]):
    """A version, `auto`, or a segment."""

    name = "version|segment|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:  # noqa: ARG002
        """A number is a version, unless a file is called so."""
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class Trusted(click.ParamType[Any]):
    """A height and a hash."""

    name = "height:hash"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        """`120000:9f3a…`."""
        if isinstance(value, tuple):
            return value
        height, _, trusted = str(value).partition(":")
        if not height.isdecimal() or not trusted:
            self.fail(f"expected a height and a hash such as 120000:9f3a…, found {value!r}", param, ctx)
        return int(height), trusted


class Rate(click.ParamType[Any]):
    """Bytes per second, with k, M or G behind the number."""

    name = "bytes/s"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`10M` is ten million."""
        text = str(value)
        factor = {"k": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:], 1)
        number = text[:-1] if factor > 1 else text
        if not number.isdecimal() or int(number) == 0:
            self.fail(f"expected a number of bytes per second such as 10M, found {text!r}", param, ctx)
        return int(number) * factor


class Age(click.ParamType[Any]):
    """A length of time."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`6h` is 21600 seconds."""
        found = seconds(str(value))
        if found is None:
            self.fail(f"expected an age such as 90m, 6h or 1d12h, found {value!r}", param, ctx)
        return found
