#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: Prove segments without restoring them
version_added: 0.1.0
description:
  - Proves a segment, or a chain of segments, to be whole and sound. It reads to the end and collects what it finds.
  - It only reads and never changes anything. Damage is a failure of the module, with the report in the result.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes.info_module
options:
  paths:
    description:
      - A segment or several. Together they are checked as a chain.
      - A folder stands for the newest chain in it.
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
  trusted:
    description: The hash that the block at a height must have.
    type: dict
    suboptions:
      height:
        description: The height.
        type: int
        required: true
      hash:
        description: The hash, as hex.
        type: str
        required: true
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
"""

RETURN = r"""
report:
  description: Everything found. The fields are those of C(evbackup verify --json).
  returned: when the segments could be looked at
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

from ansible_collections.evbackup.ops.plugins.module_utils import common


def main():
    """Runs the module."""
    module = common.make_module(
        dict(
            paths=dict(type="list", elements="path", required=True),
            level=dict(type="str", choices=["quick", "full"], default="full"),
            chain=dict(type="bool"),
            trusted=dict(
                type="dict",
                options=dict(height=dict(type="int", required=True), hash=dict(type="str", required=True)),
            ),
            strict=dict(type="bool", default=False),
            fail_on_findings=dict(type="bool", default=True),
        )
    )
    params = module.params
    trusted = params["trusted"]
    with common.failures(module):
        report = common.evbackup.verify(
            common.chain_of(params["paths"]),
            level=params["level"],
            chain=params["chain"],
            trusted=None if trusted is None else (trusted["height"], trusted["hash"]),
        )
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
