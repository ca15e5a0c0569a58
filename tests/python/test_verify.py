"""`verify`, `inspect` and `digest`."""

import asyncio
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evbackup
from evbackup import Backup
from support import BLOCKS, TOKEN, grow


def copied(backup: Backup, folder: Path) -> Path:
    """The segment and what stands beside it, to be damaged."""
    assert backup.path is not None
    for file in backup.path.parent.glob(backup.path.name + "*"):
        shutil.copy2(file, folder)
    return folder / backup.path.name


def test_a_sound_segment(full: Backup) -> None:
    report = evbackup.verify(full)
    assert report.ok
    assert report.raise_for_findings() is report
    assert (report.entries, report.bytes, report.segments) == (full.entries, full.bytes, (full.path,))
    assert report.complete_height == BLOCKS


def test_quick_looks_at_less(full: Backup) -> None:
    report = evbackup.verify(full, level="quick")
    assert report.ok
    assert report.level == "quick"


def test_a_chain_in_any_order(chain: list[Backup]) -> None:
    report = evbackup.verify(reversed(chain))
    assert report.ok
    assert report.segments == tuple(one.path for one in chain)


def test_a_gap_is_named(chain: list[Backup]) -> None:
    report = evbackup.verify([chain[0], chain[2]])
    assert not report.ok
    assert [finding.code for finding in report.errors] == ["gap"]


def test_damage_is_found_and_placed(full: Backup, tmp_path: Path) -> None:
    segment = copied(full, tmp_path)
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    report = evbackup.verify(segment)
    assert not report.ok
    assert report.errors[0].file == segment
    with pytest.raises(evbackup.DamagedError, match=segment.name):
        report.raise_for_findings()


def test_a_segment_without_a_manifest_is_a_warning(full: Backup, tmp_path: Path) -> None:
    assert full.path is not None
    segment = tmp_path / "bare.badger"
    shutil.copyfile(full.path, segment)
    report = evbackup.verify(segment)
    assert report.ok
    assert report.warnings
    with pytest.raises(evbackup.DamagedError):
        report.raise_for_findings(strict=True)


def test_calls_that_cannot_be_meant(full: Backup) -> None:
    with pytest.raises(evbackup.InvalidArgument):
        evbackup.verify([])
    with pytest.raises(evbackup.InvalidArgument, match="level"):
        evbackup.verify(full, level="deep")  # type: ignore[arg-type]
    with pytest.raises(evbackup.MissingError):
        evbackup.verify("/nowhere/full.badger")


def test_digests_are_equal_where_the_data_is(sample: Path, full: Backup) -> None:
    assert evbackup.digest(sample) == evbackup.digest(full)
    assert evbackup.digest(sample, at=full.complete_version) == evbackup.digest(full)
    assert evbackup.digest(sample, at=1) != evbackup.digest(full)
    assert evbackup.digest(sample, history=True) == evbackup.digest(full, history=True)


def test_inspect_a_segment(full: Backup, tmp_path: Path) -> None:
    segment = evbackup.inspect(full)
    assert isinstance(segment, evbackup.Segment)
    assert (segment.path, segment.kind, segment.sha256, segment.next_since) == (
        full.path,
        "full",
        full.sha256,
        full.next_since,
    )
    assert full.path is not None
    bare = tmp_path / "bare.badger"
    shutil.copyfile(full.path, bare)
    assert isinstance(evbackup.inspect(bare), evbackup.Segment)


def test_inspect_a_store(sample: Path) -> None:
    store = evbackup.inspect(sample)
    assert isinstance(store, evbackup.DatastoreInfo)
    assert (store.path, store.engine, store.tip_height) == (sample, "rocksdb", BLOCKS)


def genesis(folder: Path, chain_id: str = "sample-1") -> Path:
    path = folder / f"{chain_id}.json"
    start = "2023-11-14T22:13:20.123456789Z"
    path.write_text(json.dumps({"chain_id": chain_id, "start_time": start, "initial_height": 1}))
    return path


def test_the_blocks_are_checked_where_there_are_any(full: Backup, sample: Path, chain: list[Backup]) -> None:
    for paths, blocks in ((full, BLOCKS), (sample, BLOCKS), (chain, 50)):
        report = evbackup.verify(paths)
        found = report.raise_for_findings(strict=True).chain
        assert found is not None
        assert (found.chain_id, found.generation, found.base) == ("sample-1", "F", 1)
        assert (found.blocks, found.signatures, found.tip, found.complete_height) == (blocks,) * 4
        assert (found.rules, found.torn) == ((), None)
        assert {count.family: count.keys for count in found.families or ()}["headers"] == blocks
        assert json.loads(json.dumps(report.as_dict()))["chain"]["chain_id"] == "sample-1"
        assert "sample-1" in report._repr_html_()
    assert evbackup.verify(full, chain=False).chain is None
    assert evbackup.verify(sample, level="quick").chain is None


def test_a_genesis_and_a_trusted_hash_prove_or_refute(full: Backup, tmp_path: Path) -> None:
    evbackup.verify(full, genesis=genesis(tmp_path)).raise_for_findings()
    wrong = evbackup.verify(full, genesis=genesis(tmp_path, "other"))
    assert [(one.code, one.kind, one.rule) for one in wrong.errors] == [("genesis", "mismatch", None)]
    with pytest.raises(evbackup.MismatchError, match="other") as raised:
        wrong.raise_for_findings()
    assert raised.value.path == full.path
    untrusted = evbackup.verify(full, trusted=(3, "9f" * 32))
    assert [(one.code, one.height) for one in untrusted.errors] == [("trusted-hash", 3)]
    with pytest.raises(evbackup.MismatchError):
        untrusted.raise_for_findings()


def test_the_execution_layer_is_compared(full: Backup) -> None:
    # The sample's first block is of this second, and each is one later.
    evbackup.verify(full, el_height=3, el_timestamp=1_700_000_002).raise_for_findings()
    report = evbackup.verify(full, el_height=3, el_timestamp=1_700_000_003, el_state_root="0x" + "9f" * 32)
    assert [(one.rule, one.height, one.code) for one in report.errors] == [(20, 3, "execution-layer")] * 2
    with pytest.raises(evbackup.InvalidArgument, match="el_height"):
        evbackup.verify(full, el_timestamp=1)


def test_what_contradicts_itself_is_refused(full: Backup) -> None:
    for options in ({"chain": True}, {"trusted": (1, "9f" * 32)}):
        with pytest.raises(evbackup.InvalidArgument, match="full"):
            evbackup.verify(full, level="quick", **options)
    with pytest.raises(evbackup.InvalidArgument, match="64 hex digits"):
        evbackup.verify(full, trusted=(1, "9f"))
    with pytest.raises(evbackup.InvalidArgument, match="other-payload"):
        evbackup.verify(full, signatures="maybe")  # type: ignore[arg-type]
    with pytest.raises(evbackup.MissingError):
        evbackup.verify(full, genesis="/nowhere/genesis.json")


def test_inspect_says_what_chain_it_is(full: Backup, sample: Path) -> None:
    for path in (full, sample):
        chain = evbackup.inspect(path).chain
        assert chain is not None
        assert (chain.chain_id, chain.releases, chain.base) == ("sample-1", "v1.2.0 or later", 1)
        assert (chain.tip, chain.complete_height) == (BLOCKS, BLOCKS)
        assert {count.family: count.keys for count in chain.families or ()}["signatures"] == BLOCKS
    brief = evbackup.inspect(sample, count=False).chain
    assert brief is not None
    assert brief.families is None


def test_the_twins(full: Backup, sample: Path) -> None:
    async def work() -> tuple[object, ...]:
        return await asyncio.gather(
            evbackup.verify_async(full),
            evbackup.inspect_async(full),
            evbackup.digest_async(full),
            evbackup.digest_async(sample),
        )

    report, segment, one, other = asyncio.run(work())
    assert isinstance(report, evbackup.Report)
    assert report.ok
    assert segment == evbackup.inspect(full)
    assert one == other


def test_an_address_is_told_from_a_file(full: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether something is there decides for what could be both."""
    assert full.path is not None
    with pytest.raises(evbackup.UnavailableError):
        evbackup.verify("127.0.0.1:1", against=full)
    with pytest.raises(evbackup.UnavailableError):
        evbackup.verify("http://127.0.0.1:1", connect_timeout_s=2.0)
    with pytest.raises(evbackup.MissingError):
        evbackup.verify("127.0.0.1:x")
    with pytest.raises(evbackup.InvalidArgument):
        evbackup.verify(full, against=full)
    with pytest.raises(evbackup.InvalidArgument):
        evbackup.verify("127.0.0.1:1", sample=-1)
    monkeypatch.chdir(tmp_path)
    copied(full, tmp_path).rename("node:7331")
    assert evbackup.verify("node:7331").segments == (Path("node:7331"),)


OF_PATHS: dict[str, Any] = {
    "level": "quick",
    "chain": False,
    "genesis": "genesis.json",
    "was_based": True,
    "el_height": 0,
    "el_timestamp": 1,
    "el_state_root": "ab",
}
OF_NODES: dict[str, Any] = {
    "against": "full.badger",
    "sample": 5,
    "tls": evbackup.Tls(),
    "token": "secret",
    "headers": {"a": "b"},
    "insecure": True,
}


@pytest.mark.parametrize("name", [*OF_PATHS, *OF_NODES])
def test_an_option_that_does_not_apply_is_refused_and_never_passed_over(full: Backup, name: str) -> None:
    one, other = ("a path", "the address of a node") if name in OF_PATHS else ("the address of a node", "a path")
    where: Any = "http://127.0.0.1:1" if name in OF_PATHS else full
    given = {**OF_PATHS, **OF_NODES}[name]
    with pytest.raises(evbackup.InvalidArgument, match=f"^expected {one} with {name}, found {other}$"):
        evbackup.verify(where, **{name: given})
    with pytest.raises(evbackup.InvalidArgument, match=f"^expected {one} with {name}, found {other}$"):
        asyncio.run(evbackup.verify_async(where, **{name: given}))


def test_each_option_is_of_paths_of_nodes_or_of_both() -> None:
    both = {"trusted", "signatures", "connect_timeout_s", "idle_timeout_s", "progress"}
    assert {*OF_PATHS, *OF_NODES, *both} == set(inspect.signature(evbackup.verify).parameters) - {"paths"}


def test_what_is_said_for_all_verbs_does_not_break_the_proof_of_a_path(
    command: Callable[..., tuple[int, str, str]],
    full: Backup,
    server: evbackup.Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A token, certificates and metadata in the environment or the configuration are for the verbs that want them."""
    monkeypatch.setenv("EVBACKUP_TOKEN", TOKEN)
    assert command("verify", full.path)[0] == 0
    monkeypatch.setenv("EVBACKUP_TLS_CA", str(tmp_path / "nowhere.pem"))
    monkeypatch.setenv("EVBACKUP_VERIFY_SAMPLE", "3")
    assert command("verify", full.path)[0] == 0
    for name in ("EVBACKUP_TOKEN", "EVBACKUP_TLS_CA", "EVBACKUP_VERIFY_SAMPLE"):
        monkeypatch.delenv(name)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    config = tmp_path / "node.toml"
    config.write_text(f'token_file = "{token}"\nheader = ["a=b"]\n[verify]\nlevel = "quick"\nsample = 3\n')
    assert command("--config", config, "verify", full.path)[0] == 0
    # Here it is the level that is of no use, and the rest is what was asked for.
    code, told, _ = command("--config", config, "verify", "--json", server.address)
    assert code == 0
    assert json.loads(told)["asked"]["sample"] == 3
    assert json.loads(told)["compared_heights"] == 3
    # What was said on the command line was meant.
    code, _, told = command("verify", full.path, "--token-file", token)
    assert (code, "expected the address of a node with token, found a path" in told) == (2, True)
    code, _, told = command("verify", server.address, "--level", "quick", "--no-chain")
    assert (code, "expected a path with level, chain, found the address of a node" in told) == (2, True)


def test_nothing_compared_proves_nothing(server: evbackup.Server) -> None:
    with pytest.raises(
        evbackup.InvalidArgument, match="^expected at least one height to compare, or a trusted hash, found neither$"
    ):
        evbackup.verify(server.address, sample=0)


# Loads the module with what threads it wants, then verifies with few more: what the limit allows is not known, only that it is no damage.
FEW = """
import os, resource, sys
import evbackup
path = sys.argv[1]
evbackup.verify(path, level="quick")
os.setgroups([])
os.setresuid(65534, 65534, 65534)
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
for more in range(6):
    resource.setrlimit(resource.RLIMIT_NPROC, (len(os.listdir("/proc/self/task")) + more, hard))
    report = evbackup.verify(path)
    assert report.ok and report.chain.signatures == report.chain.blocks == 2000, report.findings
print("ok")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who has no other threads")
def test_few_threads_are_no_damage() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        grow(Path(folder) / "store", 2000)
        evbackup.backup(Path(folder) / "store", Path(folder) / "full.badger")
        for file in Path(folder).glob("full.badger*"):
            file.chmod(0o644)
        command = [sys.executable, "-c", FEW, os.fspath(Path(folder) / "full.badger")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_a_report_says_what_was_asked(full: Backup, server: evbackup.Server) -> None:
    trusted = (7, "ab" * 32)
    asked = evbackup.verify(full, signatures="unverified", trusted=trusted, el_height=1).asked
    assert asked == evbackup.Asked(level="full", trusted=trusted, signatures="unverified", was_based=False, el_height=1)
    report = evbackup.verify(server.address, against=full, sample=10, token=None, headers={})
    assert full.path is not None
    assert report.asked == evbackup.Asked(addr=server.address, against=(full.path,), sample=10, signatures="required")
    assert report.compared_heights == 10
    assert repr(report) == f"<Report ok: node {server.address}: 10 heights compared>"
    assert evbackup.Report._of(json.loads(json.dumps(report.as_dict()))) == report
