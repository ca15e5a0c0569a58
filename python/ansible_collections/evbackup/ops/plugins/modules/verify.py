#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Prove segments, a datastore or a running node without restoring anything
version_added: 0.1.0
description:
  - Proves a segment, a chain of segments or a datastore, and the blocks in it, to be whole and sound. It reads to the end and collects
    what it finds.
  - Or holds a running node against a backup, block by block at some heights.
  - It only reads and never changes anything. Damage is a failure of the module, with the report in the result.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes.info_module
  - evbackup.ops.known
  - evbackup.ops.transport
options:
  paths:
    description:
      - A segment or several. Together they are checked as a chain.
      - Or one datastore, a store or a Badger directory whose node is stopped. Another folder stands for the newest chain in it.
      - Or the address of a node, V(http://…), V(https://…), or C(host:port) where no file is called so. The options that say how to reach a
        node are for this alone.
    type: list
    elements: path
    required: true
  level:
    description:
      - V(quick) looks at manifest, sizes, frames and checksums.
      - V(full) also at digests, every entry, order and the chain.
    type: str
    choices: [quick, full]
    default: full
  chain:
    description: Check the blocks, too. Where nothing is said, when an ev-node's keys are found.
    type: bool
  signatures:
    description:
      - What is asked of the blocks' signatures. V(optional) is for a based sequencer, whose blocks have none.
      - V(other-payload) is for an app that signs bytes of its own, which cannot be verified.
      - With V(unverified) they must be there and are not verified, which is quicker.
    type: str
    choices: [required, optional, other-payload, unverified]
    default: required
  was_based:
    description: The chain has switched away from a based sequencer, which may have broken the link of headers once.
    type: bool
    default: false
  el_height:
    description: A block of the execution layer, whose values are O(el_timestamp) and O(el_state_root).
    type: int
  el_timestamp:
    description: Its time, in Unix seconds.
    type: int
  el_state_root:
    description: The state root after it, as hex.
    type: str
  against:
    description:
      - For the address of a node, the segments of a chain, or one datastore, whose blocks it must have. Another folder stands for the
        newest chain in it.
      - Where nothing is said, only the node's own blocks are checked.
    type: list
    elements: path
  sample:
    description: For the address of a node, how many heights are compared, spread over what both have, both ends among them.
    type: int
    default: 100
  strict:
    description: Count warnings as errors.
    type: bool
    default: false
  fail_on_findings:
    description: Fail when there are errors. Otherwise the playbook looks at RV(report.ok) itself.
    type: bool
    default: true
seealso:
  - module: evbackup.ops.backup
  - module: evbackup.ops.restore
"""

EXAMPLES = r"""
- name: Prove the newest chain in a folder
  evbackup.ops.verify:
    paths: /srv/backups/first

- name: Look at two segments quickly, and go on whatever is found
  evbackup.ops.verify:
    paths:
      - /srv/backups/first/full.badger
      - /srv/backups/first/inc1.badger
    level: quick
    fail_on_findings: false
  register: looked

- name: Hold a running node against its backups
  evbackup.ops.verify:
    paths: http://127.0.0.1:7331
    against: /srv/backups/first
"""

RETURN = r"""
report:
  description: Everything found. The fields are those of C(evbackup verify --json).
  returned: when it could be looked at
  type: dict
  contains:
    ok:
      description: There are no errors; there may be warnings.
      returned: always
      type: bool
    findings:
      description: Everything found, in the order of the segments, each with level, code, message and where.
      returned: always
      type: list
      elements: dict
    complete_height:
      description: The highest height that is whole.
      returned: always
      type: int
"""

import os

from ansible_collections.evbackup.ops.plugins.module_utils import common


def main():
    """Runs the module."""
    module = common.make_module(
        dict(
            common.transport_argument_spec(),
            **common.known_argument_spec(),
            paths=dict(type="list", elements="path", required=True),
            level=dict(type="str", choices=["quick", "full"], default="full"),
            chain=dict(type="bool"),
            signatures=dict(
                type="str", choices=["required", "optional", "other-payload", "unverified"], default="required"
            ),
            was_based=dict(type="bool", default=False),
            el_height=dict(type="int"),
            el_timestamp=dict(type="int"),
            el_state_root=dict(type="str"),
            against=dict(type="list", elements="path"),
            sample=dict(type="int", default=100),
            strict=dict(type="bool", default=False),
            fail_on_findings=dict(type="bool", default=True),
        )
    )
    params = module.params
    named = ("level", "chain", "signatures", "was_based", "el_height", "el_timestamp", "el_state_root", "sample")
    with common.failures(module):
        paths = common.source(params["paths"])
        options = dict((name, params[name]) for name in named)
        options.update(common.known(params))
        if params["against"] is not None:
            options["against"] = common.source(params["against"])
        # What may be an address is one text; and only there does it matter how to reach a node.
        if len(paths) == 1 and not paths[0].startswith("/") and not os.path.lexists(paths[0]):
            paths = paths[0]
            options.update(common.transport(params))
        report = common.evbackup.verify(paths, **options)
    result = dict(changed=False, report=report.as_dict())
    try:
        report.raise_for_findings(strict=params["strict"])
    except common.evbackup.EvbackupError as error:
        if params["fail_on_findings"]:
            hint = "; %s" % error.hint if error.hint else ""
            module.fail_json(msg="%s%s" % (error, hint), code=error.code, exit_code=error.exit_code, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
