"""`align`: where a backup of ev-node and a copy of the execution layer belong together."""

import asyncio
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evbackup
from evbackup import Alignment, Backup


@pytest.fixture
def layer(chain: list[Backup]) -> Alignment:
    """What an execution layer whose last block is 35 would say."""
    return evbackup.align(chain, el_height=35)


def test_the_same_block_is_where_to_cut(chain: list[Backup], layer: Alignment, tmp_path: Path) -> None:
    given: dict[str, Any] = {"el_height": 35, "el_timestamp": layer.timestamp}
    for source in (chain, tmp_path / "growing"):
        for root in (layer.state_root, f"0x{layer.state_root}", bytes.fromhex(layer.state_root)):
            fit = evbackup.align(source, el_state_root=root, **given)
            assert (fit.at_height, fit.compared, fit.notes) == (35, ("timestamp", "state_root"), ())
            assert fit.header_hash == layer.header_hash
    fit = asyncio.run(evbackup.align_async(chain, el_state_root=layer.state_root, **given))
    assert fit.segments == tuple(one.path for one in chain[:2])
    made = evbackup.restore(fit.segments, tmp_path / "db", at_height=fit.at_height, role="follower")
    assert made.tip_height == 35
    # What was restored is aligned, too.
    again = evbackup.align(tmp_path / "db", el_state_root=layer.state_root, offline=True, **given)
    assert again.at_height == 35


def test_the_height_alone_proves_nothing(layer: Alignment) -> None:
    assert layer.compared == ()
    assert any("only the height" in note for note in layer.notes)
    assert repr(layer) == "<Alignment cut at height 35: the same height alone>"
    assert pickle.loads(pickle.dumps(layer)) == layer


def test_another_block_is_a_mismatch(chain: list[Backup], layer: Alignment, tmp_path: Path) -> None:
    growing = tmp_path / "growing"
    sources: list[tuple[Any, Path | None, Path | None]] = [
        (chain, chain[1].path, chain[-1].path),
        (growing, growing, growing),
    ]
    for source, place, newest in sources:
        with pytest.raises(evbackup.MismatchError, match="Unix second") as raised:
            evbackup.align(source, el_height=35, el_timestamp=layer.timestamp - 1)
        assert raised.value.path == place
        with pytest.raises(evbackup.MismatchError, match="expected state root 00") as raised:
            evbackup.align(source, el_height=35, el_state_root="00" * 32)
        assert raised.value.path == place
        with pytest.raises(evbackup.MismatchError, match="within 1 to 50, found 51") as raised:
            evbackup.align(source, el_height=51)
        assert raised.value.path == newest
        assert raised.value.hint is not None
    with pytest.raises(evbackup.MismatchError) as raised:
        evbackup.align(chain, el_height=34, el_timestamp=layer.timestamp)
    assert raised.value.hint == "block 35 has that time: is the execution layer's height right?"


@pytest.mark.parametrize("root", ["", "0x12", "zz" * 32, b"short"])
def test_a_root_that_is_none_is_refused(chain: list[Backup], root: str | bytes) -> None:
    with pytest.raises(evbackup.InvalidArgument, match="expected a state root"):
        evbackup.align(chain, el_height=35, el_state_root=root)


def test_the_command_line_aligns(
    chain: list[Backup], layer: Alignment, command: Callable[..., tuple[int, str, str]]
) -> None:
    segments = [one.path for one in chain]
    code, out, _ = command("align", *segments, "--el-height", 35, "--el-state-root", layer.state_root, "--json")
    assert (code, json.loads(out)["at_height"]) == (0, 35)
    code, _, err = command("align", *segments, "--el-height", 35, "--el-timestamp", 1)
    assert code == evbackup.MismatchError.exit_code
    assert "as the execution layer has it" in err
