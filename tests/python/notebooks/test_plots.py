"""Charts: of any chain, of none, of one with gaps; drawn without a network."""

import sys
from typing import Any

import pytest

import evbackup
from evbackup import plots


@pytest.fixture(autouse=True)
def drawing(altair: Any, polars: Any) -> None:
    assert polars is not None
    plots.use()
    assert altair.renderers.active == "svg"


def values(chart: Any) -> list[dict[str, Any]]:
    """The rows that a chart draws."""
    made = chart.to_dict()
    data = made.get("data") or made["layer"][0]["data"]
    return list(data["values"] if "values" in data else next(iter(made["datasets"].values())))


def svg(chart: Any) -> str:
    bundle = chart._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    return str(data["image/svg+xml"])


def test_every_chart_of_a_chain_is_drawn(opened: evbackup.Datastore) -> None:
    blocks, families = opened.table("blocks"), opened.table("families")
    for chart in (plots.gaps(blocks), plots.block_times(blocks), plots.transactions(blocks), plots.sizes(families)):
        drawn = svg(chart)
        assert drawn.startswith("<svg")
        assert "http://" not in drawn.replace("http://www.w3.org", "")
        # A screen reader has something to say.
        assert chart.to_dict()["description"]


def test_gaps_are_named(polars: Any) -> None:
    blocks = polars.DataFrame({"height": [3, 4, 5, 9, 10, 12]})
    chart = plots.gaps(blocks)
    assert chart.to_dict()["title"] == "6 heights are there, 4 are missing in 2 gaps"
    missing = [(row["from"], row["to"]) for row in values(chart) if row["what"] == "missing"]
    assert missing == [(6, 8), (11, 11)]
    whole = plots.gaps(polars.DataFrame({"height": range(1, 5)}))
    assert whole.to_dict()["title"] == "4 heights are there, 0 are missing in 0 gaps"


def test_many_gaps_are_counted_and_the_largest_drawn(polars: Any) -> None:
    chart = plots.gaps(polars.DataFrame({"height": range(1, 3000, 2)}))
    assert chart.to_dict()["title"] == "1,500 heights are there, 1,499 are missing in 1,499 gaps"
    assert len(values(chart)) == plots.GAPS + 1


def test_times_are_between_neighbours_only(polars: Any) -> None:
    time = polars.Series([0, 1_000_000_000, 3_000_000_000, 9_000_000_000]).cast(polars.Datetime("ns", "UTC"))
    blocks = polars.DataFrame({"height": [1, 2, 3, 7], "time": time})
    rows = values(plots.block_times(blocks))
    assert [(row["from"], row["median"]) for row in rows] == [(2, 1.0), (3, 2.0)]


def test_a_long_chain_is_drawn_in_stretches(polars: Any) -> None:
    blocks = polars.DataFrame({"height": range(1_000_000, 1_100_000), "transactions": [1, 2, 3, 4] * 25_000})
    rows = values(plots.transactions(blocks))
    assert len(rows) <= plots.STRETCHES
    assert all((round(row["mean"], 2), row["least"], row["most"]) == (2.5, 1.0, 4.0) for row in rows[:-1])
    families = polars.DataFrame(
        {
            "family": ["headers", "data"] * 512,
            "from_height": [place // 2 * 100 for place in range(1024)],
            "to_height": [place // 2 * 100 + 99 for place in range(1024)],
            "bytes": [10] * 1024,
        }
    )
    rows = values(plots.sizes(families))
    assert len(rows) <= 2 * plots.STRETCHES
    assert sum(row["bytes"] for row in rows) == 10_240


def test_nothing_is_drawn_as_nothing(polars: Any) -> None:
    blocks = polars.DataFrame(
        schema={"height": polars.UInt64, "time": polars.Datetime("ns", "UTC"), "transactions": polars.UInt64}
    )
    families = polars.DataFrame(
        schema={
            "family": polars.String,
            "from_height": polars.UInt64,
            "to_height": polars.UInt64,
            "bytes": polars.UInt64,
        }
    )
    for chart in (plots.gaps(blocks), plots.block_times(blocks), plots.transactions(blocks), plots.sizes(families)):
        assert svg(chart).startswith("<svg")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, opened: evbackup.Datastore) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(evbackup.UnsupportedError, match="expected altair") as caught:
        plots.sizes(opened.table("families"))
    assert caught.value.hint == "pip install 'evbackup[notebook]'"
