"""`GET /v1/route/NAMESPACE/SERVICE?from=NAMESPACE/POD&rule=NAME`: the order for a caller, and why (S2.5, S2.8).

A caller is a pod; where it is stands in the API. Who does not lead answers 503. The answer names pods, addresses and
nodes of any namespace, with the controller's rights: so only who is let in by the API server is answered, by
`kubectl port-forward`, which comes from the pod's own loopback. Tokens never go over this plaintext.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from aiohttp import web

from hotswitch.backends import HOME, Locality, ServiceId
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.decide.endpoints.place import Caller
from hotswitch.endpoints.xds.explain import Unexplained, explained
from hotswitch.endpoints.xds.publisher import EdsPublisher

PATH = "/v1/route/{namespace}/{service}"


class RouteServer:
    """`publisher`: None while this controller does not lead."""

    def __init__(self, cluster: Cluster, publisher: Callable[[], EdsPublisher | None]) -> None:
        self._cluster, self._publisher = cluster, publisher

    @property
    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self._explain)]

    async def _explain(self, request: web.Request) -> web.Response:
        if not _is_local(request.remote):
            return _no(403, "this is answered on the controller's own loopback alone: use kubectl port-forward")
        namespace, _, pod = request.query.get("from", "").partition("/")
        if not namespace or not pod:
            return _no(400, f"from: {request.query.get('from', '')!r}: is not NAMESPACE/POD")
        try:
            caller = await self._caller(namespace, pod)
        except ApiFailure as failure:
            return _no(404 if failure.is_missing else 503, f"from: {namespace}/{pod}: {failure.message}")
        publisher = self._publisher()
        if publisher is None:
            return _no(503, "this controller does not lead")
        service = ServiceId(request.match_info["namespace"], request.match_info["service"])
        try:
            return web.json_response(explained(publisher, service, caller, request.query.get("rule", "")))
        except Unexplained as failure:
            return _no(404, str(failure))

    async def _caller(self, namespace: str, pod: str) -> Caller:
        """Its zone is known from backends on the same node, if there are any."""
        content = await self._cluster.get(PODS, namespace, pod)
        addresses = tuple(each["ip"] for each in (content.get("status") or {}).get("podIPs") or ())
        return Caller(f"{namespace}/{pod}", addresses, Locality(HOME, node=content["spec"].get("nodeName", "")))


def _is_local(address: str | None) -> bool:
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _no(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
