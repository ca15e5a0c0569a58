"""`evbackup backup`, `restore` and `apply`: what writes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from . import _cli_options, _cli_show, _params, _verb
from ._types import local

if TYPE_CHECKING:
    from pathlib import Path


@click.command(cls=_verb.Verb)
@click.argument("addr", required=False)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(allow_dash=True),
    help="The segment; a folder; or - for standard output.",
)
@click.option("--manifest", type=click.Path(dir_okay=False), help="With --output -: where the manifest goes.")
@click.option(
    "--since",
    type=_params.Since(),
    default=0,
    help="What is backed up already: a version, a segment, or auto (whatever the folder holds).",
)
@click.option(
    "--via",
    type=click.Choice(["auto", "rpc", "blocks"]),
    default="auto",
    show_default=True,
    help="By the Backup RPC, or block by block by the RPCs that every node has; auto: the second where there is no first.",
)
@click.option("--raw", is_flag=True, help="Where blocks are copied: byte for byte, in a way that works by accident.")
@click.option(
    "--on-mismatch",
    type=click.Choice(["error", "full"]),
    default="error",
    help="When the source is not what --since is based on.",
)
@click.option("--exact/--no-exact", default=None, help="Compare with all keys of the base.")
@click.option(
    "--target-height", type=click.IntRange(min=0), help="Fail at once if the node's tip is below this height."
)
@click.option("--overwrite", is_flag=True, help="Replace the segment that is there.")
@_cli_options.home
@_cli_options.database
@_cli_options.tls("Certificates to trust instead of the machine's, PEM.")
@click.option("--tls-server-name", help="The name that the server's certificate must carry.")
@_cli_options.token_file
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="More gRPC metadata.")
@click.option("--insecure", is_flag=True, help="Send the token over plain text all the same.")
@click.option("--max-rate", type=_params.Rate(), help="At most this fast: 10M, 1G.")
@_cli_options.timeouts
@_cli_options.reading
@_cli_options.quiet
@_cli_options.as_json
def backup(
    addr: str | None,
    output: str,
    manifest: str | None,
    since: int | str,
    via: str,
    raw: bool,
    on_mismatch: str,
    exact: bool | None,
    target_height: int | None,
    overwrite: bool,
    home: Path | None,
    database: str | None,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_server_name: str | None,
    token_file: str | None,
    headers: tuple[str, ...],
    insecure: bool,
    max_rate: int | None,
    connect_timeout: float,
    idle_timeout: float,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Take a hot backup.

    ADDR is a node's RPC address (host:port, http://…, https://…) or the directory of a datastore (/…, ./…, ~…). With --home it
    is the node's own RPC; with --home and --database it is that database's directory.
    """
    from . import _backup  # noqa: PLC0415

    options: dict[str, Any] = {
        "since": since,
        "via": via,
        "raw": raw,
        "on_mismatch": on_mismatch,
        "exact": exact,
        "target_height": target_height,
        "overwrite": overwrite,
        "max_rate": max_rate,
        "connect_timeout_s": connect_timeout,
        "idle_timeout_s": idle_timeout,
    }
    source = _cli_options.source_of(addr, home, database, "ADDR")
    is_node = local(source) is None
    options |= _cli_options.of_node(
        is_node, (tls_ca, tls_cert, tls_key, tls_server_name), token_file, headers, insecure
    )
    of_paths: dict[str, Any] = {"offline": offline, "staging": staging, "any_file_system": any_file_system}
    options |= {name: value for name, value in of_paths.items() if not is_node or _cli_options.said(name)}
    if output == "-":
        if sys.stdout.isatty():
            raise click.UsageError("A segment is no text: send standard output into a file or a pipe.")
        _cli_show.show(_backup.stream(source, manifest, options, not quiet), as_json=as_json, err=True)
        return
    if manifest is not None:
        raise click.UsageError("--manifest goes with --output -; else it stands beside the segment.")
    _cli_show.show(_backup.backup(source, output, progress=not quiet, **options), as_json=as_json)


@click.command(cls=_verb.Verb)
@_cli_options.segments
@click.option("--to", "dest", type=click.Path(), help="The datastore's directory.")
@click.option(
    "--engine",
    type=click.Choice(["badger", "rocksdb"]),
    default="badger",
    show_default=True,
    help="What to make: a node's directory, or a store.",
)
@click.option("--history", is_flag=True, help="Every version of every key, not the newest alone.")
@click.option("--at-height", type=click.IntRange(min=0), help="Cut the chain at this height.")
@click.option("--role", type=click.Choice(["follower", "aggregator"]), help="What will start on what is cut.")
@click.option("--drop-queue", is_flag=True, help="Leave the sequencer's queue out of what is cut.")
@click.option("--requeue", is_flag=True, help="Queue the transactions of the blocks above the cut again.")
@click.option("--force", is_flag=True, help="Cut below what is public on DA even for an aggregator.")
@click.option("--trusted", type=_params.Trusted(), help="The hash that the block at a height must have.")
@click.option("--genesis", type=click.Path(dir_okay=False), help="The chain's genesis.json, which the blocks must fit.")
@click.option("--was-based", is_flag=True, help="The chain has switched away from a based sequencer.")
@click.option("--overwrite", is_flag=True, help="Replace the datastore that is there.")
@click.option("--discard-replaced", is_flag=True, help="Remove what was replaced instead of keeping it beside.")
@click.option("--owner", metavar="USER[:GROUP]", help="Whose the new files are.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--memory-mib", type=click.IntRange(min=16), default=256, show_default=True, help="Memory to use at most."
)
@_cli_options.home
@_cli_options.database
@_cli_options.reading
@click.option("--max-rate", type=_params.Rate(), help="Copy at most this fast: 10M, 1G.")
@_cli_options.quiet
@_cli_options.as_json
def restore(
    segments: tuple[str, ...],
    dest: str | None,
    engine: Any,
    history: bool,
    at_height: int | None,
    role: Any,
    drop_queue: bool,
    requeue: bool,
    force: bool,
    trusted: tuple[int, str] | None,
    genesis: str | None,
    was_based: bool,
    overwrite: bool,
    discard_replaced: bool,
    owner: str | None,
    dry_run: bool,
    memory_mib: int,
    home: Path | None,
    database: str | None,
    offline: bool,
    staging: str | None,
    any_file_system: bool,
    max_rate: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make a datastore from a full segment and its increments, or from another one; whole or not at all."""
    from . import _restore  # noqa: PLC0415

    restored = _restore.restore(
        segments,
        _cli_options.datastore_of(dest, home, database, "--to"),
        engine=engine,
        history=history,
        at_height=at_height,
        role=role,
        drop_queue=drop_queue,
        requeue=requeue,
        force=force,
        trusted=trusted,
        genesis=genesis,
        was_based=was_based,
        overwrite=overwrite,
        keep_replaced=not discard_replaced,
        owner=owner,
        dry_run=dry_run,
        memory_mib=memory_mib,
        offline=offline,
        staging=staging,
        any_file_system=any_file_system,
        max_rate=max_rate,
        progress=not quiet,
    )
    _cli_show.show(restored, as_json=as_json)


@click.command(cls=_verb.Verb)
@_cli_options.segments
@click.option("--to", "store", required=True, type=click.Path(), help="The store's directory.")
@_cli_options.quiet
@_cli_options.as_json
def apply(segments: tuple[str, ...], store: str, quiet: bool, as_json: bool) -> None:
    """Add increments to a store, all of them or none."""
    from . import _restore  # noqa: PLC0415

    _cli_show.show(_restore.apply(segments, store, progress=not quiet), as_json=as_json)
