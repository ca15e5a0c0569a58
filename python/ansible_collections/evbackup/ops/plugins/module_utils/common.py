# Copyright (c) the evbackup authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause
"""What the modules share: the library, options, failures, and which segments belong together."""

from __future__ import annotations

import os
import re
import stat
import time
import traceback
from contextlib import contextmanager
from datetime import datetime

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

try:
    import evbackup
except ImportError:
    evbackup = None
    IMPORT_ERROR = traceback.format_exc()
else:
    IMPORT_ERROR = None

REQUIRED = (0, 1, 0)
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def transport_argument_spec():
    """How to reach a source over the network."""
    return dict(
        tls=dict(type="bool", default=False),
        tls_ca=dict(type="path"),
        tls_cert=dict(type="path"),
        tls_key=dict(type="path", no_log=False),
        tls_server_name=dict(type="str"),
        token=dict(type="str", no_log=True, fallback=(env_fallback, ["EVBACKUP_TOKEN"])),
        token_file=dict(type="path", no_log=False, fallback=(env_fallback, ["EVBACKUP_TOKEN_FILE"])),
        headers=dict(type="dict", no_log=True),
        insecure=dict(type="bool", default=False),
        connect_timeout=dict(type="float", default=10.0),
        idle_timeout=dict(type="float", default=60.0),
    )


def reading_argument_spec():
    """How to read the directory of a Badger database."""
    return dict(
        offline=dict(type="bool", default=False),
        staging=dict(type="path"),
        any_file_system=dict(type="bool", default=False),
        max_rate=dict(type="int"),
    )


def known_argument_spec():
    """What is known of the blocks."""
    return dict(
        trusted=dict(
            type="dict",
            options=dict(height=dict(type="int", required=True), hash=dict(type="str", required=True)),
        ),
        genesis=dict(type="path"),
    )


def known(params):
    """The options of `known_argument_spec` as the library takes them."""
    trusted = params["trusted"]
    return dict(
        trusted=None if trusted is None else (trusted["height"], trusted["hash"]),
        genesis=params["genesis"],
    )


def reading(params):
    """The options of `reading_argument_spec` as the library takes them."""
    return dict((name, params[name]) for name in reading_argument_spec())


def make_module(argument_spec, **more):
    """The module, once the library is there and new enough."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True, **more)
    if evbackup is None:
        module.fail_json(
            msg=missing_required_lib("evbackup", reason="on the host that runs this module"), exception=IMPORT_ERROR
        )
    found = tuple(int(number) for number in re.findall(r"\d+", evbackup.__version__)[:3])
    if found < REQUIRED:
        module.fail_json(
            msg="expected evbackup %s or newer, found %s; update the Python package evbackup on this host"
            % (".".join(map(str, REQUIRED)), evbackup.__version__)
        )
    return module


@contextmanager
def failures(module, look=lambda: None):
    """Turns what goes wrong into a failure of the module; `look` sees, before and after, what `changed` is about."""
    before = []
    try:
        before.append(look())
        yield
    except evbackup.EvbackupError as error:
        hint = "; %s" % error.hint if error.hint else ""
        told = {name: value for name, value in error.as_dict().items() if name != "message"}
        changed = differs(before, look)
        module.fail_json(msg="%s%s" % (error, hint), changed=changed, exit_code=error.exit_code, **told)
    except (OSError, ValueError, TypeError, OverflowError) as error:
        module.fail_json(msg="%s" % error, changed=differs(before, look))


def differs(before, look):
    """Whether what is there is another than before; where it can no longer be looked at, it is."""
    if not before:
        return False
    try:
        return look() != before[0]
    except OSError:
        return True


def refuse(text, hint=None, path=None):
    """A failure of our own, told as the library tells its own."""
    raise evbackup.InvalidArgument(text, hint=hint, path=path)


def transport(params):
    """The options of `transport_argument_spec` as the library takes them."""
    tls = None
    files = (params["tls_ca"], params["tls_cert"], params["tls_key"], params["tls_server_name"])
    if params["tls"] or any(files):
        if params["tls_key"]:
            private(params["tls_key"])
        tls = evbackup.Tls(*files)
    return dict(
        tls=tls,
        token=token(params),
        headers=dict((name, str(value)) for name, value in (params["headers"] or {}).items()),
        insecure=params["insecure"],
        connect_timeout_s=params["connect_timeout"],
        idle_timeout_s=params["idle_timeout"],
    )


def token(params):
    """The token itself, or what its file holds."""
    if params["token"] or not params["token_file"]:
        return params["token"] or None
    path = params["token_file"]
    private(path)
    with open(path, "rb") as file:
        content = file.read()
    try:
        found = content.decode().strip()
    except UnicodeDecodeError:
        refuse("%s: expected a token in UTF-8, found other bytes" % path, path=path)
    if not found:
        refuse("%s: expected a token, found nothing" % path, path=path)
    return found


def private(path):
    """Refuses the file of a secret that everybody on the host may read."""
    mode = os.stat(path).st_mode
    if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        refuse(
            "%s: expected a file that only its owner and group may read, found mode %04o" % (path, stat.S_IMODE(mode)),
            hint="give it mode 0600",
            path=path,
        )


def seconds(text, name):
    """`6h`, `1h30m` or `90` as seconds."""
    if text.isdecimal():
        return int(text)
    parts = re.findall(r"(\d+)([smhdw])", text)
    if not parts or "".join(map("".join, parts)) != text:
        refuse("expected a length of time such as 90m, 6h or 1d12h for %s, found %s" % (name, text))
    return sum(int(number) * SECONDS[unit] for number, unit in parts)


def segments_in(path, lenient=False):
    """What `inspect` says of each segment in a folder, or of the one segment; `lenient` leaves out what is none."""
    found = [path]
    if os.path.isdir(path):
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_file())
        found = [os.path.join(path, name) for name in names if name.endswith(".badger") or "%s.json" % name in names]
    segments = []
    for each in found:
        try:
            segments.append(evbackup.inspect(each))
        except evbackup.DamagedError:
            if not lenient:
                raise
    return segments


def began(segment):
    """When the backup was begun, as Unix seconds; nothing without a manifest."""
    if segment.started_at is None:
        return None
    # Python 3.10 knows neither the Z nor nine digits.
    text = re.sub(r"\.(\d+)", lambda digits: ".%s" % digits[1][:6].ljust(6, "0"), segment.started_at)
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def newest(segments):
    """The segment that was begun last, or None; those without a manifest do not count."""
    dated = [segment for segment in segments if began(segment) is not None]
    return max(dated, key=lambda segment: (began(segment), segment.complete_version or 0), default=None)


def age(segment):
    """Seconds since the backup was begun."""
    return time.time() - began(segment)


def chain(segments):
    """The segments that a restore of the newest needs, oldest first; empty when one of them is missing."""
    last = newest(segments)
    found = [] if last is None else [last]
    while found and found[0].kind != "full":
        before = [segment for segment in segments if segment not in found and precedes(segment, found[0])]
        if not before:
            return []
        found.insert(0, max(before, key=lambda segment: (segment.complete_version or 0, began(segment) or 0.0)))
    return found


def precedes(before, after):
    """Whether one segment is what the other follows."""
    if after.parent is not None:
        return before.sha256 == after.parent and after.parent_run_id in (None, before.run_id)
    return before.complete_version is not None and before.complete_version >= after.since_version


def source(paths, params=None):
    """The paths as the library takes them: a folder that is no datastore stands for the newest chain in it."""
    if len(paths) == 1 and os.path.isdir(paths[0]) and is_datastore(paths[0], params or {}):
        return paths
    found = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(path)
            continue
        inside = chain(segments_in(path))
        if not inside:
            raise evbackup.MissingError(
                "%s: expected a datastore, or a full segment and all increments up to the newest, found neither" % path,
                hint="look at what segment_info says of the folder",
                path=path,
            )
        found.extend(str(segment.path) for segment in inside)
    return found


def is_datastore(path, params):
    """Whether a folder is a datastore; one that cannot be read is one, too, so that its reader says why."""
    how = dict((name, params[name]) for name in ("offline", "staging", "any_file_system") if name in params)
    try:
        evbackup.inspect(path, count=False, **how)
    except evbackup.InvalidArgument:
        return False
    except evbackup.EvbackupError:
        return True
    return True


def identity(path):
    """What tells a file or a folder from one that takes its place, or None where there is nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns)


def contents(path):
    """The segments and manifests that stand at a path or in a folder; what is still being written does not count."""
    if not os.path.isdir(path):
        return {path: identity(path), "%s.json" % path: identity("%s.json" % path)}
    return {entry.name: identity(entry.path) for entry in os.scandir(path) if ".part" not in entry.name}
