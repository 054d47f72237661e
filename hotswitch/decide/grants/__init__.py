"""How one budget is spent by many agents, none of which can ask first (I1, I3). Pure."""

from hotswitch.decide.grants.lease import Allotment, Lease, Refused
from hotswitch.decide.grants.ledger import Holder, Ledger
from hotswitch.decide.grants.scopes import MESH, Scope, namespace_scope, scopes_of, use, workload_scope
from hotswitch.decide.grants.shares import Party, shares

__all__ = [
    "MESH",
    "Allotment",
    "Holder",
    "Lease",
    "Ledger",
    "Party",
    "Refused",
    "Scope",
    "namespace_scope",
    "scopes_of",
    "shares",
    "use",
    "workload_scope",
]
