#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Take a hot backup of an ev-node's database
version_added: 0.1.0
description:
  - Takes a full backup, or an increment, of a running node, of C(evbackup serve), or of a datastore on the host.
  - The segment appears whole, with its manifest beside it, or not at all.
  - With O(max_age) nothing is done while the newest backup is young enough, so that a second run changes nothing.
  - Check mode asks no node and writes nothing. It says whether a backup would be taken.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes
  - evbackup.ops.reading
  - evbackup.ops.transport
options:
  addr:
    description:
      - C(host:port) (7331, the node's, where there is no port), V(http://…) or V(https://…).
      - Or a datastore on the host, a path that begins with V(/), V(./), V(../) or V(~).
    type: str
    required: true
  path:
    description:
      - The segment to write.
      - Or a folder, one that is there or whose name ends in V(/). It gets a segment named after its chain and the time.
    type: path
    required: true
  since:
    description:
      - What is backed up already. V(auto) is whatever the folder O(path) holds, and a full backup where it holds nothing.
      - Or the path of an earlier segment, or a version (exclusive). V(0) is a full backup.
    type: str
    default: "0"
  max_age:
    description:
      - Do nothing when the newest backup in the folder O(path), or the segment O(path), was begun less than this ago.
      - Seconds, or a length of time such as V(90m), V(6h) or V(1d12h).
    type: str
  via:
    description:
      - How a node is asked. V(rpc) is by the Backup RPC, V(blocks) block by block, by the RPCs that every released node has.
      - V(auto) is V(rpc), and V(blocks) where there is no Backup RPC. A chain goes on in the way that it was begun.
    type: str
    choices: [auto, rpc, blocks]
    default: auto
  raw:
    description: Where blocks are copied, byte for byte, in a way that works in released nodes by accident and is probed first.
    type: bool
    default: false
  on_mismatch:
    description: When the source is not what the increment is based on, fail, or take a full backup instead.
    type: str
    choices: [error, full]
    default: error
  exact:
    description: Compare with all keys of the base, so that every delete is found. Where nothing is said, where it is needed.
    type: bool
  target_height:
    description: Fail before anything is sent if the node's tip is below this height.
    type: int
  overwrite:
    description: Replace the segment that stands at O(path).
    type: bool
    default: false
seealso:
  - module: evbackup.ops.verify
  - module: evbackup.ops.segment_info
"""

EXAMPLES = r"""
- name: Continue whatever the folder holds, at most once in six hours
  evbackup.ops.backup:
    addr: 127.0.0.1:7331
    path: /srv/backups/first/
    since: auto
    on_mismatch: full
    max_age: 6h

- name: Take a full backup over TLS, with a token that is a file on the host
  evbackup.ops.backup:
    addr: https://first.example.org:7331
    path: /srv/backups/first/before-upgrade.badger
    tls_ca: /etc/evbackup/ca.pem
    token_file: /etc/evbackup/first.token

- name: Take a long backup without holding the connection
  evbackup.ops.backup:
    addr: 127.0.0.1:7331
    path: /srv/backups/first/
    since: auto
  async: 86400
  poll: 30
"""

RETURN = r"""
backup:
  description: What was taken, or nothing when none was. The fields are those of C(evbackup backup --json).
  returned: when a backup was taken
  type: dict
  sample:
    path: /srv/backups/first/evm-20261122T031700Z-inc.badger
    kind: inc
    bytes: 654321
    entries: 5336
    next_since: 15999
    complete_height: 2000
segment:
  description: The newest segment at O(path) now, as M(evbackup.ops.segment_info) has it.
  returned: when there is one
  type: dict
"""

import os

from ansible_collections.evbackup.ops.plugins.module_utils import common


def main():
    """Runs the module."""
    module = common.make_module(
        dict(
            common.transport_argument_spec(),
            **common.reading_argument_spec(),
            addr=dict(type="str", required=True),
            path=dict(type="path", required=True),
            since=dict(type="str", default="0"),
            max_age=dict(type="str"),
            via=dict(type="str", choices=["auto", "rpc", "blocks"], default="auto"),
            raw=dict(type="bool", default=False),
            on_mismatch=dict(type="str", choices=["error", "full"], default="error"),
            exact=dict(type="bool"),
            target_height=dict(type="int"),
            overwrite=dict(type="bool", default=False),
        )
    )
    params = module.params
    path = params["path"]
    with common.failures(module, lambda: common.contents(path)):
        run(module, params, path)


def run(module, params, path):
    """Takes a backup if one is due."""
    there = common.newest(common.segments_in(path, lenient=True)) if os.path.exists(path) else None
    if params["max_age"] is not None and there is not None:
        limit = common.seconds(params["max_age"], "max_age")
        if common.age(there) <= limit and not any(finding.level == "error" for finding in there.findings):
            module.exit_json(changed=False, segment=there.as_dict())
    since = params["since"]
    result = dict(changed=True)
    if module.check_mode:
        predict(params, path)
        if there is not None:
            result["segment"] = there.as_dict()
        module.exit_json(**diffed(module, result, there, "a new segment at %s" % path))
    made = common.evbackup.backup(
        params["addr"],
        path,
        int(since) if since.isdecimal() else since,
        via=params["via"],
        raw=params["raw"],
        on_mismatch=params["on_mismatch"],
        exact=params["exact"],
        target_height=params["target_height"],
        overwrite=params["overwrite"],
        **common.reading(params),
        **common.transport(params),
    )
    result["backup"] = made.as_dict()
    result["segment"] = common.evbackup.inspect(made.path).as_dict()
    module.exit_json(**diffed(module, result, there, "%s: %s" % (made.path, made.kind)))


def predict(params, path):
    """What can be known to fail without asking anybody."""
    common.transport(params)
    if not os.path.isdir(path) and os.path.exists(path) and not params["overwrite"]:
        raise common.evbackup.ExistsError(
            "%s: expected nothing, found a file" % path, hint="choose another path, or set overwrite", path=path
        )
    folder = os.path.dirname(path.rstrip("/")) or "."
    if not os.path.isdir(folder):
        raise common.evbackup.MissingError("%s: expected a folder, found none" % folder, path=folder)


def diffed(module, result, before, after):
    """The result, with a diff where one is asked for."""
    if module._diff:
        was = "" if before is None else "%s: %s\n" % (before.path, before.kind)
        result["diff"] = dict(
            before_header="newest backup", after_header="newest backup", before=was, after=after + "\n"
        )
    return result


if __name__ == "__main__":
    main()
