"""The lease on serving: when has one that was told it is active surely stopped? (I7, S0.6)

Who is told that it is active is told for how long (`ttl_s`), and counts from before it asked. Who told it counts from
when the question came, which was later. Both clocks may run apart by DRIFT; nobody's wall clock is compared with
anybody's. A leader that has just begun does not know what its predecessor told: it counts as if everyone had been told
in the moment it began, for the predecessor's own lease had run out by then.
"""

from __future__ import annotations

DRIFT = 0.05  # how much faster or slower one clock may run than another
MARGIN_S = 0.25  # for the kernel's timers and a loop that is late
STANDS_S = 2.0  # a standby's question stands so long while nothing changes
CONNECT_S = 1.0  # and an answer is waited for so much longer
PAUSE_S = 0.1  # a keeper that was not answered waits before it asks the next controller
_SHARE = 0.2


def renewal_s(ttl_s: float) -> float:
    """How long the active one's question stands: a permit is renewed more than once before it ends."""
    return min(STANDS_S, max(0.1, ttl_s * _SHARE))


def over_s(told_s: float, ttl_s: float) -> float:
    """From when on one that was told at `told_s` has surely stopped, by the teller's clock."""
    return told_s + ttl_s * (1 + DRIFT) + MARGIN_S
