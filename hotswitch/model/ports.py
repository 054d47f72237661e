"""Istio's ports and ours, and what else tells whose a connection is: users, marks, networks. Istio's are its sidecar's
bootstrap's and istio-iptables' defaults."""

from __future__ import annotations

Port = int

ENVOY_OUTBOUND: Port = 15001
ENVOY_INBOUND: Port = 15006
TUNNEL: Port = 15008
ADMIN: Port = 15000
AGENT_STATUS: Port = 15020
HEALTH: Port = 15021
STATS: Port = 15090
PROXY_PORTS: frozenset[Port] = frozenset({ADMIN, ENVOY_OUTBOUND, ENVOY_INBOUND, HEALTH, STATS})
"""Where Envoy itself listens."""
# Where the rescue Envoy listens inside a pod's namespace
RESCUE_OUTBOUND: Port = 15101
RESCUE_INBOUND: Port = 15106
RESCUE_UID = 15107
"""The rescue Envoy's own user: the outbound gate lets its connections out while it leads everyone else's to it."""
STAND_IN: Port = 15120
"""Where the app's rewritten probes are answered while pilot-agent, to whom they go, is away."""
STAND_IN_UID = 15120
"""As whom the stand-in asks the app: nobody whom Istio's rules know, so the way is straight."""
DRILL_MARK, TRIAL_MARK = 0x68730001, 0x68730002
"""On the requests of a drill, made inside the namespace: the first lets one go as the inbound gate says, as though it
came from outside; the second to the rescue whatever the gate says. A mark needs NET_ADMIN, which no app has."""

NEVER_OPENED: frozenset[Port] = frozenset(
    {TUNNEL, AGENT_STATUS, HEALTH, STATS, RESCUE_OUTBOUND, RESCUE_INBOUND, STAND_IN}
)
"""Inbound ports the gate never touches: HBONE, probes, metrics, and our own doors (S4.3a)."""

MESH_ONLY_NETWORKS: tuple[str, ...] = ("240.240.0.0/16", "2001:2::/48")
"""Addresses that exist only inside the mesh (auto-allocated ServiceEntries): opened, a refusal would become a hang."""
