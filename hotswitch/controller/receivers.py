"""The receivers that the policies in force name, and the Secrets that hold their addresses and keys (A9, S4.6)."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from hotswitch.cluster.client import Cluster
from hotswitch.cluster.kinds import SECRETS
from hotswitch.config.objects import PolicyObject
from hotswitch.config.telling import ReceiverAt
from hotswitch.report.alerts.listed import listed
from hotswitch.report.alerts.receiver import Receiver, SecretRef


def served(policies: Iterable[PolicyObject], root_namespace: str) -> list[Receiver]:
    """`policies`: scoped, so an address that its place gives no authority for is not there any more."""
    return [
        listed(
            ReceiverAt(policy.ref.namespace, policy.ref.name, each),
            root_namespace=root_namespace,
            repeat_s=policy.spec.alerts.repeat_s,
        )
        for policy in policies
        for each in policy.spec.alerts.receivers or ()
    ]


class Secrets:
    """A report.alerts.receiver.SecretReader. Raises ApiFailure, KeyError."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def read(self, ref: SecretRef) -> bytes:
        secret = await self._cluster.get(SECRETS, ref.namespace, ref.name)
        try:
            return base64.b64decode(secret["data"][ref.key])
        except KeyError:
            raise KeyError(f"Secret {ref.namespace}/{ref.name} has no key {ref.key}") from None
