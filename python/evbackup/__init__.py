"""Hot backups, proof and restore of an ev-node's BadgerDB.

Example:
    >>> import evbackup
    >>> full = evbackup.backup("node:7331", "full.badger")  # doctest: +SKIP
    >>> evbackup.verify(full).raise_for_findings()  # doctest: +SKIP
    >>> evbackup.restore(full, "/var/lib/evnode/data/evm-single")  # doctest: +SKIP

Every verb but `open` and `serve` has an `…_async` twin; what these two return works in `async with`. Failures are the classes of `evbackup.errors`; logs go to `logging.getLogger("evbackup")`.
"""

from ._align import align, align_async
from ._backup import backup, backup_async
from ._blocks import Block, Blocks, Data, Header, State
from ._chain import ChainInfo, ChainReport, FamilyCount, Mark, RuleCount
from ._evbackup import __version__
from ._progress import Progress
from ._restore import apply, apply_async, restore, restore_async
from ._results import (
    Alignment,
    Applied,
    AppliedSegment,
    Asked,
    Backup,
    Change,
    DatastoreInfo,
    Finding,
    Report,
    Restored,
    Result,
    Segment,
    VerifiedSegment,
)
from ._serve import Server, serve
from ._store import Datastore, Entry, open  # noqa: A004  # read as evbackup.open
from ._table import Table
from ._types import Tls
from ._verify import digest, digest_async, inspect, inspect_async, verify, verify_async
from .errors import (
    DamagedError,
    DeniedError,
    EvbackupError,
    ExistsError,
    IncompleteError,
    InvalidArgument,
    IoError,
    LockedError,
    MismatchError,
    MissingError,
    NoSpaceError,
    UnavailableError,
    UnsupportedError,
)

__all__ = [
    "Alignment",
    "Applied",
    "AppliedSegment",
    "Asked",
    "Backup",
    "Block",
    "Blocks",
    "ChainInfo",
    "ChainReport",
    "Change",
    "DamagedError",
    "Data",
    "Datastore",
    "DatastoreInfo",
    "DeniedError",
    "Entry",
    "EvbackupError",
    "ExistsError",
    "FamilyCount",
    "Finding",
    "Header",
    "IncompleteError",
    "InvalidArgument",
    "IoError",
    "LockedError",
    "Mark",
    "MismatchError",
    "MissingError",
    "NoSpaceError",
    "Progress",
    "Report",
    "Restored",
    "Result",
    "RuleCount",
    "Segment",
    "Server",
    "State",
    "Table",
    "Tls",
    "UnavailableError",
    "UnsupportedError",
    "VerifiedSegment",
    "__version__",
    "align",
    "align_async",
    "apply",
    "apply_async",
    "backup",
    "backup_async",
    "digest",
    "digest_async",
    "inspect",
    "inspect_async",
    "open",
    "restore",
    "restore_async",
    "serve",
    "verify",
    "verify_async",
]
