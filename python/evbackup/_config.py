"""The configuration: one TOML file for a node, and the environment, as defaults of the command line's options.

A key at the top is for every verb that has that option, a key in a verb's table for that verb. What is given nearer wins: the command
line, `EVBACKUP_<VERB>_<KEY>`, `EVBACKUP_<KEY>`, the verb's table, the top. A key that no verb knows, a value that is none of its
option and a secret are refused with their line.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from .errors import EvbackupError, InvalidArgument, MissingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Defaults: TypeAlias = dict[str, Any]

# Where a secret is meant but only the name of its file may stand.
SECRET_FILES = ("token_file", "tls_key")
# What people write where a secret must not be.
SECRET = re.compile(
    r"(^|_)(token|password|passwd|passphrase|secret|secrets|credential|credentials|api_?key|private_?key)$"
)
# Metadata that carries one, by its name.
SECRET_HEADER = re.compile(r"auth|token|secret|passw|cookie|credential|api-?key", re.IGNORECASE)
CREDENTIAL = "credential:"
LARGEST = 1 << 20


def key_of(param: click.Parameter) -> str:
    """What an option is called in the file: its long flag, an argument its name."""
    if isinstance(param, click.Option):
        flag = next((name for name in param.opts if name.startswith("--")), param.opts[0])
        return flag.lstrip("-").replace("-", "_")
    return str(param.name)


def keys_of(command: click.Command) -> dict[str, click.Parameter]:
    """The keys of a verb's table."""
    return {key_of(param): param for param in command.params}


def environment(group: click.Group) -> None:
    """Gives each option its variables: that of the verb, click's own where it differs, and that of all verbs."""
    for verb, command in group.commands.items():
        for key, param in keys_of(command).items():
            prefix = f"EVBACKUP_{verb.upper()}_"
            own = [f"{prefix}{key.upper()}", f"{prefix}{str(param.name).upper()}", f"EVBACKUP_{key.upper()}"]
            param.envvar = list(dict.fromkeys(own))


class Lines:
    """Where in the text a key stands; a file that is odd enough to hide it gives no line."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._at: dict[tuple[str, str], int] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                table = header[1].strip("\"'")
                self._at.setdefault((table, ""), number)
            elif key := re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line):
                self._at.setdefault((table, key[1]), number)

    def refused(self, table: str, key: str, text: str, hint: str | None = None) -> InvalidArgument:
        """The error for a key; it never shows the value."""
        number = self._at.get((table, key)) or self._at.get(("", f"{table}.{key}"))
        where = f"{self.path}:{number}" if number is not None else str(self.path)
        return InvalidArgument(f"{where}: {text}", hint=hint, path=self.path)


def load(path: Path, group: click.Group) -> tuple[Defaults, dict[str, Defaults]]:
    """Reads and checks a file.

    Args:
        path: The file.
        group: Whose options the keys are.

    Returns:
        The defaults of the group's own options, and those of each verb.

    Raises:
        MissingError: There is no file.
        InvalidArgument: It is no TOML, or a key may not stand there or has no such value.
    """
    text = _text(path)
    content = _parse(path, text)
    lines = Lines(path, text)
    verbs = {name: keys_of(command) for name, command in group.commands.items()}
    own = {key: param for key, param in keys_of(group).items() if key not in {"config", "version"}}
    of_group: Defaults = {}
    of_verbs: dict[str, Defaults] = {verb: {} for verb in verbs}

    for key, value in content.items():
        if isinstance(value, dict):
            continue
        takers = [(of_verbs[verb], keys[key]) for verb, keys in verbs.items() if key in keys]
        takers += [(of_group, own[key])] if key in own else []
        if not takers:
            raise _unknown(lines, "", key, {*own, *(name for keys in verbs.values() for name in keys)})
        for defaults, param in takers:
            defaults[str(param.name)] = _checked(lines, "", key, value, param)
    # After the top, so that what stands in a verb's own table wins.
    for verb, table in content.items():
        if isinstance(table, dict):
            if verb not in verbs:
                raise _unknown(lines, verb, "", set(verbs))
            near = _table(lines, verb, table, verbs[verb])
            of_verbs[verb] = {**_besides(of_verbs[verb], near, verbs[verb].values()), **near}
    return of_group, of_verbs


def _besides(far: Defaults, near: Defaults, params: Iterable[click.Parameter]) -> Defaults:
    """What is said for all verbs, without a place that a verb's own table says in the other way."""
    one, other = _ways({str(param.name) for param in params})
    gone = {
        name
        for said, unsaid in ((one, other), (other, one))
        if near.keys() & set(said) and not near.keys() & set(unsaid)
        for name in unsaid
    }
    return {name: value for name, value in far.items() if name not in gone}


def _table(lines: Lines, verb: str, table: dict[str, Any], keys: dict[str, click.Parameter]) -> Defaults:
    defaults: Defaults = {}
    for key, value in table.items():
        if key not in keys:
            raise _unknown(lines, verb, key, set(keys))
        defaults[str(keys[key].name)] = _checked(lines, verb, key, value, keys[key])
    return defaults


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise MissingError(f"{path}: expected a configuration, found nothing", path=path) from error
    except OSError as error:
        raise InvalidArgument(f"{path}: cannot read the configuration: {error.strerror}", path=path) from error
    if len(content) > LARGEST:
        raise InvalidArgument(f"{path}: expected a configuration of at most {LARGEST} bytes, found more", path=path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path}: expected UTF-8, found other bytes", path=path, offset=error.start) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415  # few runs have a configuration
    else:
        import tomli as tomllib  # noqa: PLC0415

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+)", str(error))
        where = f"{path}:{place[1]}" if place else str(path)
        # Not its own words: they may quote what stands there.
        raise InvalidArgument(f"{where}: expected TOML, found something else", path=path) from None


def _unknown(lines: Lines, table: str, key: str, known: set[str]) -> InvalidArgument:
    import difflib  # noqa: PLC0415

    said = key or table
    if SECRET.search(said.lower()):
        return lines.refused(
            table,
            key,
            f"expected no secret here, found {said}",
            "a secret stands in a file of its own: name it with token_file or tls_key, and change the one that stood here",
        )
    near = difflib.get_close_matches(said, sorted(known), 1)
    what = f"a key of [{table}]" if table and key else "a key or the table of a verb"
    return lines.refused(
        table,
        key,
        f"expected {what}, found {said}",
        f"did you mean {near[0]}?" if near else "there are: " + ", ".join(sorted(known)),
    )


def _checked(lines: Lines, table: str, key: str, value: Any, param: click.Parameter) -> Any:
    """The value as click takes it for a default."""
    several = param.nargs == -1 or param.multiple
    if several and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise lines.refused(table, key, f"expected a list of texts for {key}, found another value")
    flag = isinstance(param, click.Option) and param.is_flag and not param.count
    # What numbers and texts may stand for each other in is the option's own business; a truth is only a truth.
    if not several and (flag != isinstance(value, bool) or not isinstance(value, (str, int, float, bool))):
        expected = "true or false" if flag else "a text or a number"
        raise lines.refused(table, key, f"expected {expected} for {key}, found another value")
    for text in value if several else [value]:
        if isinstance(text, str):
            _no_secret(lines, table, key, text)
    if key in SECRET_FILES and isinstance(value, str):
        try:
            # A credential is there in its unit alone, and is looked for where it is used.
            return _credential(value) if value.startswith(CREDENTIAL) else secret_file(value)
        except EvbackupError as error:
            raise lines.refused(table, key, str(error), error.hint) from error
    if not several and not flag:
        try:
            param.type.convert(value, param, None)
        except click.BadParameter as error:
            raise lines.refused(table, key, f"{key}: {error.message}") from None
    return value


def _no_secret(lines: Lines, table: str, key: str, text: str) -> None:
    if key == "header" and SECRET_HEADER.search(text.partition("=")[0]):
        raise lines.refused(table, key, "expected no secret in a header, found one", "use token_file")
    if re.match(r"https?://[^/]*@", text):
        raise lines.refused(
            table, key, f"expected an address without credentials for {key}, found some", "use token_file"
        )


def secret_file(name: str) -> str:
    """The path of a file that holds a secret, which nobody else on the machine may read.

    Args:
        name: The path, or `credential:NAME`, which systemd has put into the unit's folder of credentials.

    Raises:
        InvalidArgument: It is not there, or everybody may read it.
    """
    if _credential(name).startswith(CREDENTIAL):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise _no_credential(name)
        name = f"{folder}/{name.removeprefix(CREDENTIAL)}"
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116
    except OSError as error:
        raise InvalidArgument(f"{name}: cannot read the secret: {error.strerror}", path=name) from error
    if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        raise InvalidArgument(
            f"{name}: expected a file that only its owner and group may read, found mode {stat.S_IMODE(mode):04o}",
            hint=f"chmod o= {name}",
            path=name,
        )
    return name


def _credential(name: str) -> str:
    """The name as it stands, if it may be that of a file or of a credential."""
    if name.startswith(CREDENTIAL) and ("/" in name or name == CREDENTIAL):
        raise _no_credential(name)
    return name


def _no_credential(name: str) -> InvalidArgument:
    text = f"expected a credential of a systemd unit, found {name}"
    return InvalidArgument(text, hint="the unit names it with LoadCredential=")


# Either one of the first or what is in the second says where.
PLACES = (("addr", "path", "paths", "dest"), ("home", "database"))


def _ways(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The two ways for a verb with these parameters: where it writes, a node's home says where to, and segments are what is read."""
    return PLACES if "dest" in names else ((*PLACES[0], "segments"), PLACES[1])


def settle(ctx: click.Context) -> None:
    """Where a place is said twice in two ways, what was said nearer counts: the command line, the environment, the file."""
    order = (
        click.core.ParameterSource.COMMANDLINE,
        click.core.ParameterSource.ENVIRONMENT,
        click.core.ParameterSource.DEFAULT_MAP,
    )

    def rank(names: tuple[str, ...]) -> int:
        sources = (ctx.get_parameter_source(name) for name in names if ctx.params.get(name) not in {None, ()})
        return min((order.index(source) for source in sources if source in order), default=len(order))

    ways = _ways(ctx.params)
    path, home = map(rank, ways)
    # --home and --database belong together: one of them may come from the file.
    if path == home or len(order) in {path, home}:
        return
    for name in ways[path < home]:
        if name in ctx.params:
            ctx.params[name] = () if isinstance(ctx.params[name], tuple) else None
