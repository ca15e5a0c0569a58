"""How a result is printed: a JSON document for a script, or a line for each field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from . import _verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._results import Result


def show(result: Result, *, as_json: bool, err: bool = False) -> None:
    """A result for a script or for a person."""
    _verb.note(result)
    if as_json:
        # A segment has the id of the run that wrote it.
        document(result.as_dict(), err=err)
        return
    rows(dict(_flat(result.as_dict())), err=err)


def document(values: dict[str, Any], *, err: bool = False) -> None:
    """A JSON document, with the id of the run."""
    click.echo(json.dumps({**_verb.run_id(), **values}), err=err)


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a result, those of a nested one with its name before them."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", field) for inner, field in value.items())
        else:
            yield name, value


def rows(values: dict[str, Any], *, err: bool = False) -> None:
    """Names and values for a person, a line each."""
    width = max(map(len, values))
    for name, value in values.items():
        for place, line in enumerate(value if isinstance(value, list) else [value]):
            if line is not None:
                # What is nested becomes one line of names and values.
                text = (
                    ", ".join(f"{key} {inner}" for key, inner in line.items() if inner not in (None, ""))
                    if isinstance(line, dict)
                    else line
                )
                click.echo(f"{'' if place else name:<{width}}  {text}", err=err)
