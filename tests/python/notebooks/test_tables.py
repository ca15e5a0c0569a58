"""Tables: what is in them, and that polars and DuckDB read them without numpy, pandas with it."""

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import evbackup
from support import BLOCKS, ROOT, grow

NAMES = ("blocks", "keys", "families")


def test_here_is_no_numpy(polars: Any) -> None:
    assert polars is not None
    assert importlib.util.find_spec("numpy") is None, (
        "what polars and DuckDB read here proves nothing with numpy around"
    )


def test_blocks_by_height(opened: evbackup.Datastore, polars: Any) -> None:
    blocks = opened.table("blocks")
    frame = polars.DataFrame(blocks)
    assert frame["height"].to_list() == list(range(1, BLOCKS + 1))
    assert frame.columns == list(blocks.columns)
    first = frame.row(0, named=True)
    assert first["time"].tzinfo is not None
    assert (len(first["header_hash"]), len(first["data_hash"]), len(first["proposer"])) == (64, 64, 64)
    header = opened.get("/0/h/1")
    data = opened.get("/0/d/1")
    assert header is not None
    assert data is not None
    assert first["bytes"] == len(header.value) + len(data.value)
    assert frame["transactions"].null_count() == 0
    # Read again, it begins anew.
    assert polars.DataFrame(blocks).equals(frame)


def test_keys_in_their_order(opened: evbackup.Datastore, polars: Any) -> None:
    frame = polars.DataFrame(opened.table("keys"))
    entries = list(opened.prefix())
    live = frame.filter(~polars.col("deleted"))
    assert live["key"].to_list() == [entry.key.hex() for entry in entries]
    assert live["version"].to_list() == [entry.version for entry in entries]
    assert live["value_bytes"].to_list() == [len(entry.value) for entry in entries]
    assert live["key_bytes"].to_list() == [len(entry.key) for entry in entries]
    tip = frame.row(by_predicate=polars.col("name") == "/0/t", named=True)
    assert (tip["family"], tip["height"], tip["versions"]) == ("tip", None, BLOCKS)
    header = frame.row(by_predicate=polars.col("name") == f"/0/h/{BLOCKS}", named=True)
    assert (header["family"], header["height"]) == ("headers", BLOCKS)
    indexed = frame.filter(polars.col("family") == "index")
    assert sorted(indexed["height"]) == list(range(1, BLOCKS + 1))


def test_families_weigh_what_the_keys_weigh(opened: evbackup.Datastore, duckdb: Any) -> None:
    keys, families = opened.table("keys"), opened.table("families")
    assert keys is not None
    assert families is not None
    by_key = duckdb.sql(
        "select family, count(*), sum(key_bytes + value_bytes) from keys where not deleted group by family order by family"
    ).fetchall()
    by_family = duckdb.sql(
        "select family, sum(keys), sum(bytes) from families group by family order by family"
    ).fetchall()
    assert by_key == by_family
    assert duckdb.sql("select min(from_height), max(to_height) from families").fetchall()[0] == (0, BLOCKS)


def test_findings(full: evbackup.Backup, tmp_path: Path, polars: Any) -> None:
    segment = tmp_path / "bare.badger"
    assert full.path is not None
    segment.write_bytes(full.path.read_bytes()[:-100])
    report = evbackup.verify(segment)
    frame = polars.DataFrame(report.table())
    assert frame["code"].to_list() == [finding.code for finding in report.findings]
    assert frame["file"].to_list() == [
        None if finding.file is None else str(finding.file) for finding in report.findings
    ]
    assert set(frame["level"]) >= {"error", "warning"}


def test_no_findings_are_a_table_too(full: evbackup.Backup, polars: Any) -> None:
    frame = polars.DataFrame(evbackup.verify(full).table("findings"))
    assert frame.height == 0
    assert set(frame.columns) >= {"level", "code", "message", "file", "offset", "key", "height", "hint"}


def test_a_table_larger_than_a_batch(tmp_path: Path, duckdb: Any) -> None:
    grow(tmp_path / "store", 9_000)
    with evbackup.open(tmp_path / "store") as store:
        blocks, keys = store.table("blocks"), store.table("keys")
        assert duckdb.sql("select count(*), count(distinct height), max(height) from blocks").fetchall()[0] == (
            9000,
            9000,
            9000,
        )
        query = "select count(*), count(distinct key), sum((not deleted)::int) from keys"
        assert duckdb.sql(query).fetchall()[0] == (6 * 9000 + 2, 6 * 9000 + 2, 5 * 9000 + 3)
        assert blocks is not None
        assert keys is not None


@pytest.mark.parametrize("name", NAMES)
def test_columns_can_be_picked(opened: evbackup.Datastore, name: Any, polars: Any) -> None:
    table = opened.table(name)
    picked = [table.columns[-1], table.columns[0]]
    frame = polars.DataFrame(table.select(*picked))
    assert frame.columns == picked
    assert frame.equals(polars.DataFrame(table).select(picked))
    assert polars.DataFrame(table.select(*picked).select(picked[1])).columns == picked[1:]


def test_what_cannot_be_meant(opened: evbackup.Datastore, full: evbackup.Backup) -> None:
    with pytest.raises(evbackup.InvalidArgument, match='expected "blocks", "keys", "families" or "findings"'):
        opened.table("rows")  # type: ignore[arg-type]
    with pytest.raises(evbackup.InvalidArgument, match='expected columns of height, time, .*found "hight"'):
        opened.table("blocks").select("hight")
    with pytest.raises(evbackup.InvalidArgument, match="at least one column"):
        opened.table("blocks").select()
    with pytest.raises(evbackup.InvalidArgument, match='expected "findings"'):
        evbackup.verify(full, level="quick").table("blocks")  # type: ignore[arg-type]


def test_a_closed_datastore_has_no_rows(sample: Path, polars: Any) -> None:
    store = evbackup.open(sample)
    blocks = store.table("blocks")
    stream = blocks.__arrow_c_stream__()
    store.close()
    with pytest.raises(evbackup.InvalidArgument, match="closed"):
        polars.DataFrame(blocks)
    with pytest.raises(evbackup.InvalidArgument, match="closed"):
        store.table("blocks")
    # A stream that nobody reads lets go of everything as well.
    del stream
    gc.collect()
    evbackup.open(sample).close()


def test_a_directory_of_badgers(full: evbackup.Backup, tmp_path: Path, opened: evbackup.Datastore, polars: Any) -> None:
    evbackup.restore(full, tmp_path / "directory")
    with evbackup.open(tmp_path / "directory") as directory:
        for name in ("blocks", "families"):
            # The values of deleted keys are gone from a compact directory, the live ones are the same.
            assert polars.DataFrame(directory.table(name)).equals(polars.DataFrame(opened.table(name)))
        # While one reads, another may ask.
        assert directory.get("/0/t") is not None


def test_segments_have_blocks(chain: list[evbackup.Backup], tmp_path: Path, polars: Any) -> None:
    evbackup.restore(chain, tmp_path / "store", engine="rocksdb")
    with evbackup.open(chain) as segments, evbackup.open(tmp_path / "store") as store:
        assert polars.DataFrame(segments.table("blocks")).equals(polars.DataFrame(store.table("blocks")))
        with pytest.raises(Exception, match="expected a question to a segment") as caught:
            polars.DataFrame(segments.table("keys"))
        assert type(caught.value).__module__.startswith("polars")


def test_in_a_notebook_a_table_shows_its_head(opened: evbackup.Datastore) -> None:
    shown = opened.table("blocks")._repr_html_()
    assert "Table blocks, the first 10 rows" in shown
    assert shown.count("<tr>") == 11
    assert repr(opened.table("families")) == "<Table families: family, from_height, to_height, keys, bytes>"


PANDAS = """
import sys, pandas, evbackup
with evbackup.open(sys.argv[1]) as store:
    blocks = pandas.DataFrame.from_arrow(store.table("blocks"))
    keys = pandas.DataFrame.from_arrow(store.table("keys"))
    families = pandas.DataFrame.from_arrow(store.table("families"))
print(len(blocks), int(blocks["height"].max()), str(blocks["time"].dtype), len(keys), int(families["keys"].sum()))
"""


def test_pandas_reads_them(sample: Path, frames: Path, opened: evbackup.Datastore, polars: Any) -> None:
    done = subprocess.run(
        [frames, "-c", PANDAS, sample],
        env={"PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    keys = polars.DataFrame(opened.table("keys"))
    live = keys.filter(~polars.col("deleted")).height
    assert done.stdout.split() == [str(BLOCKS), str(BLOCKS), "datetime64[ns,", "UTC]", str(keys.height), str(live)]


def test_a_stream_that_is_dropped_half_way(opened: evbackup.Datastore) -> None:
    for _ in range(50):
        opened.table("keys").__arrow_c_stream__()
        opened.table("keys").__arrow_c_schema__()
    gc.collect()
    assert sys.getrefcount(opened) < 20
