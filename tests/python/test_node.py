"""A node's home: what its configuration says, and nothing guessed."""

from pathlib import Path

import pytest

from evbackup import InvalidArgument, MissingError
from evbackup._node import read

# As `init` writes it.
WRITTEN = """\
clear_cache: false
db_path: "data"
node:
    aggregator: false
    block_time: 1s
da:
    address: "http://localhost:7980"
rpc:
    enable_da_visualization: false
    address: 127.0.0.1:7331   # where it listens
    limits:
        address: not this one
"""


def home(tmp_path: Path, text: str) -> Path:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "evnode.yaml").write_text(text)
    return tmp_path


def test_reads_what_a_node_writes(tmp_path: Path) -> None:
    node = read(home(tmp_path, WRITTEN))
    assert node.address() == "127.0.0.1:7331"
    assert node.database("evm-single") == tmp_path / "data" / "evm-single"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rpc:\n  address: 'node:1'\n", "node:1"),
        ('rpc:\n\n  # a remark\n  address: "node:1" # here\n', "node:1"),
        ("rpc.address: node:1\n", "node:1"),
        ("rpc:\n  limits:\n    address: no\n  address: node:1\n", "node:1"),
        ("p2p:\n  address: no\nrpc:\n  address: node:1\n", "node:1"),
        ("rpc:\n  address: ''\n", None),
        ("rpc:\n  port: 1\nda:\n  address: no\n", None),
        ("# rpc:\n#   address: no\n", None),
    ],
)
def test_finds_the_key_and_no_other(tmp_path: Path, text: str, address: str | None) -> None:
    assert read(home(tmp_path, text)).rpc_address == address


@pytest.mark.parametrize(
    "text", ["rpc: {address: node:1}\n", "rpc:\n  address: [a, b]\n", "rpc:\n  address: &x node\n", "db_path: |\n  a\n"]
)
def test_refuses_what_it_cannot_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArgument, match="evnode.yaml: expected"):
        read(home(tmp_path, text))


def test_an_absolute_path_stands(tmp_path: Path) -> None:
    assert read(home(tmp_path, "db_path: /var/lib/ev\n")).database("x") == Path("/var/lib/ev/x")


def test_a_name_is_never_guessed(tmp_path: Path) -> None:
    node = read(home(tmp_path, WRITTEN))
    (tmp_path / "data" / "evm-single").mkdir(parents=True)
    with pytest.raises(InvalidArgument, match="--database") as caught:
        node.database(None)
    assert caught.value.hint == "there are: evm-single"
    for name in ("..", "a/b", "/etc"):
        with pytest.raises(InvalidArgument):
            node.database(name)


def test_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="config/evnode.yaml: expected a node's configuration"):
        read(tmp_path)
    node = read(home(tmp_path, "node:\n  aggregator: true\n"))
    with pytest.raises(InvalidArgument, match=r"expected rpc\.address"):
        node.address()
    with pytest.raises(InvalidArgument, match="expected db_path"):
        node.database("x")
