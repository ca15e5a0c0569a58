"""What an operator's script does with a node: the command line, pipes, asyncio."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evbackup
from interop.peers import NOW, Badger, comes_back, names

COMMAND = (sys.executable, "-m", "evbackup")


def test_the_bare_segment_through_a_pipe(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 300, "--value-size", 5000)
    with badger.serve(node) as server:
        command = [*COMMAND, "backup", server.address, "--output", "-", "--manifest", str(out / "piped.badger.json")]
        with (out / "piped.badger").open("wb") as file:
            piping = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert piping.stdout is not None
            with piping:
                shutil.copyfileobj(piping.stdout, file)
        assert piping.returncode == 0
        expected = server.digest()
    assert badger.load(out / "loaded", out / "piped.badger")["digest"]["digest"] == expected
    assert json.loads((out / "piped.badger.json").read_text())["bytes"] == (out / "piped.badger").stat().st_size


def test_a_night_on_the_command_line(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 100)

    def run(*arguments: object, code: int = 0) -> str:
        command = [*COMMAND, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    with badger.serve(node) as server:
        first = json.loads(run("backup", server.address, "-o", f"{out}/", "--since", "auto", "--json"))
        server.ask("blocks", count=10)
        second = json.loads(run("backup", server.address, "-o", f"{out}/", "--since", "auto", "--json"))
        expected = server.digest()
        server.fault("no-final")
        failed = run("backup", server.address, "-o", f"{out}/", "--since", "auto", code=3)
        server.fault("not-found")
        run("backup", server.address, "-o", f"{out}/", "--since", "auto", code=17)  # its chain is one of the Backup RPC
    run("backup", server.address, "-o", f"{out}/", "--since", "auto", code=13)
    assert failed.startswith("error: ")
    assert "evbackup serve" in failed
    assert (first["kind"], second["kind"], second["complete_height"]) == ("full", "inc", 110)
    chain = [first["path"], second["path"]]
    run("verify", *chain, "--no-chain")  # the peer makes keys of blocks, not blocks
    run("restore", *chain, "--to", out / "store", "--engine", "rocksdb")
    assert run("digest", out / "store", "--now", NOW).strip() == expected


def test_an_asyncio_task_is_cancelled(badger: Badger, node: Path, out: Path) -> None:
    badger.fill(node, "--blocks", 300, "--value-size", 10_000)

    async def work(address: str) -> float:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(evbackup.backup_async(address, out / "full.badger"))
        for _ in range(200):
            if names(out):
                break
            await asyncio.sleep(0.05)
        assert names(out), "expected a backup under way"
        began = loop.time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        took = loop.time() - began
        for _ in range(100):
            if not names(out):
                break
            await asyncio.sleep(0.05)
        return took

    with badger.serve(node, "--fault", "slow=500000") as server:
        # All of it would take six seconds.
        assert asyncio.run(work(server.address)) < 3
        assert names(out) == []
        server.fault("none")
        comes_back(evbackup.backup(server.address, out / "full.badger"), out, server.digest())


def test_several_nodes_at_once(badger: Badger, node: Path, out: Path) -> None:
    folders = [node.with_name(f"node{number}") for number in range(4)]
    for number, folder in enumerate(folders):
        badger.fill(folder, "--blocks", 50, "--seed", number)
    servers = [badger.serve(folder) for folder in folders]

    async def work() -> list[evbackup.Backup]:
        taking = (
            evbackup.backup_async(server.address, out / f"{number}.badger") for number, server in enumerate(servers)
        )
        return await asyncio.gather(*taking)

    try:
        made = asyncio.run(work())
        for one, server in zip(made, servers, strict=True):
            assert evbackup.digest(one, now=NOW) == server.digest()
    finally:
        for server in servers:
            server.close()
