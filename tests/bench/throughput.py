"""Backup, verify, restore and increment against what the same machine does without us."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from data import Data, Sizes, chunk_of
from measure import MIB, Ran, Row, bare_serving, median, run, said_by, serving, timed

BLOCK = 16_000
SMALL = 300
ALLOWED = 256 * MIB


def memory(peak: float) -> str:
    return f"{peak / MIB:.0f} MiB"


def rate(bytes_: int, seconds: float) -> str:
    return f"{bytes_ / seconds / 1e6:.0f} MB/s"


def ratio_row(what: str, bar: float, bytes_: int, pairs: list[tuple[float, Ran]]) -> Row:
    """The median of the ratios of neighbours: on a shared machine only what ran side by side may be compared."""
    ratio = median([bare / ours.took for bare, ours in pairs])
    bare, ours = median([bare for bare, _ in pairs]), median([ours.took for _, ours in pairs])
    spread = f"{min(b / o.took for b, o in pairs):.2f}-{max(b / o.took for b, o in pairs):.2f}"
    figure = f"{ratio:.2f} ({spread}; {rate(bytes_, ours)} to {rate(bytes_, bare)})"
    return Row(what, f"≥ {bar}", figure, ratio >= bar, memory(max(ours.peak for _, ours in pairs)))


def backup(data: Data, sizes: Sizes) -> list[Row]:
    store, _ = data.store("medium", sizes.medium, BLOCK)
    _, manifest = data.segment("medium.badger", store)
    bytes_, pairs, served = manifest["bytes"], [], 0
    for _ in range(sizes.rounds):
        os.sync()
        with bare_serving(data.tool, bytes_, chunk_of(manifest)) as addr:
            bare = float(said_by([data.tool, "bare-fetch", addr, data.path("fetched")]))
        data.drop("fetched")
        os.sync()
        with serving(store) as (addr, server):
            ours = run("backup", addr, data.path("taken"))
            served = max(served, server.peak)
        data.drop("taken")
        pairs.append((bare, ours))
    row = ratio_row(f"backup over loopback, {bytes_ / 1e9:.1f} GB, to a bare tonic stream", 0.9, bytes_, pairs)
    row.memory += f"; server {memory(served)}"
    return [row]


def verify(data: Data, sizes: Sizes) -> list[Row]:
    store, _ = data.store("medium", sizes.medium, BLOCK)
    path, manifest = data.segment("medium.badger", store)
    pairs = []
    for _ in range(sizes.rounds):
        openssl = timed(["openssl", "dgst", "-sha256", path])
        pairs.append((openssl, run("verify", path, chain=False)))
    what = f"verify full, {manifest['bytes'] / 1e9:.1f} GB warm, to openssl dgst -sha256"
    return [ratio_row(what, 0.7, manifest["bytes"], pairs)]


def chain(data: Data, sizes: Sizes) -> list[Row]:
    """The checker by itself, fed from memory; and `verify` of a segment with the same blocks, from its file."""
    # The sample stands in the memory of the tool.
    blocks = min(sizes.blocks, 300_000)
    store = data.path("checked")
    subprocess.run([data.tool, "signed-chain", store, str(blocks)], check=True)
    took = [said_by([data.tool, "check-chain", store]).split() for _ in range(sizes.rounds)]
    structural, whole, alone = (median([float(turn[at]) for turn in took]) for at in range(3))
    path, _ = data.segment("checked.badger", store)
    rows = [
        Row(
            f"rules of a chain of {blocks:,} blocks, signatures aside",
            "≥ 300,000 blocks/s",
            f"{blocks / structural:,.0f} blocks/s",
            blocks / structural >= 300_000,
        ),
        Row(
            "the same with signatures, to the signature library alone",
            "≥ 0.8",
            f"{alone / whole:.2f} ({blocks / whole:,.0f} to {blocks / alone:,.0f} blocks/s)",
            alone / whole >= 0.8,
        ),
    ]
    for signatures in ("unverified", "required"):
        ours = run("verify", path, signatures=signatures)
        figure = f"{blocks / ours.took:,.0f} blocks/s"
        rows.append(
            Row(f"verify of a segment with them, signatures {signatures}", "–", figure, None, memory(ours.peak))
        )
    data.drop("checked")
    return rows


def restore(data: Data, sizes: Sizes, peer: Path | None) -> list[Row]:
    rows = []
    for name, total, size in (("blocks", sizes.ingest, BLOCK), ("small", sizes.small_values, SMALL)):
        store, count = data.store(name, total, size)
        path, manifest = data.segment(f"{name}.badger", store)
        pairs, loads = [], []
        for turn in range(sizes.rounds):
            os.sync()
            bare = float(said_by([data.tool, "bare-ingest", data.path("bare"), count, size]))
            data.drop("bare")
            os.sync()
            ours = run("restore", path, data.path("restored"), engine="rocksdb")
            data.drop("restored")
            pairs.append((bare, ours))
            if peer is not None and turn < 3:
                os.sync()
                loaded = json.loads(said_by([peer, "load", "--bare", "--dir", data.path("loaded"), "--in", path]))
                data.drop("loaded")
                loads.append((ours, loaded))
        what = f"restore {manifest['bytes'] / 1e9:.1f} GB of {size} B values"
        rows.append(ratio_row(f"{what}, to bare sorted-file ingest", 0.7, manifest["bytes"], pairs))
        rows.append(load_row(what, manifest["bytes"], loads))
        data.drop(name)
    return rows


def load_row(what: str, bytes_: int, loads: list[tuple[Ran, dict[str, Any]]]) -> Row:
    if not loads:
        return Row(f"{what}, to Go's Load", "> 1", "not measured: Go is missing", None)
    ratio = median([loaded["load_and_close_s"] / ours.took for ours, loaded in loads])
    took = median([loaded["load_and_close_s"] for _, loaded in loads])
    peak = max(loaded["peak_rss_anon_bytes"] for _, loaded in loads)
    figure = f"{ratio:.1f} (Load: {rate(bytes_, took)})"
    return Row(f"{what}, to Go's Load + close", "> 1", figure, ratio > 1, f"Go: {memory(peak)}")


def increment(data: Data, sizes: Sizes) -> list[Row]:
    """Called after the other work on the large store: it grows here."""
    store, count = data.store("large", sizes.large, BLOCK)
    fulls, incs = [], []
    with serving(store) as (addr, _):
        os.sync()
        fulls.append(run("backup", addr, data.path("large.badger")))
    said_by([data.tool, "grow", store, count + count // 100, BLOCK])
    with serving(store) as (addr, _):
        for turn in range(sizes.rounds):
            os.sync()
            incs.append(run("backup", addr, data.path(f"increment-{turn}"), since=str(data.path("large.badger"))))
    full, inc = fulls[0].took, median([inc.took for inc in incs])
    allowed = 0.03 * full + 0.3
    share = incs[0].result["bytes"] / fulls[0].result["bytes"]
    figure = f"{inc:.2f} s ({100 * inc / full:.1f} % of {full:.1f} s; {100 * share:.2f} % of the bytes)"
    data.drop("increment-")
    what = f"increment of 1 % of {fulls[0].result['bytes'] / 1e9:.1f} GB"
    return [Row(what, f"≤ 3 % + 0.3 s = {allowed:.2f} s", figure, inc <= allowed, memory(max(i.peak for i in incs)))]
