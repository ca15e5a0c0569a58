"""A real Badger that stays open while its directory is backed up: directly, and by a server of ours beside it."""

import asyncio
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import evbackup
from interop.peers import NOW, Badger, Node, comes_back, names
from support import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture
def running(badger: Badger, node: Path) -> Iterator[Node]:
    """A node that runs, and keeps running."""
    badger.fill(node, "--blocks", 100)
    with badger.serve(node) as server:
        yield server


def test_a_backup_of_a_running_nodes_directory(running: Node, node: Path, out: Path) -> None:
    before = names(node)
    full = evbackup.backup(node, out / "full.badger")
    assert (full.kind, full.deletes, full.complete_height) == ("full", "exact", 100)
    comes_back([full], out, running.digest())
    assert evbackup.digest(node, now=NOW) == running.digest()
    assert names(node) == before
    assert "full.badger" in names(out)


def test_increments_over_prune_deletes_and_compaction(running: Node, node: Path, out: Path) -> None:
    chain = [evbackup.backup(node, out / "full.badger")]
    for step in range(4):
        running.ask("blocks", count=30)
        running.put("/0/m/extra", str(step))
        if step == 1:
            running.ask("prune", to=60)
        if step == 2:
            running.delete("/0/m/extra")
        if step == 3:
            running.ask("prune", to=150)
        running.ask("compact")
        inc = evbackup.backup(node, out / f"inc{step}.badger", since=chain[-1])
        assert (inc.kind, inc.deletes) == ("inc", "exact"), inc
        chain.append(inc)
        comes_back(chain, out, running.digest())
    assert evbackup.verify(chain, chain=False).ok


def test_a_server_of_ours_beside_it(running: Node, node: Path, out: Path) -> None:
    with evbackup.serve(node, "127.0.0.1:0") as ours:
        full = evbackup.backup(ours.address, out / "full.badger")
        running.ask("blocks", count=20)
        running.ask("prune", to=50)
        running.ask("compact")
        over_the_wire = evbackup.backup(ours.address, out / "inc.badger", since=full)
        direct = evbackup.backup(node, out / "direct.badger", since=full)
    assert over_the_wire.since_version < full.next_since
    assert (over_the_wire.sha256, over_the_wire.deletes) == (direct.sha256, "exact")
    comes_back([full, over_the_wire], out, running.digest())


def test_a_restart_that_gives_versions_out_again(badger: Badger, node: Path, out: Path) -> None:
    """Deletes that compaction has purged were the newest versions: the counter falls, and every state is right or refused."""
    badger.fill(node, "--blocks", 50)
    with badger.serve(node) as server:
        server.put("/batches/ff", "x")
        for _ in range(5):
            server.delete("/batches/ff")
        full = evbackup.backup(node, out / "full.badger")
        server.ask("compact")
        server.ask("reopen")
        server.ask("blocks", count=5)
        server.put("/0/m/new", "y")
        inc = evbackup.backup(node, out / "inc.badger", since=full, on_mismatch="full")
        chain = [inc] if inc.kind == "full" else [full, inc]
        comes_back(chain, out, server.digest())


def test_a_node_that_was_rolled_back_needs_a_full_backup(running: Node, node: Path, out: Path) -> None:
    full = evbackup.backup(node, out / "full.badger")
    running.ask("rollback", to=90)
    with pytest.raises(evbackup.MismatchError):
        evbackup.backup(node, out / "inc.badger", since=full)
    again = evbackup.backup(node, out / "again.badger", since=full, on_mismatch="full")
    assert again.kind == "full"
    comes_back([again], out, running.digest())


def test_looking_into_a_running_nodes_directory(running: Node, node: Path) -> None:
    info = evbackup.inspect(node)
    assert isinstance(info, evbackup.DatastoreInfo)
    assert (info.engine, info.tip_height, len(info.store_id)) == ("badger", 100, 32)
    with evbackup.open(node) as datastore:
        tip = datastore.get("/0/t")
        running.ask("blocks", count=1)
        newer = datastore.get("/0/t")
        assert tip is not None
        assert newer is not None
        assert newer.version > tip.version
        headers = list(datastore.prefix("/0/h/"))
        running.ask("blocks", count=1)
        assert datastore.get("/0/h/102") is None, "the first page has fixed a state"
        assert len(list(datastore.prefix("/0/h/"))) == len(headers) == 101
        assert datastore.info().engine == "badger"


def test_a_stopped_node_is_read_without_copying_and_cannot_start(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 20)
    expected = badger.digest(node)
    full = evbackup.backup(node, out / "full.badger", offline=True)
    assert evbackup.digest(node, now=NOW, offline=True) == evbackup.digest(full, now=NOW) == expected
    assert evbackup.verify(node, chain=False).ok
    with badger.serve(node):
        for refused in (
            lambda: evbackup.backup(node, out / "no.badger", offline=True),
            lambda: evbackup.digest(node, offline=True),
            lambda: evbackup.verify(node, chain=False),
        ):
            with pytest.raises(evbackup.LockedError):
                refused()


def test_verify_names_what_is_damaged_in_a_directory(badger: Badger, node: Path) -> None:
    badger.fill(node, "--blocks", 200)
    table = max(node.glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(table.read_bytes())
    data[len(data) // 3] ^= 1
    table.write_bytes(data)
    report = evbackup.verify(node, chain=False)
    assert not report.ok
    finding = next(finding for finding in report.findings if finding.level == "error")
    assert finding.code == "badger-table"
    assert finding.file == table


def test_a_client_that_goes_away_stops_the_copying(running: Node, node: Path, out: Path) -> None:
    """At 1 kB/s a copy would take minutes; the server's only place is free again at once."""
    running.ask("compact")

    async def given_up(address: str) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(evbackup.backup_async(address, out / "slow.badger"), 1)

    def freed(address: str) -> bool:
        try:
            asyncio.run(given_up(address))
        except (evbackup.UnavailableError, evbackup.LockedError):
            # Nor has the run before it given up its target: cancelled, it ends on a thread of its own.
            time.sleep(0.05)
            return False
        return True

    with evbackup.serve(node, "127.0.0.1:0", max_rate=1000, max_backups=1) as ours:
        asyncio.run(given_up(ours.address))
        assert any(freed(ours.address) for _ in range(100))
    deadline = time.monotonic() + 5
    while list(out.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(out.iterdir())


def test_the_unit_serves_as_the_nodes_user(badger: Badger, tmp_path: Path, out: Path) -> None:
    """What systemd would run, as another user without rights. Not run: systemd itself, its namespaces and its system call filter."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or shutil.which("chown") is None:
        pytest.skip("setpriv is missing")
    unit = (EXAMPLES / "systemd" / "evbackup-serve@.service").read_text()
    lines = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))
    home, cache = tmp_path / "evnode", tmp_path / "cache"
    badger.fill(home / "data" / "evm-single", "--blocks", 20)
    (cache / "evbackup-serve").mkdir(parents=True)
    command = shlex.split(
        lines["ExecStart"]
        .replace("/var/lib/evnode", str(home))
        .replace("%C", str(cache))
        .replace("%i", "evm-single")
        .replace("127.0.0.1:7332", "127.0.0.1:0")
    )

    command[:2] = [sys.executable, "-m", "evbackup"]
    subprocess.run(["chmod", "-R", "go=", home, cache], check=True)
    if subprocess.run(["chown", "-R", "65534:65534", home, cache], check=False).returncode != 0:
        pytest.skip("only root can give files away")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    as_user = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    with subprocess.Popen([*as_user, *command], stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("serving on "), line
        full = evbackup.backup(line.split()[-1], out / "full.badger")
        process.terminate()
    assert full.complete_height == 20
    assert {path.owner() for path in (home / "data" / "evm-single").iterdir()} == {"nobody"}
    assert not list((cache / "evbackup-serve").iterdir())


def test_the_container_serves_with_the_same_words(badger: Badger, node: Path, out: Path) -> None:
    """Its command, run here. Not run: the image and the engine, of which there is none on a machine of this kind."""
    compose = yaml.safe_load((EXAMPLES / "compose" / "serve.yaml").read_text())
    service = compose["services"]["evbackup-serve"]
    assert service["read_only"]
    assert service["user"] == "1000:1000"
    assert {volume.split(":")[0] for volume in service["volumes"]} == set(compose["volumes"])
    badger.fill(node / "evm-single", "--blocks", 20)
    (staging := out / "staging").mkdir()
    words = [
        word.replace("/node/data", str(node)).replace("/staging", str(staging)).replace(":7332", ":0")
        for word in service["command"]
    ]

    with subprocess.Popen([sys.executable, "-m", "evbackup", *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        assert evbackup.backup(address, out / "full.badger").complete_height == 20
        process.terminate()
