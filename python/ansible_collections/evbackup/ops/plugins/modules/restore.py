#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restore
short_description: Make a datastore from segments or another datastore, whole or not at all
version_added: 0.1.0
description:
  - Makes a datastore from a full segment and the increments that follow it, or from another datastore. It is built beside O(dest), proven while it is read, and
    takes its name only when it is whole and on the disk.
  - What stood at O(dest) is replaced with O(overwrite) alone, and kept beside it.
  - A datastore that already holds the same data is left as it is, so that a second run changes nothing.
  - Check mode writes nothing. Its result, and its diff, is the plan.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes
  - evbackup.ops.known
  - evbackup.ops.reading
options:
  paths:
    description:
      - The full segment and its increments, in any order. Or one datastore, a store or a Badger directory.
      - Another folder stands for the newest chain in it.
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
  was_based:
    description:
      - The chain has switched away from a based sequencer, which may have broken one link of headers. With O(trusted) or O(genesis) only.
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
      - How to tell that the datastore at O(dest) already is what would be made. O(keep_replaced), O(owner) and O(memory_mib) do not count.
      - V(digest) reads both and compares their logical digests; with O(history) those of every entry.
      - Of what is cut, V(digest) compares the chain's name, the tip and the hash of the block there, and plans the cut of both. They are
        the same when as many keys would be written of either, and the cut would change nothing in the datastore. What was cut for an
        V(aggregator) does for a V(follower), too. With O(requeue) nothing tells what was queued again, so they are the same only where
        the cut queues nothing.
      - A chain whose end is torn, or whose deletes are not exact, and a copy of blocks that was cut short, are cut for V(badger) even
        without O(at_height). Where the end is torn and cannot be cut, or O(history) is asked for, V(digest) never finds it the same.
      - V(height) compares the engine, the chain's name, the tip and the hash of the block there. It is quick, and right where nothing else
        writes to O(dest). With O(role), O(drop_queue), O(requeue) or O(force) it is as V(digest), and without blocks never the same.
      - V(never) does not look.
      - With O(trusted) or O(genesis) the blocks of O(paths) are held against them even where nothing has to be made.
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
    genesis: /var/lib/evnode/config/genesis.json
    overwrite: true
    owner: evnode:evnode

- name: Copy a stopped node's database into a store
  evbackup.ops.restore:
    paths: /var/lib/evnode/data/evm-single
    offline: true
    dest: /srv/copies/first
    engine: rocksdb
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
import uuid

from ansible_collections.evbackup.ops.plugins.module_utils import common

CUT = ("role", "drop_queue", "requeue", "force")


def main():
    """Runs the module."""
    module = common.make_module(
        dict(
            common.reading_argument_spec(),
            **common.known_argument_spec(),
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
            was_based=dict(type="bool", default=False),
            compare=dict(type="str", choices=["digest", "height", "never"], default="digest"),
        )
    )
    dest = module.params["dest"]
    with common.failures(module, lambda: place(dest)):
        run(module, module.params, dest)


def place(dest):
    """Which directory stands there; what happens inside it is not ours."""
    found = common.identity(dest)
    return None if found is None else found[:2]


def run(module, params, dest):
    """Restores, or plans to."""
    paths = common.source(params["paths"], params)
    there = datastore(dest)
    if there is not None and params["compare"] != "never" and Comparison(params, paths, there).same():
        module.exit_json(changed=False, datastore=there.as_dict())
    options = dict(making(params), **held_against(params), **common.reading(params))
    for name in ("overwrite", "keep_replaced", "owner"):
        options[name] = params[name]
    options["dry_run"] = module.check_mode
    made = common.evbackup.restore(paths, dest, **options)
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


def held_against(params):
    """What is known of the blocks, and how strictly it is meant."""
    return dict(common.known(params), was_based=params["was_based"])


def making(params):
    """The options that say what is made; those that are not given are left to the library."""
    given = dict((name, params[name]) for name in ("at_height", "memory_mib") + CUT)
    given.update((name, params[name]) for name in ("engine", "history") if params[name])
    return given


def datastore(dest):
    """The datastore that stands there and can be read, or None."""
    if not os.path.isdir(dest):
        return None
    try:
        # Whoever restores has stopped the node; where one runs, its lock says so.
        found = common.evbackup.inspect(dest, count=False, offline=True)
    except common.evbackup.EvbackupError:
        # Whether it may be replaced is for the restore to say.
        return None
    return found if isinstance(found, common.evbackup.DatastoreInfo) else None


class Comparison:
    """Of what would be made and the datastore that is there."""

    def __init__(self, params, paths, there):
        self.params = params
        self.paths = paths
        self.there = there
        self.dest = str(there.path)

    def same(self):
        """Whether the datastore is known to be what would be made."""
        params = self.params
        if params["engine"] not in (None, self.there.engine):
            return False
        plan = None
        known = params["trusted"] is not None or params["genesis"] is not None or params["was_based"]
        if known or (params["history"] and params["at_height"] is not None):
            # A plan holds the blocks against what is known, and fails as the restore does: where they are others, where nothing is known, and
            # where options do not go together.
            plan = self.plan(self.paths, **held_against(params), **common.reading(params))
        try:
            if params["compare"] == "height" and not any(params[name] for name in CUT):
                return self.same_blocks(self.height())
            if plan is None:
                plan = self.plan(self.paths, **common.reading(params))
            if plan.cut_height is not None:
                return self.same_blocks(plan.cut_height) and self.same_cut(plan)
            return self.same_entries(plan)
        except common.evbackup.EvbackupError:
            # The restore itself says what is wrong, where there is anything.
            return False

    def plan(self, paths, **options):
        """What would be made; nothing is made."""
        # Beside it: who only compares replaces nothing.
        beside = "%s.%s" % (self.dest.rstrip("/"), uuid.uuid4().hex)
        engine = self.there.engine
        return common.evbackup.restore(
            paths, beside, dry_run=True, **dict(making(self.params), engine=engine, **options)
        )

    def height(self):
        """The height that the paths lead to, without reading them."""
        if self.params["at_height"] is not None:
            return self.params["at_height"]
        with common.evbackup.open(self.paths, **common.reading(self.params)) as chain:
            return chain.height

    def same_blocks(self, height):
        """Whether both are one chain with one block at a height that is the datastore's tip."""
        if height == 0 or self.there.tip_height != height:
            return False
        return self.block(self.paths, height, **common.reading(self.params)) == self.block(
            [self.dest], height, offline=True
        )

    def block(self, paths, height, **reading):
        """The chain's name and the hash of its block."""
        try:
            with common.evbackup.open(paths, **reading) as chain:
                return chain.chain_id, chain.block(height).hash.hex()
        except common.evbackup.UnsupportedError:
            # Segments that are not sorted: they are read as a whole.
            found = common.evbackup.align(paths, el_height=height, **reading)
            return found.chain_id, found.header_hash

    def same_cut(self, plan):
        """Whether the datastore is what the planned cut leaves: as many keys, and nothing in it to be cut."""
        if self.params["requeue"] and any(change.action == "added" for change in plan.changes):
            return False
        # What nobody asked for is not refused for what is public on DA, either.
        asked = self.params["at_height"] is not None or any(self.params[name] for name in CUT)
        options = dict(at_height=plan.cut_height, requeue=False, offline=True)
        if not asked:
            options["force"] = True
        again = self.plan([self.dest], **options)
        return not again.changes and again.entries == plan.entries

    def same_entries(self, plan):
        """Whether both hold the same entries."""
        history = dict(history=self.params["history"])
        # A directory shows nothing of what is torn above; a store keeps it.
        torn = self.there.engine == "badger" and plan.complete_version < plan.last_version
        at = dict(at=plan.complete_version) if torn else {}
        return common.evbackup.digest(
            self.paths, **at, **history, **common.reading(self.params)
        ) == common.evbackup.digest(self.dest, offline=True, **history)


if __name__ == "__main__":
    main()
