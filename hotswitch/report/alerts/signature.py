"""The signature of a message: HMAC-SHA256 over the instant and the body, so that it cannot be forged or replayed later.

Header `Hotswitch-Signature: t=1764230400,v1=<hex>`; what is signed is `t`, a full stop, and the body's bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import re

HEADER = "Hotswitch-Signature"
TOLERANCE_S = 300.0
_FORM = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


def sign(key: bytes, body: bytes, at_unix_s: float) -> str:
    """The header's value."""
    at = int(at_unix_s)
    return f"t={at},v1={_digest(key, at, body)}"


def verify(key: bytes, body: bytes, header: str, now_unix_s: float, tolerance_s: float = TOLERANCE_S) -> bool:
    """Is `body` of the one who holds `key`, and not older (or newer) than `tolerance_s`? For receivers and tests."""
    found = _FORM.fullmatch(header)
    if found is None or abs(now_unix_s - int(found[1])) > tolerance_s:
        return False
    return hmac.compare_digest(found[2], _digest(key, int(found[1]), body))


def _digest(key: bytes, at: int, body: bytes) -> str:
    return hmac.new(key, b"%d." % at + body, hashlib.sha256).hexdigest()
