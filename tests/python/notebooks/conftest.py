"""What several of these tests need."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evbackup
from notebooks.extras import library, without


@pytest.fixture(scope="session")
def polars() -> Any:
    return library("polars")


@pytest.fixture(scope="session")
def duckdb() -> Any:
    return library("duckdb")


@pytest.fixture(scope="session")
def altair() -> Any:
    library("vl_convert")
    return library("altair")


@pytest.fixture(scope="session")
def frames() -> Path:
    """A Python with pandas, and so with numpy."""
    python = Path(sys.prefix) / "frames" / "bin" / "python"
    if not python.exists():
        without("pandas", "make notebook-tools", "EVBACKUP_REQUIRE_NOTEBOOKS")
    return python


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium. Its driver keeps an event loop running, so it is gone before tests that start their own."""
    chromium = shutil.which("chromium")
    if chromium is None:
        without("chromium", "apt-get install chromium", "EVBACKUP_REQUIRE_BROWSER")
    library("playwright")
    sync_api = library("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Root has no sandbox of Chromium's, and this loads our own pages only.
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(sample: Path) -> Iterator[evbackup.Datastore]:
    """The sample, opened."""
    with evbackup.open(sample) as store:
        yield store
