"""What `verify` and `inspect` say of the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ._result import Result, count_of, size

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, repr=False)
class Mark(Result):
    """One of ev-node's marks: how far it has come with something.

    Attributes:
        name: What ev-node calls it, such as `"lst-prnd-b"` (blocks pruned) or `"d"` (included on DA).
        height: The height it is at.
    """

    name: str
    height: int

    def _short(self) -> str:
        return f"{self.name} {self.height:,}"


@dataclass(frozen=True, repr=False)
class FamilyCount(Result):
    """Live keys of one family.

    Attributes:
        family: Its name, such as `"headers"`.
        keys: How many keys.
        bytes: Bytes of them and their values.
    """

    family: str
    keys: int
    bytes: int

    def _short(self) -> str:
        return f"{self.family}: {count_of(self.keys, 'key')}, {size(self.bytes)}"


@dataclass(frozen=True, repr=False)
class RuleCount(Result):
    """How often a rule of the chain was broken; a run of blocks counts each of them.

    Attributes:
        code: The code of its findings.
        rule: Its number; 0 for what is no rule of a chain, such as a trusted hash.
        errors: How often as an error.
        warnings: How often as a warning.
        infos: How often it was only worth knowing.
    """

    code: str
    rule: int
    errors: int
    warnings: int
    infos: int

    def _short(self) -> str:
        return f"{self.code}: {count_of(self.errors, 'error')}, {count_of(self.warnings, 'warning')}"


@dataclass(frozen=True, repr=False)
class ChainInfo(Result):
    """What chain of blocks is in a segment or a datastore.

    Attributes:
        chain_id: Its name, or None where no header says it.
        generation: The newest generation of releases that has left a mark, `"A"` to `"F"`, `"v0"`, or None.
        releases: The releases of that generation, or None.
        initial_height: The height of the first block that there ever was, or None.
        base: The first block that is there, or None.
        tip: What `/0/t` says, or None.
        complete_height: The highest block up to which everything is whole, or None.
        marks: ev-node's marks of pruning and of DA.
        families: Live keys and bytes by family, or None where they were not counted.
    """

    chain_id: str | None
    generation: str | None
    releases: str | None
    initial_height: int | None
    base: int | None
    tip: int | None
    complete_height: int | None
    marks: tuple[Mark, ...]
    families: tuple[FamilyCount, ...] | None

    _nested: ClassVar[Mapping[str, type[Result]]] = {"marks": Mark, "families": FamilyCount}

    def _short(self) -> str:
        if self.base is None or self.complete_height is None:
            return f"{self.chain_id or 'without a name'}: no whole block"
        blocks = f"blocks {self.base:,} to {self.complete_height:,} whole"
        return f"{self.chain_id or 'without a name'} ({self.releases or 'of no known release'}): {blocks}"


@dataclass(frozen=True, repr=False)
class ChainReport(ChainInfo):
    """What `verify` found out about the blocks; its first fields are those of `ChainInfo`.

    Attributes:
        blocks: Headers that were checked.
        signatures: Signatures that were verified, those that do not hold included.
        torn: The lowest and the highest block that was still being written when the stream passed, or None.
        rules: The rules that were broken, and how often.
    """

    blocks: int
    signatures: int
    torn: tuple[int, int] | None
    rules: tuple[RuleCount, ...]

    _nested: ClassVar[Mapping[str, type[Result]]] = {**ChainInfo._nested, "rules": RuleCount}

    def _short(self) -> str:
        return f"{super()._short()}, {count_of(self.signatures, 'signature')} verified"
