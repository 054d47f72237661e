"""Every code that a decision or a refusal can carry, with one sentence each (I8). Codes are stable: numbers are never
reused, so that people may search for them and docs and alert rules may name them. The reference page is made from here.

    HSD00x  the gate was opened or changed      HSD02x  nothing was done, and why
    HSD01x  capture came back                   HSD03x  a person is needed
    HSD06x  what the proxy depends on is not well
    HSD04x  why one level could not be used (in the evidence of other decisions)
    HSD07x  what became of a drill
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Code(StrEnum):
    OPENED = "HSD001"
    CHANGED = "HSD002"
    RENEWED = "HSD003"
    CUT = "HSD004"
    OPENED_BY_ORDER = "HSD005"

    RESTORED = "HSD010"
    CLOSED_APP_SICK = "HSD011"
    CLOSED_NO_LEVEL = "HSD012"
    CLOSED_TOO_LONG = "HSD013"
    CLOSED_BY_MODE = "HSD014"
    CLOSED_BY_ORDER = "HSD015"
    EXPIRED = "HSD016"

    WOULD_OPEN = "HSD020"
    HELD = "HSD021"
    THROTTLED = "HSD022"
    DRAINED = "HSD023"
    TERMINATING = "HSD024"
    UNREADY = "HSD025"
    APP_SICK = "HSD026"
    ORDER_REFUSED = "HSD027"
    LEFT_TO_EXPIRE = "HSD028"
    NOT_SECONDED = "HSD029"

    FAULT_AGAIN = "HSD030"
    WORKLOAD_FAULTS = "HSD031"
    MASS_FAILURE = "HSD032"
    OPEN_TOO_LONG = "HSD033"
    RESCUE_DIED_TWICE = "HSD034"

    GATE_REFUSES = "HSD040"
    NO_RESCUE = "HSD041"
    RESCUE_DIES = "HSD042"
    NO_IDENTITY = "HSD043"
    IDENTITY_EXPIRED = "HSD044"
    STRICT_MTLS = "HSD045"
    INDUCED = "HSD046"
    NOT_LISTED = "HSD047"
    NOT_FOR_THIS_FAULT = "HSD048"
    NOT_SURE_ENOUGH = "HSD049"
    NODE_BUDGET = "HSD050"
    WORKLOAD_BUDGET = "HSD051"
    FROZEN = "HSD052"
    NOT_NOW = "HSD053"
    NAMESPACE_BUDGET = "HSD054"
    GRANT_ENDED = "HSD055"
    PORTS_REFUSED = "HSD059"

    CONTROL_PLANE_LOST = "HSD060"
    CONFIGURATION_REJECTED = "HSD061"
    CERTIFICATE_MISSING = "HSD062"
    CERTIFICATE_ENDS = "HSD063"
    CERTIFICATE_EXPIRED = "HSD064"
    NO_CONFIGURATION = "HSD065"

    DRILL_PASSED = "HSD070"
    DRILL_FAILED = "HSD071"
    DRILL_INTERRUPTED = "HSD072"
    DRILL_REFUSED = "HSD073"


MEANING: Mapping[Code, str] = {
    Code.OPENED: "A confirmed fault of the proxy: the gate was opened for new flows.",
    Code.CHANGED: "The levels of an open gate were changed: one was lost, or a better one became possible.",
    Code.RENEWED: "The fault lasts, so the opening's kernel expiry was set anew.",
    Code.CUT: "Flows stuck in a proxy that no longer serves them were ended, so that their clients connect again.",
    Code.OPENED_BY_ORDER: "The gate was opened because a person ordered it, until the order ends.",
    Code.RESTORED: "The proxy is well again and passes requests end to end: capture was restored.",
    Code.CLOSED_APP_SICK: "The app itself is sick: a bypass helps nobody, so capture was restored.",
    Code.CLOSED_NO_LEVEL: "No level may be used any longer, so capture was restored although the fault lasts.",
    Code.CLOSED_TOO_LONG: "The gate had been open as long as the policy allows, so capture was restored.",
    Code.CLOSED_BY_MODE: "The mode no longer allows acting on this pod, so capture was restored.",
    Code.CLOSED_BY_ORDER: "A person's order ended, or ordered capture, so capture was restored.",
    Code.EXPIRED: "The opening was not renewed and ran out: the kernel restored capture by itself.",
    Code.WOULD_OPEN: "Mode observe: this is what would have been done.",
    Code.HELD: "A confirmed fault, but no level may be used: capture was left alone.",
    Code.THROTTLED: "The proxy is slow because its CPU or memory is short, not because it is broken: nothing was done.",
    Code.DRAINED: "An operator drained the proxy on purpose: nothing was done.",
    Code.TERMINATING: "The pod is terminating: nothing was done.",
    Code.UNREADY: "The proxy says that it is not ready, but nothing shows that it harms requests: nothing was done.",
    Code.APP_SICK: "The app itself is the sick one: nothing was done.",
    Code.ORDER_REFUSED: "A person's order could not be carried out, in whole or in part.",
    Code.LEFT_TO_EXPIRE: "The pod is terminating while its gate is open: it is left to its expiry and not renewed.",
    Code.NOT_SECONDED: "One observer sees the proxy hang and no second one does: nothing was done.",
    Code.FAULT_AGAIN: "A further fault inside the hold-down: somebody may be inducing it, so `direct` is not used.",
    Code.WORKLOAD_FAULTS: "Two pods of one workload fell ill within a minute: it may be induced, so no `direct`.",
    Code.MASS_FAILURE: "Most pods of the node look sick at once: the observer is suspected, nothing new is opened.",
    Code.OPEN_TOO_LONG: "The fault has outlasted the longest time a gate may be open: a person must look.",
    Code.RESCUE_DIED_TWICE: "The rescue died twice inside the hold-down: what kills the proxy may kill it too.",
    Code.GATE_REFUSES: "The gate cannot be used in this namespace.",
    Code.NO_RESCUE: "No rescue listens in this namespace.",
    Code.RESCUE_DIES: "The rescue died twice inside the hold-down.",
    Code.NO_IDENTITY: "No identity of this pod is held, so the rescue could not speak mTLS for it.",
    Code.IDENTITY_EXPIRED: "The identity held for the rescue has expired.",
    Code.STRICT_MTLS: "mTLS is STRICT: `direct` would take plaintext where policy forbids it.",
    Code.INDUCED: "The induced-bypass rule forbids `direct` for this episode.",
    Code.NOT_LISTED: "The policy does not list this level.",
    Code.NOT_FOR_THIS_FAULT: "This level does not answer this fault in this direction.",
    Code.NOT_SURE_ENOUGH: "`direct` inbound needs a second, independent source and a fault that has stood for a while.",
    Code.NODE_BUDGET: "As many pods of this node are open as the budget allows.",
    Code.WORKLOAD_BUDGET: "As many pods of this workload are open as the budget allows.",
    Code.NAMESPACE_BUDGET: "As many pods of this namespace are open as the budget allows.",
    Code.FROZEN: "Most pods of the node look sick at once: nothing new is opened.",
    Code.NOT_NOW: "Nothing new may be opened on what is known now.",
    Code.GRANT_ENDED: "The controller has given no right to open, or it has run out: nothing new is opened.",
    Code.PORTS_REFUSED: "The preflight refuses `direct` on every port that could be opened.",
    Code.CONTROL_PLANE_LOST: "The proxy has been cut off from its control plane for long: its configuration grows old.",
    Code.CONFIGURATION_REJECTED: "The proxy rejected the newest configuration that it was sent, and keeps the old one.",
    Code.CERTIFICATE_MISSING: "The proxy was never given a certificate or key that it waits for.",
    Code.CERTIFICATE_ENDS: "The proxy's certificate ends soon, and was not renewed in time.",
    Code.CERTIFICATE_EXPIRED: "The proxy's certificate has expired, and the policy leaves that to people.",
    Code.NO_CONFIGURATION: "The proxy runs without configuration, and the policy leaves that to people.",
    Code.DRILL_PASSED: "A drill: requests went through the rescue and came back through the proxy afterwards.",
    Code.DRILL_FAILED: "A drill found that the rescue would not have helped: capture was restored at once.",
    Code.DRILL_INTERRUPTED: "A drill was ended before its time, because something else happened to the pod.",
    Code.DRILL_REFUSED: "A drill was asked for, and this is no moment for it: nothing was done.",
}
