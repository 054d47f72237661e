"""An order, said as a list of labels that a caller and a backend have in common or not (S2.5 to S2.7). Pure.

Istio writes one configuration for all callers and ranks backends for each by how many labels of a list, from its
beginning, they share (`failoverPriority`). That can say orders that go outward, one enclosing the next, and no others;
shares, capacities and one's own pod have no words there. A caller's own pod is asked like its host.
"""

from __future__ import annotations

from hotswitch.decide.endpoints.place import Distance, Order

HEARD = "endpoints.hotswitch.io/heard=yes"  # of a cluster that is heard of; for every caller alike
HOME = "endpoints.hotswitch.io/home=yes"  # of the cluster whose mesh this is
ZONE = "topology.kubernetes.io/zone"
HOST = "kubernetes.io/hostname"

_STEPS = (
    (HEARD, Distance.OTHER, Distance.STALE),
    (HOME, Distance.CLUSTER, Distance.OTHER),
    (ZONE, Distance.ZONE, Distance.CLUSTER),
    (HOST, Distance.HOST, Distance.ZONE),
)
"""A label that parts the nearer from the farther."""


def labels(order: Order) -> tuple[str, ...]:
    """From the one that counts most. Raises ValueError when the order cannot be said so."""
    turns = order.turns()
    left_out = next((each for each in Distance if each not in turns), None)
    if left_out is not None:
        raise ValueError(f"leaves out {left_out}, and Istio's failoverPriority leaves out nobody")
    outward = [turns[each] for each in Distance]
    if outward != sorted(outward):
        raise ValueError("does not go from near to far, and Istio's failoverPriority does nothing else")
    return tuple(label for label, nearer, farther in _STEPS if turns[nearer] < turns[farther])
