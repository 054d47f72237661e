"""aiohttp, loaded without the certificates of all public authorities.

It reads them while it is loaded, twice, for sessions that are given no TLS context: 0.12 s of every start, and 2 MB.
All of ours are given one. Whoever gives none still finds authorities in the system's folder (SSL_CERT_DIR). Where
aiohttp was loaded before, nothing is won and nothing lost.
"""

from __future__ import annotations

import os

_FILE = "SSL_CERT_FILE"  # which OpenSSL reads whole

_said = os.environ.get(_FILE)
os.environ[_FILE] = os.devnull
try:
    import aiohttp as aiohttp
finally:
    if _said is None:
        del os.environ[_FILE]
    else:
        os.environ[_FILE] = _said
