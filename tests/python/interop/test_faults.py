"""A server that misbehaves: the right error, nothing under the final name, nothing left over, and the earlier backup untouched."""

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import evbackup
from interop.peers import Badger, Node, comes_back, names

BYTES = 100_000
SEGMENT = "full.badger"
Faulty = tuple[Node, Path]


@pytest.fixture(scope="module")
def serving(badger: Badger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A server for all of these tests, with 5 MB in more than one frame; its fault is set by each."""
    node = tmp_path_factory.mktemp("faults") / "node"
    badger.fill(node, "--blocks", 2000, "--value-size", 2000, "--generic", 100, "--tiny")
    with badger.serve(node) as server:
        yield server


@pytest.fixture
def server(serving: Node) -> Iterator[Node]:
    yield serving
    serving.fault("none")


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names(folder)}


def fails(
    server: Node, out: Path, fault: str, kind: type[evbackup.EvbackupError], **options: float
) -> evbackup.EvbackupError:
    """Backs up into an empty folder and over an earlier backup: both fail as said, and change nothing."""
    server.fault("none")
    (out / "earlier").mkdir()
    (out / "empty").mkdir()
    evbackup.backup(server.address, out / "earlier" / SEGMENT)
    before = files(out / "earlier")
    server.fault(fault)
    errors = []
    for folder in ("empty", "earlier"):
        with pytest.raises(evbackup.EvbackupError) as caught:
            evbackup.backup(server.address, out / folder / SEGMENT, overwrite=True, **options)  # type: ignore[arg-type]
        errors.append(caught.value)
    assert names(out / "empty") == []
    assert files(out / "earlier") == before
    assert {type(error) for error in errors} == {kind}, errors
    assert all(server.address in str(error) for error in errors), errors
    return errors[0]


def bytes_and_seconds(error: evbackup.EvbackupError) -> tuple[int, float]:
    found = re.search(r"after (\d+) bytes and ([\d.]+) s", str(error))
    assert found, error
    return int(found[1]), float(found[2])


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (f"stop-mid-stream={BYTES}", 0, BYTES),
        (f"error-mid-stream={BYTES}", BYTES, BYTES),
        (f"end-mid-stream={BYTES}", BYTES, BYTES),
        ("end-mid-stream=0", 0, 0),
        ("end-at-frame=1", 1, 4 << 30),
        ("no-final", 1, 4 << 30),
    ],
)
def test_a_stream_that_ends_early(server: Node, out: Path, fault: str, least: int, most: int) -> None:
    error = fails(server, out, fault, evbackup.IncompleteError)
    came, seconds = bytes_and_seconds(error)
    assert least <= came <= most
    assert seconds < 30
    assert error.hint
    assert "10 s" in error.hint
    assert "evbackup serve" in error.hint
    assert "directory" in error.hint


def test_the_nodes_write_timeout(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 300, "--value-size", 20_000)
    with badger.serve(node, "--write-timeout", "4s", "--fault", "slow=300000") as server:
        began = time.monotonic()
        with pytest.raises(evbackup.IncompleteError) as caught:
            evbackup.backup(server.address, out / SEGMENT)
        assert time.monotonic() - began < 30
    came, seconds = bytes_and_seconds(caught.value)
    assert 0 < came < 3_000_000
    assert 0.5 < seconds < 20
    assert caught.value.hint
    assert "evbackup serve" in caught.value.hint
    assert names(out) == []


def test_a_server_that_is_killed(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 300, "--value-size", 20_000)
    with badger.serve(node, "--fault", "slow=1000000") as server:

        def kill(progress: evbackup.Progress) -> None:
            if progress.bytes and not server.has_ended:
                server.kill()

        with pytest.raises(evbackup.IncompleteError) as caught:
            evbackup.backup(server.address, out / SEGMENT, progress=kill)
        assert 0 < bytes_and_seconds(caught.value)[0] < 6_000_000
        assert names(out) == []
    # The database is none the worse for it, and the next run takes what this one could not.
    with badger.serve(node) as server:
        comes_back(evbackup.backup(server.address, out / SEGMENT), out, server.digest())


@pytest.mark.parametrize("fault", [f"cut-mid-stream={BYTES}", "lie-last-version"])
def test_a_last_version_that_was_not_seen(server: Node, out: Path, fault: str) -> None:
    """The final message claims success. What of it can be checked is checked, before a manifest could say so."""
    error = fails(server, out, fault, evbackup.DamagedError)
    assert "expected" in str(error)
    assert error.hint


def test_a_lost_frame_is_told_where_it_can_be(server: Node, out: Path) -> None:
    """Which ranges a frame holds is chance. Without the announced block or the last version it is refused; else nothing tells."""
    server.fault("cut-at-frame=1")
    try:
        made = evbackup.backup(server.address, out / SEGMENT)
    except evbackup.DamagedError:
        assert names(out) == []
    else:
        assert made.complete_height == made.announced_height
        assert evbackup.verify(made, chain=False).ok


def test_a_since_that_was_not_asked(server: Node, out: Path) -> None:
    error = fails(server, out, "lie-since", evbackup.MismatchError)
    assert "1000000" in str(error)
    assert error.hint


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("no-first", "first message"),
        ("double-final", "second final message"),
        ("data-after-final", "after the final message"),
    ],
)
def test_messages_out_of_order(server: Node, out: Path, fault: str, text: str) -> None:
    error = fails(server, out, fault, evbackup.DamagedError)
    assert text in str(error)
    assert error.hint


def test_a_length_that_was_flipped(server: Node, out: Path) -> None:
    """The frame's length is wrong, and so is everything behind it."""
    error = fails(server, out, "flip=2", evbackup.DamagedError)
    assert "byte" in str(error)
    assert error.hint


def test_a_value_that_was_flipped(server: Node, out: Path) -> None:
    """Badger's stream has no digest of its own, so what is taken is what came; from then on it is proven."""
    server.fault(f"flip={BYTES}")
    try:
        made = evbackup.backup(server.address, out / SEGMENT)
    except evbackup.DamagedError:
        assert names(out) == []
    else:
        assert evbackup.verify(made, chain=False).ok
        assert evbackup.digest(made) != server.digest()


def test_a_server_that_hangs(server: Node, out: Path) -> None:
    began = time.monotonic()
    error = fails(server, out, f"hang={BYTES}", evbackup.UnavailableError, idle_timeout_s=3)
    assert 6 <= time.monotonic() - began < 60
    assert f"{BYTES} bytes" in str(error)
    assert "3 s" in str(error)
    assert error.hint


def test_a_slow_server_is_waited_for(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 100, "--value-size", 4000)
    with badger.serve(node, "--fault", "slow=80000", "--chunk", 16384) as server:
        made = evbackup.backup(server.address, out / SEGMENT, idle_timeout_s=3)
        assert made.elapsed_s > 3.5
        comes_back(made, out, server.digest())


def test_a_released_node_has_no_backup(server: Node, out: Path) -> None:
    error = fails(server, out, "not-found", evbackup.UnsupportedError)
    assert error.hint
    assert "evbackup serve" in error.hint


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("failed_precondition", evbackup.MismatchError),
        ("internal", evbackup.UnavailableError),
        ("permission_denied", evbackup.DeniedError),
        ("resource_exhausted", evbackup.UnavailableError),
        ("unauthenticated", evbackup.DeniedError),
        ("unavailable", evbackup.UnavailableError),
        ("unimplemented", evbackup.UnsupportedError),
    ],
)
def test_a_server_that_refuses(server: Node, out: Path, code: str, kind: type[evbackup.EvbackupError]) -> None:
    error = fails(server, out, f"refuse={code}", kind)
    if code != "unimplemented":
        assert "refused on purpose" in str(error)


def test_two_backups_to_one_target(server: Node, out: Path) -> None:
    server.fault("slow=2000000")
    made: list[evbackup.Backup] = []
    failed: list[evbackup.EvbackupError] = []

    def take() -> None:
        try:
            made.append(evbackup.backup(server.address, out / SEGMENT))
        except evbackup.EvbackupError as error:
            failed.append(error)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert (len(made), len(failed)) == (1, 1), failed
    assert isinstance(failed[0], (evbackup.ExistsError, evbackup.LockedError))
    server.fault("none")
    comes_back(made[0], out, server.digest())
    assert not [name for name in names(out) if "part" in name]
