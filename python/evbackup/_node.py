"""A node's home: the RPC address and the database path that its `config/evnode.yaml` names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import DeniedError, InvalidArgument, IoError, MissingError

# `key: value`, at most one level deep: all that the two keys need. A real YAML reader would be a dependency for them.
LINE = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w.-]*)\s*:(?:\s+(?P<value>.*))?$")
PLAIN = re.compile(
    r"""^(?:"(?P<double>[^"\\]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'\[{&*!|>%@`#][^#]*?))\s*(?:\s#.*)?$"""
)


@dataclass(frozen=True)
class Node:
    """What a node's configuration says; None where it says nothing.

    Attributes:
        home: The node's home.
        config: The file that was read.
        rpc_address: `rpc.address`.
        db_path: `db_path`, made absolute.
    """

    home: Path
    config: Path
    rpc_address: str | None
    db_path: Path | None

    def address(self) -> str:
        """The RPC address, or an error that says what to give instead."""
        if self.rpc_address is None:
            raise InvalidArgument(
                f"{self.config}: expected rpc.address, found none", hint="give the address", path=self.config
            )
        return self.rpc_address

    def database(self, name: str | None) -> Path:
        """The path of the database `name`; a name is never guessed."""
        if self.db_path is None:
            raise InvalidArgument(
                f"{self.config}: expected db_path, found none", hint="give the path", path=self.config
            )
        if name is None:
            try:
                there = sorted(entry.name for entry in self.db_path.iterdir() if entry.is_dir())
            except OSError:
                # It is only to help: what may not be listed is not named.
                there = []
            hint = f"there are: {', '.join(there)}" if there else "there is none yet"
            raise InvalidArgument(f"expected --database NAME with --home, as {self.db_path} holds several", hint=hint)
        if name != Path(name).name or name in {".", ".."}:
            raise InvalidArgument(f"expected the name of a database, found {name!r}")
        return self.db_path / name


def read(home: Path) -> Node:
    """Reads the configuration of the node that lives in `home`."""
    config = home / "config" / "evnode.yaml"
    try:
        text = config.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        hint = "give the node's home, such as ~/.evm, or the address and paths themselves"
        raise MissingError(f"{config}: expected a node's configuration, found none", hint=hint, path=config) from None
    except PermissionError as error:
        raise DeniedError(f"{config}: cannot read it: {error.strerror}", path=config) from error
    except OSError as error:
        raise IoError(f"{config}: cannot read it: {error.strerror}", path=config, errno=error.errno) from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{config}: expected UTF-8, found other bytes", path=config, offset=error.start
        ) from error
    address, db_path = _find(text, config, "rpc.address"), _find(text, config, "db_path")
    # Viper joins a relative db_path to the home; an absolute one stands.
    return Node(home, config, address, None if db_path is None else (home / db_path).absolute())


def _find(text: str, config: Path, wanted: str) -> str | None:
    """The value of a key such as `rpc.address`, nested or flat."""
    section, inner = "", None
    for number, line in enumerate(text.splitlines(), 1):
        found = LINE.match(line)
        if found is None:
            continue
        indent, key, value = len(found["indent"]), found["key"], (found["value"] or "").strip()
        if indent == 0:
            section, inner = key, None
            name = key
        else:
            # Deeper than the section's own keys is another key's business.
            inner = indent if inner is None else inner
            name = f"{section}.{key}" if indent == inner else ""
        if name == wanted:
            return _plain(value, config, number, wanted)
        if name and wanted.startswith(f"{name}.") and value and not value.startswith("#"):
            raise InvalidArgument(
                f"{config}: expected {name} over several lines, found {value!r} in line {number}", path=config
            )
    return None


def _plain(value: str, config: Path, number: int, name: str) -> str | None:
    if not value or value.startswith("#") or value in {"''", '""', "null", "~"}:
        return None
    found = PLAIN.match(value)
    if found is None:
        raise InvalidArgument(
            f"{config}: expected a plain text for {name}, found {value!r} in line {number}", path=config
        )
    return next(text for text in found.groups() if text is not None).strip()
