# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
requirements:
  - evbackup >= 0.1.0, the Python package, under the interpreter that runs the module
attributes:
  check_mode:
    description: Can run in C(check_mode) and says what it would change, without changing it.
    support: full
  diff_mode:
    description: Returns what has changed, or what check mode would change.
    support: full
  async:
    description: Supports being run with C(async) and C(poll). A long run is best given C(async), so that no connection has to stay open.
    support: full
  platform:
    description: The operating systems that it can run on.
    platforms: linux
    support: full
"""

    INFO_MODULE = r"""
options: {}
requirements:
  - evbackup >= 0.1.0, the Python package, under the interpreter that runs the module
attributes:
  check_mode:
    description: Can run in C(check_mode). It only reads and never changes anything.
    support: full
  diff_mode:
    description: Returns what has changed. It never changes anything.
    support: N/A
  async:
    description: Supports being run with C(async) and C(poll).
    support: full
  platform:
    description: The operating systems that it can run on.
    platforms: linux
    support: full
"""
