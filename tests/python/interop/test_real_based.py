"""A released ev-node that was a based sequencer and then signs its blocks: what the chain checker must know of such a chain."""

import json
import threading
from pathlib import Path

import evbackup
from interop.real import EvNode, database, moved_in

FLAGS = ("--da-time", "100ms", "--forced", "forced-inclusion")
BASED = 6


def test_a_chain_that_has_switched_away_from_a_based_sequencer(evnode: EvNode, tmp_path: Path) -> None:
    seed, log = tmp_path / "seed", tmp_path / "log"
    with evnode.aggregator(seed) as node:
        assert node.finish() == 0
    home, other = moved_in(tmp_path / "home", seed), moved_in(tmp_path / "other", seed)
    written = home / "config" / "genesis.json"
    genesis = json.loads(written.read_text())
    written.write_text(json.dumps({**genesis, "da_start_height": 1, "da_epoch_forced_inclusion": 1}))
    with evnode.da() as da:
        # Another node of that DA layer puts the transactions there: a based sequencer makes a block for each, and none without.
        with evnode.aggregator(other, "--da", da, *FLAGS, log=log) as sender:
            ended = threading.Event()

            def send() -> None:
                number = 0
                while not ended.wait(0.2):
                    number += 1
                    sender.ask("force", force=f"key-{number}=1")

            sending = threading.Thread(target=send)
            sending.start()
            try:
                with evnode.aggregator(home, "--based", "--da", da, *FLAGS, log=log) as node:
                    based = node.reaches(BASED)
                    assert node.finish() == 0
            finally:
                ended.set()
                sending.join()
            assert sender.finish() == 0
        unsigned = evbackup.verify(database(home), chain=True, genesis=written)
        assert {finding.code for finding in unsigned.findings} == {"block-signature"}
        assert (
            evbackup.verify(database(home), chain=True, genesis=written, signatures="optional").raise_for_findings().ok
        )
        with evnode.aggregator(home, "--da", da, *FLAGS, log=log) as node:
            assert node.ready["began"] >= based
            node.reaches(node.ready["began"] + 10)
            made = evbackup.backup(database(home), tmp_path / "full.badger")
            assert node.finish() == 0
    # The link of headers holds across the switch; the option that allows it to break once changes nothing here.
    for was_based in (False, True):
        report = evbackup.verify(made, chain=True, genesis=written, signatures="optional", was_based=was_based)
        assert report.raise_for_findings().ok
        assert not [finding for finding in report.findings if finding.code == "header-link"]
