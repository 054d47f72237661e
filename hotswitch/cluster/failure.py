"""How the API server says no, or nothing."""

from __future__ import annotations

import msgspec


class ConnectError(RuntimeError):
    """It is not known which API server to ask, or as whom."""


class ApiFailure(RuntimeError):
    """`status`: the HTTP status; 0 when no answer came, and then a write may or may not have been done. `reason`: the
    API server's own word ("NotFound", "Conflict"), "Timeout" or "ConnectionLost". `retry_after_s`: as it asked."""

    def __init__(
        self, status: int, reason: str, message: str, *, request: str = "", retry_after_s: float | None = None
    ) -> None:
        what = f"{status} {reason}" if status else reason
        super().__init__(": ".join(part for part in (request, what, message) if part))
        self.status, self.reason, self.message, self.retry_after_s = status, reason, message, retry_after_s

    @property
    def is_lost(self) -> bool:
        """Nothing is known of what became of it."""
        return self.status == 0

    @property
    def is_missing(self) -> bool:
        return self.status == 404

    @property
    def is_taken(self) -> bool:
        """To be created, but there already."""
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def is_conflict(self) -> bool:
        """Not the object, or not the version of it, that was meant. A wrong uid in a patch is a 422 (seen of 1.34)."""
        other_uid = self.status == 422 and "metadata.uid" in self.message
        return other_uid or (self.status == 409 and self.reason != "AlreadyExists")

    @property
    def is_expired(self) -> bool:
        """The resourceVersion or the page is too old: list again."""
        return self.status == 410

    @property
    def may_pass(self) -> bool:
        """The moment's fault: the same request may succeed a little later."""
        return self.is_lost or self.status == 429 or self.status >= 500

    @property
    def is_refused(self) -> bool:
        return self.status in (401, 403)


class _Status(msgspec.Struct):
    """The part of a meta/v1 Status that counts."""

    message: str = ""
    reason: str = ""
    code: int = 0


_decode = msgspec.json.Decoder(_Status).decode
_SHOWN = 300


def from_answer(status: int, phrase: str, body: bytes, *, request: str, retry_after: str | None) -> ApiFailure:
    """Of an HTTP answer that is not a success, whether the API server or something before it gave it."""
    wait_s = float(retry_after) if retry_after and retry_after.isdecimal() else None
    reason, message = phrase.replace(" ", ""), body[:_SHOWN].decode("utf-8", "replace").strip()
    try:
        said = _decode(body)
        reason, message = said.reason or reason, said.message or message
    except (msgspec.DecodeError, msgspec.ValidationError):
        pass  # a proxy's page, or nothing: shown as it is
    return ApiFailure(status, reason, message, request=request, retry_after_s=wait_s)


def from_status(raw: bytes) -> ApiFailure:
    """Of the Status object that ends a watch."""
    try:
        said = _decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ApiFailure(500, "Unreadable", raw[:_SHOWN].decode("utf-8", "replace"), request="watch")
    return ApiFailure(said.code or 500, said.reason or "Unknown", said.message, request="watch")
