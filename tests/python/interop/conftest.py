"""Fixtures of the tests against a real Badger."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

import evbackup
from interop.peers import Badger, CannotBuildError, Large, build, build_evnode
from interop.real import EvNode


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interop)
            # Minutes on a machine whose disk is busy; every wait within is bounded.
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def badger() -> Badger:
    """The program, built once; skips without Go, unless EVBACKUP_REQUIRE_GO=1."""
    if shutil.which("go") is None:
        reason = "go is missing: the tests against a real Badger need Go 1.24 or newer"
        if os.environ.get("EVBACKUP_REQUIRE_GO") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return Badger(build())


@pytest.fixture(scope="session")
def evnode() -> EvNode:
    """The released ev-node, built once; skips where it cannot be built, unless EVBACKUP_REQUIRE_EVNODE=1."""
    try:
        return EvNode(build_evnode())
    except CannotBuildError as error:
        reason = f"a released ev-node cannot be built here: {error}"
        if os.environ.get("EVBACKUP_REQUIRE_EVNODE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


class Table:
    """Rows of figures, printed at the end of the session."""

    def __init__(self) -> None:
        self.tables: dict[str, list[tuple[str, ...]]] = {}

    def row(self, title: str, heads: tuple[str, ...], cells: tuple[object, ...]) -> None:
        self.tables.setdefault(title, [heads]).append(tuple(map(str, cells)))

    def merge(self, tables: dict[str, list[tuple[str, ...]]]) -> None:
        for title, (heads, *rows) in tables.items():
            self.tables.setdefault(title, [heads]).extend(rows)


FIGURES = pytest.StashKey[Table]()


@pytest.fixture(scope="session")
def table(pytestconfig: pytest.Config) -> Table:
    """Where tests put figures that a person wants to see."""
    return pytestconfig.stash.setdefault(FIGURES, Table())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist sends its figures to the process that prints them."""
    sent: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if sent is not None:
        sent["figures"] = session.config.stash.get(FIGURES, Table()).tables


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """That process takes them."""
    node.config.stash.setdefault(FIGURES, Table()).merge(getattr(node, "workeroutput", {}).get("figures", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for title, rows in config.stash.get(FIGURES, Table()).tables.items():
        terminalreporter.section(title)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """Where a test keeps the database of its node."""
    return tmp_path / "node"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for backups with nothing in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def large(badger: Badger, tmp_path_factory: pytest.TempPathFactory) -> Large:
    """A backup of some 320 MB in which some runs go over several frames; nobody writes to it."""
    folder = tmp_path_factory.mktemp("large")
    badger.fill(folder / "node", "--generic", 200_000, "--generic-size", 120)
    badger.fill(folder / "node", "--blocks", 5000, "--value-size", 58_000, "--value-threshold", 32_768)
    with badger.serve(folder / "node") as server:
        made = evbackup.backup(server.address, folder / "full.badger")
        digest = server.digest()
    shutil.rmtree(folder / "node")
    return Large(made, digest)
