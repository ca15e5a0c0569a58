"""What these tests need beyond the tools: skipped without it, unless EVBACKUP_REQUIRE_NOTEBOOKS=1 or EVBACKUP_REQUIRE_BROWSER=1."""

import importlib
import importlib.util
import os
from typing import Any, NoReturn

import pytest


def without(what: str, how: str, switch: str) -> NoReturn:
    reason = f"{what} is missing: {how}"
    if os.environ.get(switch) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def library(name: str) -> Any:
    """An optional library."""
    if importlib.util.find_spec(name) is None:
        without(name, "make notebook-tools", "EVBACKUP_REQUIRE_NOTEBOOKS")
    return importlib.import_module(name)
