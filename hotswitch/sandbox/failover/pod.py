"""A pod of the stage: its app and its keeper, what a kubelet says of it, and its way to the node, which may be cut."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.kernel.command import Command, run
from hotswitch.sandbox.failover.part import Part
from hotswitch.sandbox.network import Attachment
from hotswitch.sandbox.pod import PROXY
from hotswitch.sandbox.pod import Pod as MeshedPod

KUBELET_S = 0.5
STARTED = "2026-01-01T00:00:00Z"


class RegisterPod:
    """`address`: the one that Services use. `node`: where controllers and kubelet are. `mesh`: its sidecar, if it has
    one; nothing else of that pod is there."""

    def __init__(
        self, name: str, uid: str, place: Attachment, address: str, app: Part, keeper: Part, node: Attachment,
        mesh: MeshedPod | None = None,
    ) -> None:  # fmt: skip
        self.name, self.uid, self.place, self.address = name, uid, place, address
        self.app, self.keeper, self.mesh = app, keeper, mesh
        self._node = node

    def cut(self) -> None:
        """From controllers and node, not from clients: they go by the bridge, and not through the node's own stack."""
        family = "ip6" if ":" in self.address else "ip"
        rules = (
            f"add table inet cut_{self._tag}\n"
            f"add chain inet cut_{self._tag} in {{ type filter hook input priority -400; }}\n"
            f"add chain inet cut_{self._tag} out {{ type filter hook output priority -400; }}\n"
            f"add rule inet cut_{self._tag} in {family} saddr {self.address} drop\n"
            f"add rule inet cut_{self._tag} out {family} daddr {self.address} drop\n"
        )
        run(Command(("nft", "-f", "-"), netns=self._node.netns, stdin=rules), check=True)

    def join(self) -> None:
        text = f"table inet cut_{self._tag}\ndelete table inet cut_{self._tag}\n"
        run(Command(("nft", "-f", "-"), netns=self._node.netns, stdin=text), check=True)

    @property
    def _tag(self) -> str:
        return self.name.replace("-", "_")

    # ---- the kubelet ----

    async def tell(self, cluster: Cluster, namespace: str) -> None:
        """Say that it is Ready while its processes run, half a second late; until cancelled."""
        sent: dict[str, Any] | None = None
        while True:
            status = self._status()
            if status != sent:
                with contextlib.suppress(ApiFailure):
                    await cluster.patch_strategic(PODS, namespace, self.name, status, "status")
                    sent = status
            await asyncio.sleep(KUBELET_S)

    def _status(self) -> dict[str, Any]:
        containers = {"app": self.app.running}
        if self.mesh is not None:
            containers[PROXY] = self.mesh.kubelet.ready
        is_ready = all(containers.values())
        return {
            "metadata": {"uid": self.uid},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
                "containerStatuses": [_container(name, runs) for name, runs in containers.items()],
                "hostIP": self._node.ipv6 if ":" in self.address else self._node.ipv4,
                "podIP": self.address,
                "podIPs": [{"ip": self.address}],
            },
        }


def _container(name: str, runs: bool) -> dict[str, Any]:
    state = {"running": {"startedAt": STARTED}} if runs else {"waiting": {"reason": "CrashLoopBackOff"}}
    return {"name": name, "image": f"{name}:1", "imageID": "", "ready": runs, "restartCount": 0, "state": state}
