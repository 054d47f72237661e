"""`kubectl hotswitch endpoints --bounds`: for how long nobody may answer, by what fails, as the Service is set."""

from __future__ import annotations

from collections.abc import Mapping

from hotswitch.backends import ServiceMode, ServiceRecord
from hotswitch.cli import cluster_endpoints as serving
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES
from hotswitch.cluster.lease import LEASE_S, retry_s
from hotswitch.controller.settings import LEASE, SYSTEM_NAMESPACE
from hotswitch.decide.endpoints.bounds import Bound, Fault, Timing, bounds


async def shown(cluster: Cluster, name: str, namespace: str | None) -> list[str]:
    """Of active/standby Services. Raises ApiFailure, NotFound."""
    lease_s = await _lease_s(cluster)
    records = [each.record for each in await serving.shown(cluster, name, namespace)]
    found = [each for each in records if each.mode is ServiceMode.ACTIVE_STANDBY]
    return [line for each in found for line in (str(each.id), *_of(each, lease_s))]


async def _lease_s(cluster: Cluster) -> float:
    """The controllers' own; who may not read it is told of the default."""
    try:
        lease = await cluster.get(LEASES, SYSTEM_NAMESPACE, LEASE)
    except ApiFailure as failure:
        if failure.is_missing or failure.is_refused:
            return LEASE_S
        raise
    spec = lease.get("spec") or {}
    return float(spec.get("leaseDurationSeconds") or LEASE_S) if spec.get("holderIdentity") else LEASE_S


def _of(service: ServiceRecord, lease_s: float) -> list[str]:
    ttl_s = service.options.lease.ttl_s
    if ttl_s is None:
        return ["  none: without an activity lease a pod that is stuck is waited for until it is gone"]
    known = bounds(Timing(check=service.options.check, ttl_s=ttl_s, lease_s=lease_s, retry_s=retry_s(lease_s)))
    return [line for fault in Fault for line in _shown(fault, known)]


def _shown(fault: Fault, known: Mapping[Fault, Bound]) -> list[str]:
    bound = known.get(fault)
    if bound is None:
        return [f"  {fault}: as soon as the kubelet finds out, which asks by settings of its own"]
    terms = [f"    {each.seconds:.2f} s  {each.what}" for each in bound.terms]
    return [f"  {fault}: {bound.seconds:.2f} s", *terms]
