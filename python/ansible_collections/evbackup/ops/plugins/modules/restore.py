#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Make a datastore from segments, whole or not at all
version_added: 0.1.0
description:
  - Makes a datastore from a full segment and the increments that follow it. It is built beside O(dest), proven while it is read, and
    takes its name only when it is whole and on the disk.
  - What stood at O(dest) is replaced with O(overwrite) alone, and kept beside it.
  - A datastore that already holds the same data is left as it is, so that a second run changes nothing.
  - Check mode writes nothing. Its result, and its diff, is the plan.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes
options:
  paths:
    description:
      - The full segment and its increments, in any order.
      - A folder stands for the newest chain in it.
    type: list
    elements: path
    required: true
  dest:
    description: The datastore's directory, such as V(/var/lib/evnode/data/evm-single). Stop the node before.
    type: path
    required: true
  engine:
    description:
      - What to make. V(badger) is what a node opens, V(rocksdb) evbackup's own store.
      - Where nothing is said, what the installed evbackup makes by default.
    type: str
    choices: [badger, rocksdb]
  history:
    description: Write every version of every key, not only the newest live ones. For V(badger); a store always keeps all.
    type: bool
    default: false
  at_height:
    description: Cut the chain at this height, as if the node had stopped there. M(evbackup.ops.align) says which height fits.
    type: int
  role:
    description:
      - What will start on what is cut.
      - V(aggregator) gets what it submitted to DA and cannot know to be included submitted again, and is refused below what is public
        on DA.
    type: str
    choices: [follower, aggregator]
  drop_queue:
    description: Leave the sequencer's queue out of what is cut.
    type: bool
    default: false
  requeue:
    description: Put the transactions of the blocks above the cut into the sequencer's queue, before what is there.
    type: bool
    default: false
  force:
    description: Cut below what is public on DA even for an aggregator.
    type: bool
    default: false
  overwrite:
    description: Replace a datastore that stands at O(dest) and that nobody holds open.
    type: bool
    default: false
  keep_replaced:
    description: Keep what stood there beside it; the result names it.
    type: bool
    default: true
  owner:
    description: C(user) or C(user:group) of the new files. Where nothing is said, as what is replaced, else as the parent directory.
    type: str
  memory_mib:
    description: Memory to use at most, in MiB.
    type: int
    default: 256
  compare:
    description:
      - How to tell that the datastore at O(dest) already holds the data.
      - V(digest) reads both and compares their logical digests. With O(at_height) it is as V(height).
      - V(height) compares the tip of the datastore with the height that the segments, or O(at_height), lead to. It is quick, and right
        where nothing else writes to O(dest).
      - V(never) does not look.
    type: str
    choices: [digest, height, never]
    default: digest
seealso:
  - module: evbackup.ops.align
  - module: evbackup.ops.verify
  - module: evbackup.ops.datastore_info
"""

EXAMPLES = r"""
- name: Drill a restore beside the node
  evbackup.ops.restore:
    paths: /srv/backups/first
    dest: /srv/drill/first
    engine: rocksdb

- name: Give a stopped node its data back
  evbackup.ops.restore:
    paths:
      - /srv/backups/first/full.badger
      - /srv/backups/first/inc1.badger
    dest: /var/lib/evnode/data/evm-single
    overwrite: true
    owner: evnode:evnode
"""

RETURN = r"""
restored:
  description: What was made, or in check mode the plan. The fields are those of C(evbackup restore --json).
  returned: when something was made or planned
  type: dict
  contains:
    dry_run:
      description: It is a plan.
      returned: always
      type: bool
    segments:
      description: The segments it is made from, in order.
      returned: always
      type: list
      elements: str
    replaced:
      description: Where the datastore that stood there is now.
      returned: always
      type: str
    complete_height:
      description: The highest height that is whole.
      returned: always
      type: int
datastore:
  description: What stands at O(dest) and is left as it is, as M(evbackup.ops.datastore_info) has it.
  returned: when the data was there already
  type: dict
"""

import json
import os

from ansible_collections.evbackup.ops.plugins.module_utils import common


def main():
    """Runs the module."""
    module = common.make_module(
        dict(
            paths=dict(type="list", elements="path", required=True),
            dest=dict(type="path", required=True),
            engine=dict(type="str", choices=["badger", "rocksdb"]),
            history=dict(type="bool", default=False),
            at_height=dict(type="int"),
            role=dict(type="str", choices=["follower", "aggregator"]),
            drop_queue=dict(type="bool", default=False),
            requeue=dict(type="bool", default=False),
            force=dict(type="bool", default=False),
            overwrite=dict(type="bool", default=False),
            keep_replaced=dict(type="bool", default=True),
            owner=dict(type="str"),
            memory_mib=dict(type="int", default=256),
            compare=dict(type="str", choices=["digest", "height", "never"], default="digest"),
        )
    )
    dest = module.params["dest"]
    before = place(dest)
    with common.failures(module, lambda: place(dest) != before):
        run(module, module.params, dest)


def place(dest):
    """Which directory stands there; what happens inside it is not ours."""
    found = common.identity(dest)
    return None if found is None else found[:2]


def run(module, params, dest):
    """Restores, or plans to."""
    paths = common.chain_of(params["paths"])
    there = datastore(dest)
    if there is not None and params["compare"] != "never" and same(params, paths, there):
        module.exit_json(changed=False, datastore=there.as_dict())
    named = ("at_height", "role", "drop_queue", "requeue", "force", "overwrite", "keep_replaced", "owner", "memory_mib")
    options = dict((name, params[name]) for name in named)
    if params["engine"] is not None:
        options["engine"] = params["engine"]
    if params["history"]:
        options["history"] = True
    made = common.evbackup.restore(paths, dest, dry_run=module.check_mode, **options)
    result = dict(changed=True, restored=made.as_dict())
    if module._diff:
        plan = made.as_dict()
        # What differs from run to run is no part of the plan.
        for name in ("elapsed_s", "dry_run", "store_id"):
            plan.pop(name, None)
        result["diff"] = dict(
            before_header=dest,
            after_header=dest,
            before="" if there is None else json.dumps(there.as_dict(), indent=2, sort_keys=True) + "\n",
            after=json.dumps(plan, indent=2, sort_keys=True) + "\n",
        )
    module.exit_json(**result)


def datastore(dest):
    """The datastore that stands there and can be read, or None."""
    if not os.path.isdir(dest):
        return None
    try:
        # Whoever restores has stopped the node; where one runs, its lock says so.
        found = common.evbackup.inspect(dest, offline=True)
    except common.evbackup.EvbackupError:
        # Whether it may be replaced is for the restore to say.
        return None
    return found if isinstance(found, common.evbackup.DatastoreInfo) else None


def same(params, paths, there):
    """Whether the datastore holds what the segments would make."""
    if params["engine"] not in (None, there.engine):
        return False
    if params["at_height"] is not None:
        return there.tip_height == params["at_height"]
    if params["compare"] == "height":
        return there.tip_height == max(common.evbackup.inspect(path).complete_height for path in paths)
    try:
        return common.evbackup.digest(paths) == common.evbackup.digest(there.path, offline=True)
    except common.evbackup.LockedError:
        return False


if __name__ == "__main__":
    main()
