"""`open` and `serve`."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

import evbackup
from evbackup._store import PAGE
from support import BLOCKS, TOKEN


def test_entries_by_key(sample: Path) -> None:
    with evbackup.open(sample) as store:
        tip = store.get("/0/t")
        assert tip is not None
        assert int.from_bytes(tip.value, "little") == BLOCKS
        assert store.get(b"/0/t") == tip
        assert store.get("/0/nothing") is None
        assert store.get("/0/t", version=0) is None


def test_entries_by_prefix(sample: Path) -> None:
    with evbackup.open(sample) as store:
        everything = list(store.prefix())
        assert len(everything) > PAGE
        assert everything == sorted(everything, key=lambda entry: entry.key)
        headers = list(store.prefix("/0/h/"))
        assert len(headers) == BLOCKS
        assert headers == [entry for entry in everything if entry.key.startswith(b"/0/h/")]
        assert list(store.prefix("/none/")) == []


def test_info_and_close(sample: Path) -> None:
    store = evbackup.open(sample)
    assert store.info() == evbackup.inspect(sample, count=False)
    pages = store.prefix()
    next(pages)
    store.close()
    store.close()
    with pytest.raises(evbackup.InvalidArgument, match="closed"):
        store.get("/0/t")


def test_async_with(sample: Path) -> None:
    async def work() -> None:
        async with evbackup.open(sample) as store, evbackup.serve(sample, "127.0.0.1:0") as server:
            assert store.get("/0/t") is not None
            assert await asyncio.to_thread(server.address.startswith, "127.0.0.1:")

    asyncio.run(work())


def test_what_is_no_datastore(tmp_path: Path) -> None:
    with pytest.raises(evbackup.MissingError):
        evbackup.open(tmp_path / "nowhere")
    with pytest.raises(evbackup.EvbackupError):
        evbackup.open(tmp_path)


def test_a_server_stops(sample: Path, tmp_path: Path) -> None:
    server = evbackup.serve(sample, "127.0.0.1:0")
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    time.sleep(0.1)
    assert waiting.is_alive()
    server.stop()
    waiting.join(5)
    assert not waiting.is_alive()
    server.stop()
    with pytest.raises(evbackup.UnavailableError):
        evbackup.backup(server.address, tmp_path / "full.badger")


def test_a_server_is_not_opened_to_the_world_by_mistake(sample: Path) -> None:
    with pytest.raises(evbackup.InvalidArgument):
        evbackup.serve(sample, "0.0.0.0:0")
    with pytest.raises(evbackup.EvbackupError):
        evbackup.serve(sample, "0.0.0.0:0", token=TOKEN)
    with evbackup.serve(sample, "0.0.0.0:0", token=TOKEN, insecure=True) as server:
        assert server.address.startswith("0.0.0.0:")


def test_an_address_in_use(sample: Path) -> None:
    with evbackup.serve(sample, "127.0.0.1:0") as server, pytest.raises(evbackup.EvbackupError, match=server.address):
        evbackup.serve(sample, server.address)
