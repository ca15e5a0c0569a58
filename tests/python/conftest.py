"""What several tests stand on: a store with a sample chain, a server over it, and the peer that really runs Badger."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import evbackup
from evbackup.cli import main
from support import BLOCKS, ROOT, Peer, grow


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a linked chain; nobody writes to it."""
    store = tmp_path_factory.mktemp("sample") / "store"
    grow(store, BLOCKS)
    return store


@pytest.fixture(scope="session")
def full(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> evbackup.Backup:
    """A full backup of the sample; nobody writes to it."""
    return evbackup.backup(sample, tmp_path_factory.mktemp("full") / "full.badger")


@pytest.fixture
def server(sample: Path) -> Iterator[evbackup.Server]:
    """Serves the sample."""
    with evbackup.serve(sample, "127.0.0.1:0") as running:
        yield running


@pytest.fixture
def chain(tmp_path: Path) -> list[evbackup.Backup]:
    """A full backup and two increments of a store that grows."""
    store = tmp_path / "growing"
    grow(store, 30)
    made = [evbackup.backup(store, tmp_path / "full.badger")]
    for number in (1, 2):
        grow(store, 10)
        made.append(evbackup.backup(store, tmp_path / f"inc{number}.badger", since=made[-1]))
    return made


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    """The peer, built once; skips without Go, unless EVBACKUP_REQUIRE_GO=1."""
    if shutil.which("go") is None:
        reason = "go is missing: the tests against a real Badger need Go 1.24 or newer"
        if os.environ.get("EVBACKUP_REQUIRE_GO") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    program = tmp_path_factory.mktemp("peer") / "peer"
    built = subprocess.run(
        [ROOT / "tests" / "interop" / "build.sh", program], capture_output=True, text=True, timeout=600, check=False
    )
    assert built.returncode == 0, built.stderr
    return Peer(program)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: its exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capfd.readouterr()
        return code, said.out, said.err

    return run
