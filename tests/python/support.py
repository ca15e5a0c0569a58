"""What tests share that is no fixture."""

from pathlib import Path

from evbackup import _evbackup
from evbackup._job import wait

ROOT = Path(__file__).parents[2]
BLOCKS = 200
TOKEN = "a token of 32 characters, or so.."


def grow(store: Path, blocks: int) -> None:
    """Makes a store with a sample chain, or adds blocks to it."""
    wait(_evbackup.sample_store(str(store), blocks))
