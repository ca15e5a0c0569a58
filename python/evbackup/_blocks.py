"""Blocks for people: what stands in a chain, as frozen objects whose hashes and transactions are `bytes`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from ._job import wait, wait_async
from ._results import Result
from ._types import whole
from .errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from . import _evbackup

T = TypeVar("T", bound="Record")

HASH_BYTES = 32
# How much of a long value a table shows.
SHOWN_BYTES = 32
SHOWN_TRANSACTIONS = 10

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def moment(nanos: int) -> datetime:
    """Unix nanoseconds as a time, to the microsecond; what lies beyond the calendar is its last moment."""
    try:
        return EPOCH + timedelta(microseconds=nanos // 1000)
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, repr=False)
class Record(Result):
    """The parent of what stands in a chain. In `as_dict()`, bytes are lower-case hex."""

    def _repr_html_(self) -> str:
        from html import escape  # noqa: PLC0415  # costs import time; only notebooks come here

        def cell(value: object) -> str:
            if isinstance(value, bytes):
                return escape(value[:SHOWN_BYTES].hex() + ("…" if len(value) > SHOWN_BYTES else ""))
            if isinstance(value, tuple):
                shown = "<br>".join(cell(item) for item in value[:SHOWN_TRANSACTIONS])
                more = len(value) - SHOWN_TRANSACTIONS
                return f"{shown}<br>and {more:,} more" if more > 0 else shown
            if isinstance(value, Record):
                return value._repr_html_()
            return escape("" if value is None else str(value))

        rows = "".join(
            f"<tr><th style='text-align:left'>{field.name}</th><td style='text-align:left'>"
            f"{cell(getattr(self, field.name))}</td></tr>"
            for field in fields(self)
        )
        return f"<table><caption>{type(self).__name__}</caption>{rows}</table>"


@dataclass(frozen=True, repr=False)
class Header(Record):
    """The header of a block, with its signature.

    Attributes:
        height: The block's height.
        time_ns: When it was made, in Unix nanoseconds; `time` is the same as a `datetime`.
        chain_id: The chain's name.
        version: The rules it follows: of blocks, of the app.
        last_header_hash: The hash of the header before; empty in the first block.
        data_hash: The commitment to the transactions.
        app_hash: The app's state before the block.
        proposer_address: Who made it.
        validator_hash: Empty unless an app sets it.
        last_commit_hash: Of releases up to v1.0.0-beta.8, like the next two.
        consensus_hash: See `last_commit_hash`.
        last_results_hash: See `last_commit_hash`.
        signature: Empty where nobody signed.
        signer_address: Whose signature it is.
        signer_public_key: The key as libp2p marshals it.
    """

    height: int
    time_ns: int
    chain_id: str
    version: tuple[int, int]
    last_header_hash: bytes
    data_hash: bytes
    app_hash: bytes
    proposer_address: bytes
    validator_hash: bytes
    last_commit_hash: bytes
    consensus_hash: bytes
    last_results_hash: bytes
    signature: bytes
    signer_address: bytes
    signer_public_key: bytes

    @property
    def time(self) -> datetime:
        """When the block was made, to the microsecond."""
        return moment(self.time_ns)

    def _short(self) -> str:
        return f"{self.chain_id} {self.height:,}"


@dataclass(frozen=True, repr=False)
class Data(Record):
    """What a block carries.

    Attributes:
        chain_id: The chain's name; None, like the next three, in the first block of old chains.
        height: The block's height.
        time_ns: When it was made, in Unix nanoseconds.
        last_data_hash: The hash of the data before.
        transactions: The transactions, in their order.
        hash: Its data hash, which the next block names.
    """

    chain_id: str | None
    height: int | None
    time_ns: int | None
    last_data_hash: bytes | None
    transactions: tuple[bytes, ...]
    hash: bytes

    def _short(self) -> str:
        count = len(self.transactions)
        return f"{count:,} transaction{'' if count == 1 else 's'}"


@dataclass(frozen=True, repr=False)
class Block(Record):
    """A block of the chain.

    Attributes:
        height: Its height.
        hash: Its header hash, which the next block names.
        index_hash: The SHA-256 of its stored header, by which a node's index knows it from v1.0.0-beta.9 on.
        header: Its header.
        data: Its transactions, and what ties them to the header.
        header_da_height: Where its header was included on DA; None where it is not known to have been.
        data_da_height: Where its data was.
    """

    height: int
    hash: bytes
    index_hash: bytes
    header: Header
    data: Data
    header_da_height: int | None
    data_da_height: int | None

    @classmethod
    def _made(cls, values: Sequence[Any]) -> Block:
        height, own, index, header, data, header_da, data_da = values
        return cls(height, own, index, Header(*header), Data(*data), header_da, data_da)

    @property
    def transactions(self) -> tuple[bytes, ...]:
        """The transactions, in their order."""
        return self.data.transactions

    @property
    def time(self) -> datetime:
        """When it was made, to the microsecond; `time_ns` has the nanoseconds."""
        return self.header.time

    @property
    def time_ns(self) -> int:
        """When it was made, in Unix nanoseconds."""
        return self.header.time_ns

    @property
    def chain_id(self) -> str:
        """The chain's name."""
        return self.header.chain_id

    def _short(self) -> str:
        return f"{self.height:,} {self.hash.hex()[:12]}…, {self.data._short()}, {self.time:%Y-%m-%d %H:%M:%S}"


@dataclass(frozen=True, repr=False)
class State(Record):
    """What a block leaves behind.

    Attributes:
        height: After which block.
        time_ns: That block's time, in Unix nanoseconds; None where there is none. `time` is the same as a `datetime`.
        chain_id: The chain's name.
        version: The rules it follows: of blocks, of the app.
        initial_height: The height of the first block that there ever was.
        da_height: Where the node stood on DA: differs from node to node.
        app_hash: The app's state after the block.
        last_header_hash: The hash of that block's header; empty before v1.0.0-beta.9.
        next_proposer_address: Who makes the next block; empty before v1.2.0.
        last_results_hash: Of releases up to v1.0.0-beta.8.
    """

    height: int
    time_ns: int | None
    chain_id: str
    version: tuple[int, int]
    initial_height: int
    da_height: int
    app_hash: bytes
    last_header_hash: bytes
    next_proposer_address: bytes
    last_results_hash: bytes

    @property
    def time(self) -> datetime | None:
        """That block's time, to the microsecond."""
        return None if self.time_ns is None else moment(self.time_ns)

    def _short(self) -> str:
        return f"after {self.chain_id} {self.height:,}"


class Blocks:
    """Blocks in the order of their heights, read as they are asked for: with `for` or with `async for`, as often as you like."""

    def __init__(self, native: _evbackup.Opened, start: int | None, stop: int | None) -> None:
        self._native = native
        self._start = start
        self._stop = stop

    def __iter__(self) -> Iterator[Block]:
        at, stop = self._start, self._stop
        while True:
            found, at, stop = wait(self._native.blocks(at, stop))
            for values in found:
                yield Block._made(values)
            if at is None:
                return

    async def __aiter__(self) -> AsyncIterator[Block]:
        at, stop = self._start, self._stop
        while True:
            found, at, stop = await wait_async(self._native.blocks(at, stop))
            for values in found:
                yield Block._made(values)
            if at is None:
                return

    def __repr__(self) -> str:
        start = "the first" if self._start is None else f"{self._start:,}"
        stop = "the last" if self._stop is None else f"before {self._stop:,}"
        return f"<Blocks from {start} to {stop}>"


class Chain:
    """The blocks of an ev-node chain: what a datastore and open segments have in common."""

    _native: _evbackup.Opened

    @property
    def height(self) -> int:
        """The height of the newest block, 0 when there is none; of segments, of the newest one that is whole."""
        return int(wait(self._native.heights())[1])

    @property
    def heights(self) -> range:
        """The heights that there are blocks of."""
        first, last = wait(self._native.heights())
        return range(first, last + 1) if last else range(0)

    @property
    def chain_id(self) -> str | None:
        """The chain's name, or None when there is no block."""
        name: str | None = wait(self._native.chain_id())
        return name

    def block(self, which: int | bytes | str | None = None) -> Block:
        """One block.

        Args:
            which: Its height; or its hash, as bytes or as hex: the header hash or the hash of the index. None: the newest one.

        Returns:
            The block.

        Raises:
            InvalidArgument: There is no such height; the text says which there are. Or it is no hash.
            MissingError: The block was pruned, or no block has this hash.
            DamagedError: What is stored is no block.

        Example:
            >>> with evbackup.open("restored") as store:  # doctest: +SKIP
            ...     print(store.block(7).hash.hex(), store.block().height)
        """
        return Block._made(wait(self._native.block(_which(which))))

    async def block_async(self, which: int | bytes | str | None = None) -> Block:
        """`block` for asyncio: same argument, same result."""
        return Block._made(await wait_async(self._native.block(_which(which))))

    def blocks(self, start: int | None = None, stop: int | None = None) -> Blocks:
        """The blocks of a range, one after the other and in little memory.

        Args:
            start: The first height; None: the lowest there is.
            stop: The height behind the last one, as in `range`; None: up to the newest there is at the beginning.

        Returns:
            What `for` and `async for` go through. Reading begins there, and so do errors: see `block`.

        Example:
            >>> with evbackup.open("full.badger") as segment:  # doctest: +SKIP
            ...     print(sum(len(block.transactions) for block in segment.blocks(100, 200)))
        """
        return Blocks(self._native, whole("start", start), whole("stop", stop))

    def state(self, height: int | None = None) -> State:
        """The state after a block.

        Args:
            height: The block's height; None: the newest one.

        Returns:
            The state.

        Raises:
            InvalidArgument: There is no such height yet.
            MissingError: There is no state for it: it was pruned, or not in the segments.
            DamagedError: What is stored is no state.
        """
        return State(*wait(self._native.state(whole("height", height))))

    async def state_async(self, height: int | None = None) -> State:
        """`state` for asyncio: same argument, same result."""
        return State(*await wait_async(self._native.state(whole("height", height))))

    def metadata(self, name: str) -> bytes | None:
        """What the node keeps under a name, such as `"d"` or `"rhb/7/h"`.

        Args:
            name: The name, without the `/0/m/` of its key.

        Returns:
            The value as it is stored, or None when there is nothing.
        """
        value: bytes | None = wait(self._native.metadata(name))
        return value

    async def metadata_async(self, name: str) -> bytes | None:
        """`metadata` for asyncio: same argument, same result."""
        value: bytes | None = await wait_async(self._native.metadata(name))
        return value


def _which(given: int | bytes | str | None) -> int | bytes | None:
    """A height or the bytes of a hash."""
    if isinstance(given, str):
        try:
            given = bytes.fromhex(given.removeprefix("0x"))
        except ValueError:
            raise InvalidArgument(f"expected a hash of {2 * HASH_BYTES} hex digits, found {given!r}") from None
    if isinstance(given, (bytes, bytearray, memoryview)):
        hashed = bytes(given)
        if len(hashed) != HASH_BYTES:
            raise InvalidArgument(f"expected a hash of {HASH_BYTES} bytes, found {len(hashed)}")
        return hashed
    return whole("height", given)
