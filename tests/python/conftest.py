"""What several tests stand on: a store with a sample chain, a server over it, a command line."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import evbackup
from evbackup.cli import main
from support import BLOCKS, grow


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Ctrl-C works, for the programs the tests start, too: a shell starts what runs in its background deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
