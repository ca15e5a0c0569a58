"""Pictures of what is in a backup, for notebooks: charts of altair over the tables of a datastore.

Needs `pip install 'evbackup[notebook]'`. Each function takes a table (`evbackup.open(path).table(…)`), or any frame with the same
columns, and gives an altair chart, which can be changed, combined and saved as any other. `use()` draws them without a network.

Example:
    >>> from evbackup import plots  # doctest: +SKIP
    >>> plots.use()  # doctest: +SKIP
    >>> plots.block_times(evbackup.open("restored").table("blocks"))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from ._table import Table
from .errors import UnsupportedError

__all__ = ["block_times", "gaps", "sizes", "transactions", "use"]

# As many stretches of heights as a picture shows, and as many gaps.
STRETCHES = 120
GAPS = 200
WIDTH, HEIGHT = 640, 240
# Reads on white and on black.
INK, RULE = "#777777", "rgba(128,128,128,0.3)"
COLOUR, BAND, MISSING = "#3b82c4", 0.3, "#d1495b"
# Told apart by people who are colour-blind, too (Okabe and Ito).
FAMILIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#9a8f00", "#888888")


def use() -> None:
    """Draws all charts as SVG, with nothing loaded from elsewhere, and in colours that read well in light and dark."""
    altair = _altair()

    @altair.theme.register("evbackup", enable=True)  # type: ignore[untyped-decorator]
    def theme() -> Any:
        text = {"labelColor": INK, "titleColor": INK}
        axis = {
            **text,
            "gridColor": RULE,
            "domainColor": INK,
            "tickColor": INK,
            "labelOverlap": "greedy",
            "labelSeparation": 8,
        }
        title = {"color": INK, "subtitleColor": INK, "anchor": "start"}
        view = {"stroke": "transparent"}
        return {"config": {"background": "transparent", "axis": axis, "legend": text, "title": title, "view": view}}

    altair.renderers.enable("svg")


def sizes(families: object) -> Any:
    """How many bytes the keys of each family have, over the height of the chain.

    Args:
        families: `table("families")`.

    Returns:
        A stacked bar for each stretch of heights; what belongs to no block is left out.
    """
    altair, polars = _altair(), _polars()
    frame = _frame(families, "family", "from_height", "to_height", "bytes").drop_nulls("from_height")
    first, width = _stretch(frame, "from_height", "to_height")
    # The table has stretches of its own: so many of them make one of the picture.
    own = (
        1
        if not frame.height
        else int(frame.select((polars.col("to_height") - polars.col("from_height")).max()).item()) + 1
    )
    width = -(-width // own) * own
    high = polars.col("bytes").cum_sum().over("from")
    binned = (
        frame.with_columns((polars.col("from_height") // width * width).clip(lower_bound=first).alias("from"))
        .group_by("family", "from")
        .agg(polars.col("bytes").sum(), polars.col("to_height").max().alias("to"))
        .sort("family", "from")
        .with_columns((polars.col("to") + 1).alias("end"), high.alias("high"))
        .with_columns((polars.col("high") - polars.col("bytes")).alias("low"))
    )
    encodings = (
        altair.X("from:Q", title="height", scale=altair.Scale(zero=False, nice=False)),
        altair.X2("end:Q"),
        altair.Y("low:Q", title="bytes", axis=altair.Axis(format="~s")),
        altair.Y2("high:Q"),
        altair.Color("family:N", title="family", scale=altair.Scale(range=list(FAMILIES))),
        altair.Tooltip(["family:N", "from:Q", "to:Q", "bytes:Q"]),
    )
    chart = altair.Chart(_data(binned)).mark_rect().encode(*encodings)
    return _sized(chart, "Bytes of each family of keys over height")


def gaps(blocks: object) -> Any:
    """Which heights are there, and which are missing between the first and the last.

    Args:
        blocks: `table("blocks")`.

    Returns:
        One bar of what is there and what is not.
    """
    altair, polars = _altair(), _polars()
    heights = _frame(blocks, "height").sort("height")
    before = polars.col("height").shift(1)
    missing = heights.select((before + 1).alias("from"), (polars.col("height") - 1).alias("to")).filter(
        polars.col("from") <= polars.col("to")
    )
    total = missing.select((polars.col("to") - polars.col("from") + 1).sum()).item() if missing.height else 0
    shown = missing.sort(polars.col("to") - polars.col("from"), descending=True).head(GAPS).sort("from")
    spans = [{**row, "what": "missing"} for row in shown.to_dicts()]
    if heights.height:
        spans.insert(0, {"from": heights["height"][0], "to": heights["height"][-1], "what": "there"})
    for span in spans:
        span["end"] = span["to"] + 1
    what = f"{heights.height:,} heights are there, {total:,} are missing in {missing.height:,} gaps"
    encodings = (
        altair.X("from:Q", title="height", scale=altair.Scale(zero=False, nice=False)),
        altair.X2("end:Q"),
        altair.Color("what:N", title=None, scale=altair.Scale(domain=["there", "missing"], range=[COLOUR, MISSING])),
        altair.Tooltip(["what:N", "from:Q", "to:Q"]),
    )
    chart = altair.Chart(altair.Data(values=spans)).mark_bar(size=36).encode(*encodings)
    return _sized(chart, what, height=60)


def block_times(blocks: object) -> Any:
    """The seconds between one block and the next, over height.

    Args:
        blocks: `table("blocks")`.

    Returns:
        A line of the median in each stretch of heights, in a band from the shortest to the longest.
    """
    polars = _polars()
    frame = _frame(blocks, "height", "time").sort("height").drop_nulls("time")
    # After a gap it is no time between neighbours.
    follows = polars.col("height") - polars.col("height").shift(1) == 1
    seconds = polars.col("time").diff().dt.total_nanoseconds() / 1e9
    frame = frame.with_columns(seconds.alias("value")).filter(follows)
    return _band(frame, "seconds", "Time between blocks", "median")


def transactions(blocks: object) -> Any:
    """The transactions in each block, over height.

    Args:
        blocks: `table("blocks")`.

    Returns:
        A line of the mean in each stretch of heights, in a band from the fewest to the most.
    """
    polars = _polars()
    frame = _frame(blocks, "height", "transactions").drop_nulls()
    frame = frame.select("height", polars.col("transactions").cast(polars.Float64).alias("value"))
    return _band(frame, "transactions", "Transactions in a block", "mean")


def _band(frame: Any, unit: str, title: str, middle: str) -> Any:
    altair, polars = _altair(), _polars()
    first, width = _stretch(frame, "height", "height")
    value = polars.col("value")
    binned = (
        frame.group_by((first + (polars.col("height") - first) // width * width).alias("from"))
        .agg(getattr(value, middle)().alias(middle), value.min().alias("least"), value.max().alias("most"))
        .sort("from")
        .with_columns((polars.col("from") + width - 1).alias("to"))
    )
    # Only a line has a beginning that says nothing: it stands where its stretch begins.
    x = altair.X("from:Q", title="height", scale=altair.Scale(zero=False, nice=False))
    tooltip = altair.Tooltip(["from:Q", "to:Q", f"{middle}:Q", "least:Q", "most:Q"])
    base = altair.Chart(_data(binned)).encode(x, tooltip)
    band = base.mark_area(opacity=BAND, color=COLOUR, interpolate="step-after").encode(
        altair.Y("least:Q", title=unit), altair.Y2("most:Q")
    )
    line = base.mark_line(color=COLOUR, interpolate="step-after").encode(altair.Y(f"{middle}:Q", title=unit))
    each = "each block" if width == 1 else f"{middle}, least and most of {width:,} blocks each"
    return _sized(band + line, f"{title}: {each}")


def _stretch(frame: Any, low: str, high: str) -> tuple[int, int]:
    """The first height, and how many make one stretch."""
    if not frame.height:
        return 0, 1
    first, last = int(frame[low].min()), int(frame[high].max())
    return first, max(-(-(last - first + 1) // STRETCHES), 1)


def _sized(chart: Any, title: str, height: int = HEIGHT) -> Any:
    # The description is what a screen reader says of the picture.
    return chart.properties(width=WIDTH, height=height, title=title, description=title)


def _data(frame: Any) -> Any:
    return _altair().Data(values=frame.to_dicts())


def _frame(rows: object, *columns: str) -> Any:
    """The columns of a table, or of whatever polars takes for a frame."""
    polars = _polars()
    if isinstance(rows, Table):
        rows = rows.select(*columns)
    frame = rows if isinstance(rows, polars.DataFrame) else polars.DataFrame(rows)
    return frame.select(*columns)


def _altair() -> Any:
    try:
        import altair  # noqa: ICN001, PLC0415  # optional; its short name says nothing
    except ImportError as error:
        raise _missing("altair") from error
    return altair


def _polars() -> Any:
    try:
        import polars  # noqa: ICN001, PLC0415  # optional
    except ImportError as error:
        raise _missing("polars") from error
    return polars


def _missing(library: str) -> UnsupportedError:
    return UnsupportedError(
        f"expected {library} for a plot, found that it is not installed", hint="pip install 'evbackup[notebook]'"
    )
