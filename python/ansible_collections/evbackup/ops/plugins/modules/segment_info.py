#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: segment_info
short_description: Say what a segment is, or what a folder of them holds
version_added: 0.1.0
description:
  - Reads the manifests of segments, and says which of them a restore of the newest needs.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes.info_module
options:
  path:
    description: A segment, or a folder of segments.
    type: path
    required: true
seealso:
  - module: evbackup.ops.datastore_info
"""

EXAMPLES = r"""
- name: Look at the backups of a node
  evbackup.ops.segment_info:
    path: /srv/backups/first
  register: backups

- name: Say how high the newest is
  ansible.builtin.debug:
    msg: "{{ backups.newest.complete_height }}"
"""

RETURN = r"""
segments:
  description: Each segment. The fields are those of C(evbackup inspect --json).
  returned: always
  type: list
  elements: dict
newest:
  description: The segment that was begun last, and when that was.
  returned: when there is one with a manifest
  type: dict
age:
  description: Seconds since the newest was begun.
  returned: when there is one with a manifest
  type: float
chain:
  description: The paths that a restore of the newest needs, oldest first. Empty when one of them is missing.
  returned: always
  type: list
  elements: str
"""

from ansible_collections.evbackup.ops.plugins.module_utils import common


def main():
    """Runs the module."""
    module = common.make_module(dict(path=dict(type="path", required=True)))
    with common.failures(module):
        segments = common.segments_in(module.params["path"])
        newest = common.newest(segments)
        result = dict(
            segments=[segment.as_dict() for segment in segments],
            chain=[str(segment.path) for segment in common.chain(segments)],
        )
        if newest is not None:
            result.update(newest=newest.as_dict(), age=common.age(newest))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
