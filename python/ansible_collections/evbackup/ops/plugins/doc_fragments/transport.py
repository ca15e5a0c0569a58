# Copyright (c) the evbackup authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  tls:
    description:
      - Speak TLS even where none of the other options says so. An address that begins with V(https://) does so anyway.
    type: bool
    default: false
  tls_ca:
    description: Certificates to trust instead of the host's, PEM.
    type: path
  tls_cert:
    description: Our certificate chain, PEM.
    type: path
  tls_key:
    description: The private key of O(tls_cert), PEM. A file that everybody may read is refused.
    type: path
  tls_server_name:
    description: The name that the server's certificate must carry, if not that of the address.
    type: str
  token:
    description:
      - The bearer token. It shows in no log and no result.
      - Taken from E(EVBACKUP_TOKEN) of the module's environment where nothing else is said.
    type: str
  token_file:
    description:
      - A file on the host that holds the bearer token, where O(token) is not given. A file that everybody may read is refused.
      - Taken from E(EVBACKUP_TOKEN_FILE) of the module's environment where nothing else is said.
    type: path
  headers:
    description: More gRPC metadata to send. It shows in no log and no result.
    type: dict
  insecure:
    description: Send the token over plain text to another machine all the same.
    type: bool
    default: false
  connect_timeout:
    description: Seconds to wait for a connection.
    type: float
    default: 10.0
  idle_timeout:
    description: Seconds to wait for the next message; there is no limit for the whole.
    type: float
    default: 60.0
"""
