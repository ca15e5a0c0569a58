# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  offline:
    description:
      - The node is stopped. Its database's lock is held meanwhile, and nothing is copied.
      - For the directory of a Badger database, as O(staging) and O(any_file_system) are.
    type: bool
    default: false
  staging:
    description: Where to copy what a running node may take away. Where nothing is said, beside the directory.
    type: path
  any_file_system:
    description: Read a running node's directory even where the file system may not show what the node writes.
    type: bool
    default: false
  max_rate:
    description: Bytes per second at most. Of a Badger directory, what is copied.
    type: int
"""
