"""What may not be read, or is no text, is told in our words, and never by a traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest

import evbackup
from evbackup import _node

Command = Callable[..., tuple[int, str, str]]
TOO_LONG = "x" * 300


def test_a_home_that_may_not_be_read(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(evbackup.DeniedError, match="evnode.yaml: cannot read it: Permission denied"):
        _node.read(tmp_path)
    code, _, told = command("backup", "--home", tmp_path, "-o", "x")
    assert (code, told.startswith("error: ")) == (12, True)


def test_databases_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "evnode.yaml").write_text("db_path: data\n")
    (tmp_path / "data").mkdir()
    node = _node.read(tmp_path)

    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(evbackup.InvalidArgument, match="expected --database NAME"):
        node.database(None)


def test_a_home_of_another_kind(command: Command, tmp_path: Path) -> None:
    assert command("inspect", "--home", TOO_LONG, "--database", "a")[0] == 18
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "evnode.yaml").write_bytes(b"rpc:\n  address: \xff\n")
    code, _, told = command("backup", "--home", tmp_path, "-o", "x")
    assert code == 2
    assert "evnode.yaml: expected UTF-8, found other bytes" in told
    (tmp_path / "file").write_text("")
    assert command("backup", "--home", tmp_path / "file" / "home", "-o", "x")[0] == 10


def test_a_token_that_is_no_text(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_bytes(b"\xff\xfe")
    token.chmod(0o600)
    code, _, told = command("backup", "127.0.0.1:1", "-o", tmp_path / "x", "--token-file", token)
    assert code == 2
    assert f"error: {token}: expected a token in UTF-8, found other bytes" in told
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", TOO_LONG)
    code, _, told = command("backup", "127.0.0.1:1", "-o", tmp_path / "x")
    assert code == 2
    assert "cannot read the secret" in told


def test_a_page_whose_name_no_file_can_have(command: Command, full: evbackup.Backup) -> None:
    code, _, told = command("verify", full.path, "--html", TOO_LONG)
    assert code == evbackup.InvalidArgument.exit_code
    assert told.startswith("error: ")
