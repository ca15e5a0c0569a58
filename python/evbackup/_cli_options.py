"""The options that several commands take, and what their values mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from . import _config, _verb
from .errors import InvalidArgument

F = TypeVar("F", bound=Callable[..., Any])


def decorate(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorated(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


as_json = decorate(_verb.metrics_file, _verb.as_json)


quiet = click.option("-q", "--quiet", is_flag=True, help="No progress bar.")


home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="The node's home: takes the RPC address and the database path from its config/evnode.yaml.",
)


database = click.option("--database", metavar="NAME", help="With --home: the database below the node's db_path.")


reading = decorate(
    click.option(
        "--offline", is_flag=True, help="Of a Badger directory: the node is stopped; hold its lock, copy nothing."
    ),
    click.option(
        "--staging", type=click.Path(), help="Of a Badger directory: where to copy what the node may take away."
    ),
    click.option(
        "--any-file-system",
        is_flag=True,
        help="Of a Badger directory: even where the file system may not show what the node writes.",
    ),
)


segments = click.argument("segments", nargs=-1, required=True, type=click.Path())


token_file = click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    envvar="EVBACKUP_TOKEN_FILE",
    help="The bearer token's file; or EVBACKUP_TOKEN_FILE, or the token itself in EVBACKUP_TOKEN. Refused when everybody may read it.",
)


timeouts = decorate(
    click.option(
        "--connect-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=10.0,
        show_default=True,
        help="Seconds.",
    ),
    click.option(
        "--idle-timeout",
        type=click.FloatRange(min=0, min_open=True),
        default=60.0,
        show_default=True,
        help="Seconds without a message.",
    ),
)


def tls(ca_help: str) -> Callable[[F], F]:
    return decorate(
        click.option("--tls-ca", type=click.Path(dir_okay=False), help=ca_help),
        click.option("--tls-cert", type=click.Path(dir_okay=False), help="Our certificate chain, PEM."),
        click.option("--tls-key", type=click.Path(dir_okay=False), help="Its private key, PEM."),
    )


def tls_of(ca: str | None, cert: str | None, key: str | None, server_name: str | None = None) -> Any:
    from ._types import Tls  # noqa: PLC0415  # what a command needs is imported when it runs

    key = None if key is None else _config.secret_file(key)
    return Tls(ca, cert, key, server_name) if ca or cert or key or server_name else None


def token_of(file: str | None) -> str | None:
    """From a file or systemd's credentials, else from the environment; never from the command line, which everybody can read."""
    if file is None:
        file = _credential()
        if file is None:
            return os.environ.get("EVBACKUP_TOKEN") or None
    file = _config.secret_file(file)
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{file}: expected a token in UTF-8, found other bytes", path=file) from error
    except OSError as error:
        raise InvalidArgument(f"{file}: cannot read the token: {error.strerror}", path=file) from error
    if not token:
        raise InvalidArgument(f"{file}: expected a token, found nothing", path=file)
    return token


def _credential() -> str | None:
    """The token that systemd has put there unasked; one that may not be looked at is an error where it is read."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    file = os.path.join(folder, "token")  # noqa: PTH118  # stays a text
    try:
        os.stat(file)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return file
    return file


def datastore_of(path: str | None, home: Path | None, database: str | None, what: str) -> str:
    """A path given as such, or as --home and --database."""
    if home is not None and path is None:
        from ._node import read  # noqa: PLC0415

        return str(read(home).database(database))
    if path is None or home is not None or database is not None:
        raise click.UsageError(f"Give either {what}, or --home with --database.")
    return path


def datastores_of(paths: tuple[str, ...], home: Path | None, database: str | None) -> str | list[str]:
    """Paths given as such, or as --home and --database."""
    if len(paths) > 1 and home is None and database is None:
        return list(paths)
    if len(paths) > 1:
        raise click.UsageError("Give either PATH, or --home with --database.")
    return datastore_of(next(iter(paths), None), home, database, "PATH")


def source_of(addr: str | None, home: Path | None, database: str | None, what: str) -> str:
    """An address or a path given as such, or as --home, and --database."""
    if home is not None and addr is None:
        from ._node import read  # noqa: PLC0415

        node = read(home)
        return node.address() if database is None else str(node.database(database))
    if addr is None or home is not None or database is not None:
        raise click.UsageError(f"Give either {what}, or --home (and --database).")
    return addr


def header_of(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError("Expected --header NAME=VALUE, found something else.")
    if _config.SECRET_HEADER.search(name):
        raise click.UsageError(f"A secret is no argument: expected --token-file, found --header {name}.")
    return name, value


def said(*names: str) -> bool:
    """Whether one of these stands on the command line; what the environment and the configuration say is for whoever wants it."""
    ctx = click.get_current_context()
    return any(ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in names)


def of_node(
    is_node: bool,
    tls: tuple[str | None, str | None, str | None, str | None],
    token_file: str | None,
    headers: tuple[str, ...],
    insecure: bool,
) -> dict[str, Any]:
    """How a node is spoken to. For a path only what stands on the command line: files are looked at only where they are of use."""
    wanted: dict[str, tuple[tuple[str, ...], Callable[[], Any]]] = {
        "tls": (("tls_ca", "tls_cert", "tls_key", "tls_server_name"), lambda: tls_of(*tls)),
        "token": (("token_file",), lambda: token_of(token_file)),
        "headers": (("headers",), lambda: dict(map(header_of, headers))),
        "insecure": (("insecure",), lambda: insecure),
    }
    return {name: value() for name, (names, value) in wanted.items() if is_node or said(*names)}
