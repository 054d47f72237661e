"""The L4 part of AuthorizationPolicy as the rescue enforces it (I2). The model is the mesh's, so that the preflight
asks the same code whether the rescue could keep a policy."""

from __future__ import annotations

from hotswitch.mesh.authorization import (
    CONDITION_KEYS,
    DRY_RUN,
    Action,
    AuthorizationPolicy,
    Condition,
    Operation,
    Rule,
    Source,
    UnsupportedAuthorization,
    parse_policy,
)

__all__ = [
    "CONDITION_KEYS",
    "DRY_RUN",
    "Action",
    "AuthorizationPolicy",
    "Condition",
    "Operation",
    "Rule",
    "Source",
    "UnsupportedAuthorization",
    "parse_policy",
]
