#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: datastore_info
short_description: Say what a datastore is
version_added: 0.1.0
description:
  - Says which engine a datastore has, how high it is and what was applied to it. On request it computes its logical digest.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes.info_module
  - evbackup.ops.reading
options:
  path:
    description: The datastore's directory.
    type: path
    required: true
  count:
    description: Count the keys by family, which reads everything. Not of a running node's directory.
    type: bool
    default: false
  digest:
    description: Also compute the logical digest, which is equal wherever the same data is. It reads everything.
    type: bool
    default: false
  at:
    description: The version that O(digest) looks at. Where nothing is said, everything.
    type: int
  now:
    description: Unix seconds at which O(digest) judges expiry. Where nothing is said, now.
    type: int
  history:
    description: Let O(digest) cover every entry, not only the newest live ones.
    type: bool
    default: false
seealso:
  - module: evbackup.ops.segment_info
"""

EXAMPLES = r"""
- name: Look at a restored datastore
  evbackup.ops.datastore_info:
    path: /srv/drill/first
    digest: true
  register: drilled
"""

RETURN = r"""
datastore:
  description: What it is. The fields are those of C(evbackup inspect --json).
    In C(chain), C(families) is there with O(count=true).
  returned: always
  type: dict
digest:
  description: SHA-256 as hex.
  returned: when O(digest=true)
  type: str
"""

from ansible_collections.evbackup.ops.plugins.module_utils import common


def main():
    """Runs the module."""
    module = common.make_module(
        dict(
            common.reading_argument_spec(),
            path=dict(type="path", required=True),
            count=dict(type="bool", default=False),
            digest=dict(type="bool", default=False),
            at=dict(type="int"),
            now=dict(type="int"),
            history=dict(type="bool", default=False),
        )
    )
    params = module.params
    path = params["path"]
    with common.failures(module):
        found = common.evbackup.inspect(path, count=params["count"], **common.reading(params))
        if not isinstance(found, common.evbackup.DatastoreInfo):
            common.refuse("%s: expected a datastore, found a segment" % path, "use segment_info", path)
        result = dict(datastore=found.as_dict())
        if params["digest"]:
            which = dict((name, params[name]) for name in ("at", "now", "history"))
            result["digest"] = common.evbackup.digest(path, **which, **common.reading(params))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
