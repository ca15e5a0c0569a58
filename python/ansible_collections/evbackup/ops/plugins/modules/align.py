#!/usr/bin/python
# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: align
short_description: Say at which height a restore fits a copy of the execution layer
version_added: 0.1.0
description:
  - Says at which height to cut segments, or a datastore, so that what is restored fits a copy of the execution layer.
  - What the copy says of its last block is held against the block of the same height, its time in seconds and the state root after it.
    Without these only the height is compared.
  - It only reads and never changes anything. Where the two do not belong together the module fails.
author:
  - The evbackup authors (@evbackup)
extends_documentation_fragment:
  - evbackup.ops.attributes.info_module
  - evbackup.ops.reading
options:
  paths:
    description:
      - The full segment and its increments, in any order. Or one datastore.
      - Another folder stands for the newest chain in it.
    type: list
    elements: path
    required: true
  el_height:
    description: The last block of the execution layer's copy.
    type: int
    required: true
  el_timestamp:
    description: Its time, in Unix seconds.
    type: int
  el_state_root:
    description: The state root after it, as hex.
    type: str
seealso:
  - module: evbackup.ops.restore
"""

EXAMPLES = r"""
- name: See where the backups fit the copy of the execution layer
  evbackup.ops.align:
    paths: /srv/backups/first
    el_height: "{{ el_copy.height }}"
    el_timestamp: "{{ el_copy.timestamp }}"
    el_state_root: "{{ el_copy.state_root }}"
  register: fit

- name: Restore just there
  evbackup.ops.restore:
    paths: /srv/backups/first
    dest: /var/lib/evnode/data/evm-single
    at_height: "{{ fit.alignment.at_height }}"
    role: follower
"""

RETURN = r"""
alignment:
  description: Where to cut. The fields are those of C(evbackup align --json).
  returned: always
  type: dict
  contains:
    at_height:
      description: The height to cut at, as O(evbackup.ops.restore#module:at_height) takes it.
      returned: always
      type: int
    compared:
      description: What the execution layer said and the block has.
      returned: always
      type: list
      elements: str
    segments:
      description: The segments that are needed, in order; or the datastore.
      returned: always
      type: list
      elements: str
    chain_id:
      description: The chain's name.
      returned: always
      type: str
"""

from ansible_collections.evbackup.ops.plugins.module_utils import common


def main():
    """Runs the module."""
    module = common.make_module(
        dict(
            paths=dict(type="list", elements="path", required=True),
            el_height=dict(type="int", required=True),
            el_timestamp=dict(type="int"),
            el_state_root=dict(type="str"),
            **common.reading_argument_spec(),
        )
    )
    params = module.params
    with common.failures(module):
        found = common.evbackup.align(
            common.source(params["paths"], params),
            el_height=params["el_height"],
            el_timestamp=params["el_timestamp"],
            el_state_root=params["el_state_root"],
            **common.reading(params),
        )
    module.exit_json(changed=False, alignment=found.as_dict())


if __name__ == "__main__":
    main()
