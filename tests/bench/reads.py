"""Blocks out of a store, at random heights and in a row."""

import subprocess

from data import Data, Sizes
from measure import Row

BAR_S = 1e-3
READS = 50_000


def blocks(data: Data, sizes: Sizes) -> list[Row]:
    """`block(h)` in Rust, and `blocks` from the first to the last."""
    store = data.path("chain")
    subprocess.run([data.tool, "chain", store, str(sizes.blocks)], check=True)
    done = subprocess.run([data.tool, "read-blocks", store, str(READS)], check=True, capture_output=True, text=True)
    median, late, seconds, count = map(float, done.stdout.split())
    data.drop("chain")
    what = f"block(h), {READS:,} random heights of {count:,.0f}"
    figure = f"{late * 1e6:.0f} µs, median {median * 1e6:.0f} µs"
    return [
        Row(what, f"≤ {BAR_S * 1e3:.0f} ms at the 99th percentile", figure, late <= BAR_S),
        Row("blocks(), all in a row", "-", f"{count / seconds:,.0f} blocks/s", None),
    ]
