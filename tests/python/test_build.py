"""The build backend: the same variables for everyone, and one line for what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKEND = Path(__file__).parents[2] / "python" / "build_backend" / "evbuild.py"


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    given = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run(
        [sys.executable, BACKEND, *arguments], capture_output=True, text=True, env={**given, **environment}, check=False
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache in which everything slow is done."""
    (tmp_path / "libclang-18.1.1").mkdir()
    (tmp_path / "libclang-18.1.1" / "libclang.so").touch()
    return tmp_path


def test_the_environment_is_the_same_each_time(cache: Path) -> None:
    first = run("env", EVBACKUP_CACHE=str(cache), ROCKSDB_LIB_DIR="/opt/rocksdb")
    assert first.returncode == 0, first.stderr
    lines = dict(line.removeprefix("export ").split("=", 1) for line in first.stdout.splitlines())
    assert lines["LIBCLANG_PATH"] == str(cache / "libclang-18.1.1")
    assert lines["CARGO_TARGET_DIR"] == str(cache / "target")
    assert (lines["ROCKSDB_LIB_DIR"], lines["ROCKSDB_STATIC"]) == ("/opt/rocksdb", "1")
    assert Path(lines["PYO3_CONFIG_FILE"]).read_text().startswith("implementation=CPython\nversion=3.10\n")
    script = f'eval "$({sys.executable} {BACKEND} env)"; {sys.executable} {BACKEND} env'
    again = subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "EVBACKUP_CACHE": str(cache), "ROCKSDB_LIB_DIR": "/opt/rocksdb"},
        check=True,
    )
    assert again.stdout == first.stdout
    shown = run("run", "sh", "-c", "echo $LIBCLANG_PATH", EVBACKUP_CACHE=str(cache), ROCKSDB_LIB_DIR="/opt/rocksdb")
    assert shown.stdout.strip() == lines["LIBCLANG_PATH"]


def test_a_shared_target_folder_forgets_another_checkouts_build(cache: Path) -> None:
    fingerprints = cache / "target" / "debug" / ".fingerprint"
    for name in ("evbackup-1", "rocksdb-1"):
        (fingerprints / name).mkdir(parents=True)
    (cache / "target" / ".evbackup-checkout").write_text("/another/checkout")
    run("env", EVBACKUP_CACHE=str(cache), ROCKSDB_LIB_DIR="/opt/rocksdb")
    assert [entry.name for entry in fingerprints.iterdir()] == ["rocksdb-1"]
    (fingerprints / "evbackup-2").mkdir()
    run("env", EVBACKUP_CACHE=str(cache), ROCKSDB_LIB_DIR="/opt/rocksdb")
    assert sorted(entry.name for entry in fingerprints.iterdir()) == ["evbackup-2", "rocksdb-1"]


@pytest.mark.parametrize(("tool", "advice"), [("rust", "rustup"), ("cxx", "apt-get install g++"), ("go", "go.dev")])
def test_a_missing_tool_gets_one_line(tmp_path: Path, tool: str, advice: str) -> None:
    done = run("check", tool, PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "missing: install" in done.stderr
    assert advice in done.stderr


def test_an_old_rust_is_named(tmp_path: Path) -> None:
    cargo = tmp_path / "cargo"
    cargo.write_text("#!/bin/sh\necho cargo 1.70.0\n")
    cargo.chmod(0o755)
    done = run("check", "rust", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert "expected Rust 1.88 or newer, found cargo 1.70.0" in done.stderr
