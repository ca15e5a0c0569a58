"""Tables for notebooks: rows that polars, DuckDB, pandas and others read by the Arrow PyCapsule interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._evbackup import Table as Native
    from ._results import Finding

# What a notebook shows of a table.
HEAD = 10


class Table:
    """Rows that can be read any number of times, by whatever reads Arrow; each reading begins anew and holds a few thousand rows.

    Example:
        >>> import polars  # doctest: +SKIP
        >>> polars.DataFrame(evbackup.open("restored").table("blocks"))  # doctest: +SKIP
    """

    def __init__(self, name: str, native: Native) -> None:
        self.name = name
        self._native = native

    def select(self, *columns: str) -> Table:
        """The same rows with these columns only, in this order; what is not asked for takes no memory."""
        return Table(self.name, self._native.select(list(columns)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self._native.columns())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """A capsule with the rows as an Arrow stream; whoever asked for another schema may cast what it gets."""
        return self._native.stream()

    def __arrow_c_schema__(self) -> object:
        """A capsule with the Arrow schema."""
        return self._native.schema()

    def __repr__(self) -> str:
        return f"<Table {self.name}: {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        from . import _html  # noqa: PLC0415  # only notebooks come here

        rows = self._native.head(HEAD + 1)
        more = f", the first {HEAD} rows" if len(rows) > HEAD else ""
        return _html.table(self.columns, rows[:HEAD], caption=f"Table {self.name}{more}")


def of_findings(findings: Iterable[Finding]) -> Table:
    """The findings of a report, or of several."""
    from . import _evbackup  # noqa: PLC0415  # results are made without the native module, too

    return Table("findings", _evbackup.findings_table([finding.as_dict() for finding in findings]))
