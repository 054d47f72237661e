"""A helper of Istio's own image: a container that only waits, with the rights to run Istio's commands (S4.3b).

For pods whose istio-proxy has no rights, where an administrator would rather have Istio's program change Istio's rules
than anybody else's. It is the pod's one ephemeral container then, so actuator `helper` cannot be used beside it. The
image is the one that the pod's proxy runs, so nothing has to be pulled and the release is the right one. Distroless
images have no shell and no `sleep`: pilot-agent itself waits, for a port that nobody answers on.
"""

from __future__ import annotations

from typing import Any

from hotswitch.act.order import Target
from hotswitch.api.names import HELPER_CONTAINER
from hotswitch.capture import manifest as manifests
from hotswitch.capture.fields import SpecError
from hotswitch.capture.podspec import PROXY, spec_from_pod

CAPABILITIES = ("NET_ADMIN", "NET_RAW")
YEARS_S = 100 * 365 * 86400
WAITS = (
    "/usr/local/bin/pilot-agent", "wait", "--url=http://127.0.0.1:1/", f"--timeoutSeconds={YEARS_S}",
    "--periodMillis=3600000",
)  # fmt: skip


def patch(target: Target) -> dict[str, Any]:
    """For PATCH pods/ephemeralcontainers, strategic. Raises SpecError: no sidecar, or its settings cannot be read."""
    container = {
        "name": HELPER_CONTAINER,
        "image": _image(target),
        "command": list(WAITS),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": spec_from_pod(target.manifest).proxy_gids[0],
            "runAsNonRoot": False,
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": False,  # iptables-legacy's lock lies in /run
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
        },
    }
    return {"metadata": {"uid": target.pod.uid}, "spec": {"ephemeralContainers": [container]}}


def _image(target: Target) -> str:
    _, spec = manifests.pod_template(target.manifest)
    for where in ("containers", "initContainers"):
        proxy = manifests.named(where, spec.get(where), PROXY)
        if proxy is not None:
            return manifests.string(f"{PROXY}.image", proxy.get("image"))
    raise SpecError("containers", PROXY, "the pod has no Istio sidecar")
