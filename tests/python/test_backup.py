"""`backup`: from a server and from a directory, full and incremental, into a file and a folder."""

import asyncio
import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import evbackup
from evbackup import Backup, Progress
from support import BLOCKS, TOKEN, grow


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_full_backup_over_the_wire(server: evbackup.Server, tmp_path: Path) -> None:
    made = evbackup.backup(server.address, tmp_path / "full.badger")
    segment = tmp_path / "full.badger"
    assert (made.path, made.kind, made.since_version) == (segment, "full", 0)
    assert made.bytes == segment.stat().st_size > 0
    assert made.sha256 == hashlib.sha256(segment.read_bytes()).hexdigest()
    assert made.tip_height == made.complete_height == made.announced_height == BLOCKS
    assert made.next_since == made.complete_version <= made.last_version
    manifest = json.loads((tmp_path / "full.badger.json").read_text())
    assert (manifest["kind"], manifest["sha256"], manifest["via"]) == ("full", made.sha256, "rpc")
    assert segment.stat().st_mode & 0o777 == 0o600
    assert not [name for name in left(tmp_path) if "part" in name]


def test_wire_and_directory_give_the_same(server: evbackup.Server, sample: Path, tmp_path: Path) -> None:
    wire = evbackup.backup(f"http://{server.address}", tmp_path / "wire.badger")
    directory = evbackup.backup(sample, tmp_path / "directory.badger")
    text = evbackup.backup(str(sample), tmp_path / "text.badger")
    assert wire.entries == directory.entries == text.entries
    assert evbackup.digest(wire) == evbackup.digest(directory) == evbackup.digest(sample)


def test_increments_follow_in_every_form(tmp_path: Path) -> None:
    store = tmp_path / "store"
    grow(store, 20)
    full = evbackup.backup(store, tmp_path / "full.badger")
    grow(store, 5)
    forms: dict[str, Any] = {"backup": full, "path": full.path, "text": str(full.path)}
    made = [evbackup.backup(store, tmp_path / f"{name}.badger", since=since) for name, since in forms.items()]
    assert {one.since_version for one in made} == {full.next_since}
    assert {(one.kind, one.tip_height) for one in made} == {("inc", 25)}
    assert all(one.entries < full.entries for one in made)
    by_version = evbackup.backup(store, tmp_path / "version.badger", since=full.next_since)
    assert by_version.entries == made[0].entries


def test_nothing_new_keeps_the_chain_usable(chain: list[Backup], tmp_path: Path) -> None:
    empty = evbackup.backup(tmp_path / "growing", tmp_path / "empty.badger", since=chain[-1])
    assert (empty.kind, empty.entries) == ("inc", 0)
    assert empty.next_since == chain[-1].next_since
    grow(tmp_path / "growing", 2)
    after = evbackup.backup(tmp_path / "growing", tmp_path / "after.badger", since=empty)
    assert evbackup.verify([*chain, empty, after]).ok


def test_a_folder_and_auto(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    first = evbackup.backup(sample, folder, since="auto")
    second = evbackup.backup(sample, folder, since="auto")
    assert (first.kind, second.kind) == ("full", "inc")
    assert first.path is not None
    assert first.path.parent == folder
    assert first.path.name.endswith("-full.badger")
    assert second.since_version == first.next_since


def test_on_mismatch(tmp_path: Path, full: Backup) -> None:
    grow(tmp_path / "another", 10)
    with pytest.raises(evbackup.MismatchError):
        evbackup.backup(tmp_path / "another", tmp_path / "inc.badger", since=full)
    made = evbackup.backup(tmp_path / "another", tmp_path / "inc.badger", since=full, on_mismatch="full")
    assert made.kind == "full"
    assert made.notes


def test_what_is_there_is_kept_unless_asked(sample: Path, tmp_path: Path) -> None:
    segment = tmp_path / "full.badger"
    first = evbackup.backup(sample, segment)
    before = segment.read_bytes()
    with pytest.raises(evbackup.ExistsError) as caught:
        evbackup.backup(sample, segment)
    assert caught.value.path == segment
    assert segment.read_bytes() == before
    assert evbackup.backup(sample, segment, overwrite=True).sha256 == first.sha256


def test_target_height(server: evbackup.Server, tmp_path: Path) -> None:
    assert evbackup.backup(server.address, tmp_path / "a.badger", target_height=BLOCKS).tip_height == BLOCKS
    with pytest.raises(evbackup.EvbackupError, match=str(BLOCKS + 1)):
        evbackup.backup(server.address, tmp_path / "b.badger", target_height=BLOCKS + 1)
    assert not (tmp_path / "b.badger").exists()


def test_progress_is_seen(server: evbackup.Server, tmp_path: Path) -> None:
    seen: list[Progress] = []
    made = evbackup.backup(server.address, tmp_path / "full.badger", progress=seen.append)
    assert seen
    assert seen[-1].elapsed_s <= made.elapsed_s + 1


def test_the_twin(server: evbackup.Server, tmp_path: Path) -> None:
    async def work() -> list[Backup]:
        return list(
            await asyncio.gather(*(evbackup.backup_async(server.address, tmp_path / f"{n}.badger") for n in range(2)))
        )

    one, other = asyncio.run(work())
    assert (one.sha256, one.entries) == (other.sha256, other.entries)


def test_a_token(sample: Path, tmp_path: Path) -> None:
    with evbackup.serve(sample, "127.0.0.1:0", token=TOKEN) as server:
        assert evbackup.backup(server.address, tmp_path / "a.badger", token=TOKEN).entries
        for token in (None, "wrong"):
            with pytest.raises(evbackup.DeniedError) as caught:
                evbackup.backup(server.address, tmp_path / "b.badger", token=token)
            assert TOKEN not in str(caught.value)
    assert not (tmp_path / "b.badger").exists()


@contextmanager
def listening(*, answer: bytes | None) -> Iterator[str]:
    """A server that accepts and says `answer`, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def serve() -> None:
            listener.settimeout(0.05)
            held = []
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                held.append(connection)
                if answer is not None:
                    connection.sendall(answer)
            for connection in held:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(evbackup.UnavailableError, match=address) as caught:
        evbackup.backup(address, tmp_path / "full.badger", connect_timeout_s=5)
    assert isinstance(caught.value, ConnectionError)
    assert left(tmp_path) == []


def test_a_silent_or_foreign_server(tmp_path: Path) -> None:
    for answer in (None, b"HTTP/1.1 400 Bad Request\r\n\r\n"):
        with listening(answer=answer) as address, pytest.raises(evbackup.EvbackupError) as caught:
            evbackup.backup(address, tmp_path / "full.badger", connect_timeout_s=1, idle_timeout_s=1)
        assert caught.value.exit_code in {13, 15}
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"since": -1},
        {"since": 1.5},
        {"since": True},
        {"on_mismatch": "maybe"},
        {"connect_timeout_s": 0},
        {"idle_timeout_s": float("nan")},
        {"since": "auto"},
    ],
)
def test_a_call_that_cannot_be_meant(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(evbackup.InvalidArgument) as caught:
        evbackup.backup("127.0.0.1:1", tmp_path / "full.badger", **wrong)
    assert isinstance(caught.value, ValueError)


def test_credentials_in_an_address_are_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(evbackup.InvalidArgument) as caught:
        evbackup.backup("http://me:secret@node:7331", tmp_path / "full.badger")
    assert "secret" not in str(caught.value)


def test_a_missing_datastore(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        evbackup.backup(tmp_path / "nowhere", tmp_path / "full.badger")
    assert caught.value.filename == os.fspath(tmp_path / "nowhere")


@pytest.mark.parametrize("options", [{"via": "blocks"}, {"raw": True}, {"via": "magic"}])
def test_only_a_node_is_asked_in_one_way_or_another(sample: Path, tmp_path: Path, options: Any) -> None:
    with pytest.raises(evbackup.InvalidArgument):
        evbackup.backup(sample, tmp_path / "full.badger", **options)
    assert not left(tmp_path)


@pytest.mark.parametrize(
    "of_node", [{"tls": evbackup.Tls()}, {"token": TOKEN}, {"headers": {"a": "b"}}, {"insecure": True}]
)
def test_a_path_is_not_spoken_to_as_a_node_is(sample: Path, tmp_path: Path, of_node: dict[str, Any]) -> None:
    (name,) = of_node
    with pytest.raises(evbackup.InvalidArgument, match=f"^expected the address of a node with {name}, found a path$"):
        evbackup.backup(sample, tmp_path / "full.badger", **of_node)
    assert not left(tmp_path)
    assert evbackup.backup(sample, tmp_path / "full.badger", headers={}).entries


@pytest.mark.parametrize("of_path", [{"offline": True}, {"staging": "/tmp"}, {"any_file_system": True}])
def test_a_node_is_not_locked_or_staged(server: evbackup.Server, tmp_path: Path, of_path: dict[str, Any]) -> None:
    (name,) = of_path
    with pytest.raises(evbackup.InvalidArgument, match=f"^expected a path with {name}, found the address of a node$"):
        evbackup.backup(server.address, tmp_path / "full.badger", **of_path)
    assert not left(tmp_path)


def test_a_backup_says_how_it_was_made(server: evbackup.Server, sample: Path, tmp_path: Path) -> None:
    wire = evbackup.backup(server.address, tmp_path / "wire.badger")
    assert (wire.via, wire.lacks) == ("rpc", ())
    assert evbackup.backup(sample, tmp_path / "directory.badger").via == "store"
