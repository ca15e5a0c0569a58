"""What the integrity features cost over a link of 1 Gbit/s: two network namespaces of our own and a shaped cable between them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from data import Data, Sizes, chunk_of
from measure import Ran, Row, bare_serving, median, run, said_by, serving
from throughput import BLOCK, memory, rate

SERVER = "10.77.0.1"
CLIENT = "10.77.0.2"
# Some milliseconds of the rate may pass at once: the kernel hands over 64 KiB at a time.
SHAPE = ["tbf", "rate", "1gbit", "burst", "512kb", "latency", "50ms"]


@contextlib.contextmanager
def shaped() -> Iterator[tuple[str, str] | None]:
    """The two namespaces; None where they may not be made."""
    names = f"evb-a-{os.getpid()}", f"evb-b-{os.getpid()}"
    cables = f"evba{os.getpid()}", f"evbb{os.getpid()}"
    commands = [["ip", "netns", "add", name] for name in names]
    commands.append(["ip", "link", "add", cables[0], "type", "veth", "peer", "name", cables[1]])
    for name, cable, address in zip(names, cables, (SERVER, CLIENT), strict=True):
        commands.append(["ip", "link", "set", cable, "netns", name])
        commands.append(["ip", "-n", name, "addr", "add", f"{address}/24", "dev", cable])
        commands.append(["ip", "-n", name, "link", "set", cable, "up"])
        commands.append(["tc", "-n", name, "qdisc", "add", "dev", cable, "root", *SHAPE])
    try:
        try:
            for command in commands:
                subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"  no shaped link: {error}: {getattr(error, 'stderr', '')}", file=sys.stderr)
            yield None
        else:
            yield names
    finally:
        for name in names:
            with contextlib.suppress(OSError):
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        # Where the second half failed, the cable is still ours.
        with contextlib.suppress(OSError):
            subprocess.run(["ip", "link", "del", cables[0]], check=False, capture_output=True)


def integrity(data: Data, sizes: Sizes) -> list[Row]:
    what, bar = "backup over 1 Gbit/s, to a bare tonic stream", "≤ 5 % more"
    store, _ = data.store("shaped", sizes.shaped, BLOCK)
    _, manifest = data.segment("shaped.badger", store)
    bytes_ = manifest["bytes"]
    pairs: list[tuple[float, Ran]] = []
    with shaped() as names:
        if names is None:
            return [Row(what, bar, "not measured: needs root, ip and tc", None)]
        there, here = names
        for _ in range(sizes.rounds):
            os.sync()
            with bare_serving(data.tool, bytes_, chunk_of(manifest), f"{SERVER}:0", there) as addr:
                fetch = ["ip", "netns", "exec", here, data.tool, "bare-fetch", addr, data.path("fetched")]
                bare = float(said_by(fetch))
            data.drop("fetched")
            os.sync()
            with serving(store, f"{SERVER}:0", netns=there, insecure=True) as (addr, _):
                ours = run("backup", addr, data.path("taken"), netns=here)
            data.drop("taken")
            pairs.append((bare, ours))
    data.drop("shaped")
    more = median([ours.took / bare - 1 for bare, ours in pairs])
    speed = rate(bytes_, median([ours.took for _, ours in pairs]))
    peak = memory(max(ours.peak for _, ours in pairs))
    return [Row(what, bar, f"{100 * more:.1f} % more ({speed})", more <= 0.05, peak)]
