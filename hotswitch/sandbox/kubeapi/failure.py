"""What the API answers when it says no: a Status object, with the codes and reasons of a real API server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Obj = dict[str, Any]
"""A Kubernetes object as JSON has it."""

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """An answer other than success: `code` is HTTP's, `reason` the API's word for it, `details` as in a Status."""

    def __init__(self, code: int, message: str, reason: str = "", details: Obj | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.reason = reason or _REASONS.get(code, "")
        self.details = {field: value for field, value in (details or {}).items() if value}

    def status(self) -> Obj:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def success(**details: str) -> Obj:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def no_such_path() -> ApiError:
    return ApiError(404, "the server could not find the requested resource")


def conflict(what: str, name: str, why: str) -> ApiError:
    return ApiError(409, f'Operation cannot be fulfilled on {what} "{name}": {why}', details={"name": name})


Cause = tuple[str, str]
"""Path of the field, and what is wrong with it."""


_CAUSES = {
    "Required value": "FieldValueRequired",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
    "Forbidden": "FieldValueForbidden",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
}


def _cause(why: str) -> str:
    return next((reason for start, reason in _CAUSES.items() if why.startswith(start)), "FieldValueInvalid")


def invalid(kind: str, name: str, causes: Iterable[Cause]) -> ApiError:
    """422 with one cause for each field. `kind`: as `Pod` or `HotSwitchPolicy.hotswitch.io`."""
    found = list(causes)
    said = [f"{path}: {why}" for path, why in found]
    text = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    details = {
        "name": name,
        "kind": kind.partition(".")[0],
        "group": kind.partition(".")[2],
        "causes": [{"reason": _cause(why), "message": why, "field": path} for path, why in found],
    }
    return ApiError(422, f'{kind} "{name}" is invalid: {text}', details=details)
