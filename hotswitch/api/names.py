"""Labels, annotations and the API group: how users and hotswitch speak by the Kubernetes API (S4.6).

Opt-in is a label, so that the API server can select by it; knobs are annotations, because a workload may only make
hotswitch more careful (I2); what hotswitch did is one JSON annotation, like sidecar.istio.io/status.
"""

from __future__ import annotations

GROUP, VERSION, KIND, PLURAL = "hotswitch.io", "v1alpha1", "HotSwitchPolicy", "hotswitchpolicies"
FIELD_MANAGER = "hotswitch"

MODE_LABEL = "hotswitch.io/mode"  # auto | observe | off; on a namespace or a pod, the pod's wins if it is more careful

PREFIX = "hotswitch.io/"
STATUS = "hotswitch.io/status"
OVERRIDE = "hotswitch.io/override"  # hold | rescue | direct | capture
OVERRIDE_UNTIL = "hotswitch.io/override-until"  # RFC 3339, mandatory
OVERRIDE_DIRECTION = "hotswitch.io/override-direction"  # inbound | outbound; both when left out
OVERRIDE_REASON = "hotswitch.io/override-reason"
OVERRIDE_BY = "hotswitch.io/override-by"  # who said so, as the CLI knows it; for people, never a proof
OVERRIDE_ACCEPT = "hotswitch.io/override-accept"  # codes, comma-separated; counts only where a policy grants them

DRILL_ORDER = "hotswitch.io/drill-order"  # of a person, for one drill (api.drills)
DRILLED = "hotswitch.io/drilled"  # the last drill that the leader has ordered, and what became of it

CONDITION = "hotswitch.io/Capture"  # the pod's condition: status "True" while its traffic passes the proxy
TLS_MODE_LABEL = "security.istio.io/tlsMode"
OPENED_BY_LABEL = "hotswitch.io/opened-by"
"""On a pod, while it may be open and nothing but a controller would close it: the actuator. By it a pod is found again
that has left the mesh meanwhile."""
TOUCHED = "hotswitch.io/touched"  # an annotation on EndpointSlices, changed so that istiod reads a pod's label again
HELPER_CONTAINER = "hotswitch-helper"
"""The one ephemeral container per pod: it cannot be removed, so there is never a second one."""
HELPER_VARIABLE = "HOTSWITCH_HELPER"  # its environment: settings as JSON
HELPER_CAPABILITIES = ("NET_ADMIN", "NET_RAW", "SETUID", "SETGID", "CHOWN")
"""All that the helper's container has; why each: docs/reference/helper.md."""

# Knobs: annotations on a pod (through its template) or on its namespace, read by api.knobs
LEVELS_INBOUND = "hotswitch.io/levels-inbound"  # rescue,direct,hold: which of them may be used
LEVELS_OUTBOUND = "hotswitch.io/levels-outbound"
DIRECTIONS = "hotswitch.io/directions"  # inbound,outbound; an empty value allows neither
PROFILE = "hotswitch.io/profile"  # default | fast
EXPIRY = "hotswitch.io/expiry"
OPEN_AT_MOST = "hotswitch.io/open-at-most"
HOLD_DOWN = "hotswitch.io/hold-down"
HOLD_DOWN_MAX = "hotswitch.io/hold-down-max"
RECOVER_AFTER = "hotswitch.io/recover-after"
RECOVER_PROBES = "hotswitch.io/recover-probes"
STALE_AFTER = "hotswitch.io/stale-after"
CERTIFICATE_ENDS = "hotswitch.io/certificate-ends"
BUDGET = "hotswitch.io/budget"  # on a pod: of its workload; on a namespace: of the namespace
ACTUATORS = "hotswitch.io/actuators"  # agent,helper,exec: which of them may be used
ALERT_LABELS = "hotswitch.io/alert-labels"  # team=shop,tier=1
ALERT_REPEAT = "hotswitch.io/alert-repeat"
DRILL = "hotswitch.io/drill"  # pods only; "off": never drilled in its turn
DRILL_EVERY = "hotswitch.io/drill-every"
TRUSTS_PROXY_HEADERS = "hotswitch.io/trusts-proxy-headers"  # pods only; `direct` inbound needs "false"
