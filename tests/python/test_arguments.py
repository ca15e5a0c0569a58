"""Numbers that cannot be meant: each is refused with the name that the caller knows, and nothing is touched."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evbackup

# What may be given, by verb: the call, and its numbers with the least that each may be.
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], dict[str, int]]] = {
    "backup": (
        evbackup.backup,
        ("./none", "x"),
        {},
        {"since": 0, "target_height": 0, "max_rate": 1},
    ),
    "verify": (
        evbackup.verify,
        ("none",),
        {"el_height": 1},
        {"el_height": 0, "el_timestamp": 0},
    ),
    "verify a node": (evbackup.verify, ("http://127.0.0.1:1",), {}, {"sample": 0}),
    "restore": (evbackup.restore, ("none", "x"), {}, {"at_height": 0, "memory_mib": 1, "max_rate": 1}),
    "align": (
        evbackup.align,
        ("none",),
        {"el_height": 1},
        {"el_height": 0, "el_timestamp": 0, "max_rate": 1},
    ),
    "inspect": (evbackup.inspect, ("none",), {}, {"max_rate": 1}),
    "digest": (evbackup.digest, ("none",), {}, {"at": 0, "now": 0, "max_rate": 1}),
    "open": (evbackup.open, ("none",), {}, {"max_rate": 1}),
    "serve": (evbackup.serve, ("none",), {}, {"max_rate": 1, "max_backups": 1}),
}
NUMBERS = [(verb, name) for verb, (_, _, _, numbers) in CALLS.items() for name in numbers]


@pytest.mark.parametrize(("verb", "name"), NUMBERS)
@pytest.mark.parametrize("given", [-1, 1.5, True, [7], 1 << 64])
def test_a_number_that_cannot_be_meant_is_refused_by_its_name(verb: str, name: str, given: object) -> None:
    call, args, needed, numbers = CALLS[verb]
    bound = "below 2^64" if given == 1 << 64 else f"of at least {numbers[name]}"
    text = re.escape(f"expected a whole number {bound} for {name}, found {given!r}")
    # A version is the only number that may also be something else.
    text = text if name != "since" or (isinstance(given, int) and not isinstance(given, bool)) else "expected a version"
    with pytest.raises(evbackup.InvalidArgument, match=f"^{text}"):
        call(*args, **{**needed, name: given})


@pytest.mark.parametrize("verb", ["verify", "verify a node", "restore"])
@pytest.mark.parametrize("given", [7, (7,), "7:ab", (7, 8), (-7, "ab"), ("7", "ab")])
def test_what_is_no_trusted_block_is_refused(verb: str, given: object) -> None:
    call, args, _, _ = CALLS[verb]
    with pytest.raises(evbackup.InvalidArgument, match=r"^expected a .* for trusted"):
        call(*args, trusted=given)


@pytest.mark.parametrize("given", [-1, 1.5, "7"])
def test_a_version_that_cannot_be_meant_is_refused(sample: Path, given: Any) -> None:
    with evbackup.open(sample) as opened:
        for call in (opened.get, lambda key, *, version: next(opened.prefix(key, version=version))):
            with pytest.raises(evbackup.InvalidArgument, match="^expected a whole number of at least 0 for version"):
                call("/0/t", version=given)
        with pytest.raises(evbackup.InvalidArgument, match="^expected a whole number of at least 0 for height"):
            opened.state(given)
        with pytest.raises(evbackup.InvalidArgument, match="^expected a whole number of at least 0 for start"):
            opened.blocks(given)


def test_a_whole_number_of_another_type_will_do(sample: Path) -> None:
    class Seven:
        def __index__(self) -> int:
            return 7

    with evbackup.open(sample) as opened:
        assert opened.state(Seven()).height == 7  # type: ignore[arg-type]
