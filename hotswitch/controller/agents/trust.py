"""Who speaks? A token of the audience `hotswitch-agent`, bound to a pod, looked at by the API server (S4.2, I2).

A node agent is a pod of hotswitch's own ServiceAccount, and speaks for the node that this pod runs on. An agent inside
a pod has whatever ServiceAccount the app has, and speaks for its own pod alone. What an agent says about itself is only
compared with what its token proves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.cluster.answers import read
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS, TOKEN_REVIEWS
from hotswitch.controller.agents.limits import Rejected

AUDIENCE = "hotswitch-agent"
ACCOUNT = "hotswitch-agent"
_EXTRA = "authentication.kubernetes.io/"
_ACCOUNT_PREFIX = "system:serviceaccount:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """`pod_uid`: of an agent that lives in a pod, for that pod alone; "": of a node agent."""

    node: str
    pod_uid: str = ""

    @property
    def name(self) -> str:
        """The agent's, in the ledger and in words."""
        return f"pod/{self.pod_uid}" if self.pod_uid else f"node/{self.node}"

    def __str__(self) -> str:
        return "agent in the pod" if self.pod_uid else f"agent on {self.node}"


@dataclass(frozen=True, slots=True)
class Proof:
    """What a token proves."""

    username: str
    pod_name: str
    pod_uid: str
    node: str  # "": an API server older than 1.30 does not say


class Doorkeeper:
    """`namespace`: where node agents live."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._node_account = f"{_ACCOUNT_PREFIX}{namespace}:{ACCOUNT}"

    async def admit(self, token: str, hello: wire.Hello) -> Speaker:
        """Raises Rejected; ApiFailure when the API server cannot be asked."""
        proof = await self._proof(token)
        if hello.pod_uid:
            if hello.pod_uid != proof.pod_uid:
                raise Rejected("wrong-pod", f"its token is of pod {proof.pod_uid}, and it speaks for {hello.pod_uid}")
            return Speaker(node=await self._node(proof), pod_uid=proof.pod_uid)
        if proof.username != self._node_account:
            raise Rejected("wrong-account", f"{proof.username} is not {self._node_account}")
        node = await self._node(proof)
        if not node or hello.node != node:
            raise Rejected("wrong-node", f"its pod runs on {node or 'no node'}, and it speaks for {hello.node!r}")
        return Speaker(node=node)

    async def _proof(self, token: str) -> Proof:
        if not token:
            raise Rejected("no-token", "it shows no token")
        asked = {
            "apiVersion": TOKEN_REVIEWS.api_version,
            "kind": TOKEN_REVIEWS.kind,
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        answer = read(await self._cluster.request("POST", TOKEN_REVIEWS.path(), body=asked), dict[str, Any])
        status: Mapping[str, Any] = answer.get("status") or {}
        if not status.get("authenticated"):
            raise Rejected("bad-token", f"its token is not good for {AUDIENCE}: {status.get('error', '')[:200]}")
        if AUDIENCE not in (status.get("audiences") or ()):  # a reviewer that knows no audiences says yes to any token
            raise Rejected("wrong-audience", f"nobody vouches that its token is of the audience {AUDIENCE}")
        user: Mapping[str, Any] = status.get("user") or {}
        pod_uid = _first(user, "pod-uid")
        if not pod_uid:
            raise Rejected("not-bound", f"the token of {user.get('username', '')} is not bound to a pod")
        return Proof(str(user.get("username", "")), _first(user, "pod-name"), pod_uid, _first(user, "node-name"))

    async def _node(self, proof: Proof) -> str:
        if proof.node:
            return proof.node
        namespace = proof.username.removeprefix(_ACCOUNT_PREFIX).partition(":")[0]
        try:
            pod = await self._cluster.get(PODS, namespace, proof.pod_name)
        except ApiFailure as failure:
            if failure.is_missing:
                raise Rejected("unknown-pod", f"its pod {namespace}/{proof.pod_name} is not there") from failure
            raise
        if pod["metadata"].get("uid") != proof.pod_uid:
            raise Rejected("unknown-pod", f"{namespace}/{proof.pod_name} is another pod by now")
        return str((pod.get("spec") or {}).get("nodeName") or "")


def _first(user: Mapping[str, Any], name: str) -> str:
    values = (user.get("extra") or {}).get(f"{_EXTRA}{name}") or ()
    return str(values[0]) if values else ""
