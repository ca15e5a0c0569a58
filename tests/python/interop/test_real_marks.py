"""What a released ev-node does with its marks and its metadata RPC: the facts that a restore and a backup over the node's own RPCs rest on."""

import base64
import json
import shutil
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import evbackup
from interop.peers import Badger
from interop.real import EvNode, RealNode, database, moved_in

SUBMITTED = ("last-submitted-header-height", "last-submitted-data-height")
# The DA layer's blocks are slow beside the node's, so that something is always submitted and not yet included.
SLOW_DA = ("--da-time", "300ms", "--block-time", "10ms")


def metadata(node: RealNode, key: str) -> bytes | None:
    """The node's GetMetadata over the Connect protocol; None: not found."""
    request = urllib.request.Request(
        f"http://{node.rpc}/evnode.v1.StoreService/GetMetadata",
        json.dumps({"key": key}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return base64.b64decode(json.load(answer).get("value", ""))
    except urllib.error.HTTPError as error:
        refused = json.load(error)
    assert refused["code"] == "not_found", refused
    return None


def test_relative_metadata_keys_read_all_of_the_main_store_and_nothing_else(evnode: EvNode, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        evnode.da() as da,
        evnode.aggregator(tmp_path / "home", "--da", da, "--da-time", "100ms", "--forced", "forced", log=log) as node,
    ):
        node.reaches(12, "da_included")
        said = node.report(7)
        tip = metadata(node, "../t")
        assert tip is not None
        assert said["tip"] <= struct.unpack("<Q", tip)[0] <= node.tip()
        blob = metadata(node, "../h/7")
        index = f"../i/{said['hash'].upper()}"
        found = {key: metadata(node, key) for key in ("../d/7", "../c/7", "../s/6", "../s/7", "../m/gdh", "d")}
        # The index has the hash of the blob, not that of the header.
        assert metadata(node, index) is None
        # Nothing outside /0/.
        for key in ("../../single/checkpoint", "../../../single/checkpoint", "../h/1000000"):
            assert metadata(node, key) is None
        assert node.finish() == 0
    with evbackup.open(database(tmp_path / "home"), offline=True) as stored:
        keys = {entry.key for entry in stored.prefix(b"/single/")} | {
            entry.key for entry in stored.prefix(b"/batches/")
        }
        assert b"/single/checkpoint" in keys
        for key, value in {"../h/7": blob, **found}.items():
            if key not in ("d", "../s/7"):  # those may have been written again
                entry = stored.get(f"/0/{key.removeprefix('../')}")
                assert entry is not None
                assert entry.value == value


@contextmanager
def behind(evnode: EvNode, da: str, home: Path, copy: Path) -> Iterator[tuple[int, int]]:
    """A hot copy of an aggregator that has submitted more than `d` says, which has ended since: `d`, and the tip of the copy."""
    with evnode.aggregator(home, "--da", da, *SLOW_DA, log=home.with_suffix(".log")) as node:
        node.reaches(20, "da_included")
        deadline = time.monotonic() + 30
        while True:
            report = node.report()
            if min(report.get("submitted_data", 0), report.get("submitted_headers", 0)) > report["da_included"] + 5:
                shutil.rmtree(copy, ignore_errors=True)
                moved_in(copy, home)
                evbackup.restore(database(home), database(copy))
                with evbackup.open(database(copy), offline=True) as stored:
                    marks = [stored.get(f"/0/m/{mark}") for mark in ("d", *SUBMITTED)]
                    tip = stored.get("/0/t")
                values = [struct.unpack("<Q", mark.value)[0] for mark in (*marks, tip) if mark is not None]
                assert len(values) == 4
                if min(values[1:3]) > values[0]:
                    break
            assert time.monotonic() < deadline, "nothing was submitted and not yet included"
            time.sleep(0.005)
        node.kill()
    yield values[0], values[3]


def test_d_stays_where_a_hot_copy_has_it_until_the_marks_are_lowered(
    evnode: EvNode, badger: Badger, tmp_path: Path
) -> None:
    copy, lowered = tmp_path / "copy", tmp_path / "lowered"
    with evnode.da("300ms") as da, behind(evnode, da, tmp_path / "home", copy) as (d, tip):
        moved_in(lowered, copy)
        evbackup.restore(database(copy), database(lowered), offline=True)
        log = tmp_path / "copy.log"
        with evnode.aggregator(copy, "--da", da, *SLOW_DA, log=log) as node:
            assert node.ready["began"] == tip
            # What was submitted is neither submitted again nor recognised: the node goes on, and `d` does not.
            node.reaches(tip + 50, "submitted_headers")
            node.reaches(tip + 50, "submitted_data")
            time.sleep(1)
            assert node.report()["da_included"] == d
            assert node.finish() == 0
        with badger.serve(database(lowered)) as server:
            for mark in SUBMITTED:
                server.ask("put", key=f"/0/m/{mark}", value_hex=struct.pack("<Q", d).hex())
        with evnode.aggregator(lowered, "--da", da, *SLOW_DA, log=log) as node:
            assert node.ready["began"] == tip
            node.reaches(tip + 1, "da_included")
            assert node.finish() == 0


def test_d_moves_on_after_a_catchup_from_the_da_layer(evnode: EvNode, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with (
        evnode.da("300ms") as da,
        behind(evnode, da, tmp_path / "home", copy) as (d, tip),
        evnode.aggregator(copy, "--da", da, *SLOW_DA, "--catchup", "1s", log=tmp_path / "copy.log") as node,
    ):
        assert node.ready["began"] == tip
        assert node.reaches(tip + 1, "da_included") > d
        assert node.finish() == 0


def test_an_aggregator_makes_blocks_while_its_da_layer_cannot_be_reached(evnode: EvNode, tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    with evnode.aggregator(home, "--da", "http://127.0.0.1:1", "--da-time", "100ms", log=log) as node:
        node.reaches(50)
        report = node.report()
        made = evbackup.backup(database(home), tmp_path / "full.badger")
        assert node.finish() == 0
    for mark in ("da_included", "submitted_headers", "submitted_data"):
        assert report.get(mark, 0) == 0
    assert "connection refused" in log.read_text()
    assert made.complete_height == made.tip_height
    assert evbackup.verify(made).raise_for_findings().ok
    # And a follower of a chain that has never reached its DA layer starts from it, with nobody to follow.
    restored = moved_in(tmp_path / "restored", home)
    evbackup.restore(made, database(restored))
    with evnode.aggregator(restored, log=log) as node:
        assert node.ready["began"] == made.tip_height
        assert node.finish() == 0


@pytest.mark.timeout(60)
def test_nothing_is_served_that_lists_keys(evnode: EvNode, tmp_path: Path) -> None:
    with evnode.aggregator(tmp_path / "home") as node:
        for key in ("", ".", "..", "../", "../h", "/"):
            assert metadata(node, key) is None
        assert node.finish() == 0


def test_an_aggregator_slower_than_its_da_layer_never_catches_up_with_forced_inclusion(
    evnode: EvNode, tmp_path: Path
) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    with evnode.da("50ms") as da:
        flags = ("--da", da, "--da-time", "50ms", "--forced", "forced-inclusion")
        with evnode.aggregator(home, "--block-time", "10ms", *flags, log=log) as node:
            node.reaches(20)
            assert node.finish() == 0
        # More than an epoch of 50 DA blocks passes without it.
        time.sleep(6)
        # It reads one DA block in a block time, and makes no block until it has read all.
        with pytest.raises(TimeoutError), evnode.aggregator(home, "--block-time", "400ms", *flags, log=log, ready_s=5):
            pass
        assert "entering catch-up mode" in log.read_text()
        with evnode.aggregator(home, "--block-time", "5ms", *flags, log=log) as node:
            assert node.ready["tip"] > node.ready["began"] >= 20
            assert node.finish() == 0
