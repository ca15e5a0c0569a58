# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  trusted:
    description: The hash that the block at a height must have. The links lead down to it.
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
  genesis:
    description: The chain's C(genesis.json), which the blocks must fit.
    type: path
"""
