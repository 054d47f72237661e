"""What istiod tells meshed clients about an endpoint: a subscription of our own to its endpoint discovery (S4.3).

One stream for one question, state of the world, for the clusters asked for and no others. istiod decides by the
endpoint's metadata whether clients speak mTLS to it (envoy.transport_socket_match tlsMode=istio), and we see what they
see; a proxy in a slow corner may see it a little later, hence SETTLE_S.
Sources: Istio's pilot/pkg/xds/endpoints/mtls_checker.go, networking/core/cluster_tls.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio

from hotswitch.act import eds_wire
from hotswitch.act.eds_wire import Answer, Endpoint
from hotswitch.act.steps import StepFailed
from hotswitch.protowire import Malformed

SETTLE_S = 1.0
STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
EDS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
ISTIO = "istio"
MESSAGE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Istiod:
    """`address`: host:port. `roots`: PEM of istiod's CA (ConfigMap istio-ca-root-cert); None: the plaintext port.
    `token`: of audience istio-ca, read anew for each stream. `namespace`: whose view of the mesh is asked for."""

    address: str
    roots: bytes | None = None
    token: Callable[[], str] | None = None
    server_name: str = ""
    namespace: str = "istio-system"
    ip: str = "127.0.0.1"
    domain: str = "cluster.local"
    cluster_id: str = "Kubernetes"

    def node(self) -> bytes:
        identity = f"sidecar~{self.ip}~hotswitch.{self.namespace}~{self.namespace}.svc.{self.domain}"
        about = {"NAMESPACE": self.namespace, "CLUSTER_ID": self.cluster_id, "ISTIO_VERSION": "1.27.0"}
        return eds_wire.node(identity, about)


class EdsCheck:
    """Clients, for act.tlsmode."""

    def __init__(self, istiod: Istiod, settle_s: float = SETTLE_S) -> None:
        self._istiod, self._settle_s = istiod, settle_s

    async def until(self, clusters: tuple[str, ...], addresses: frozenset[str], *, tls: bool, within_s: float) -> None:
        """Until every cluster has been told of, and all its endpoints at `addresses` are mTLS ones (`tls`) or none is,
        for SETTLE_S without a word to the contrary. One that clients are not given at all is neither. Raises
        StepFailed."""
        seen: dict[str, frozenset[bool]] = {}
        try:
            async with asyncio.timeout(within_s), self._answers(clusters) as answers:
                await self._settled(answers, clusters, addresses, tls, seen)
        except TimeoutError:
            raise StepFailed(f"within {within_s:g} s istiod says: {_said(clusters, seen, tls)}") from None
        except grpc.aio.AioRpcError as failure:
            code = failure.code().name
            raise StepFailed(f"istiod at {self._istiod.address}: {code}: {failure.details()}") from failure

    async def _settled(
        self, answers: AsyncIterator[Answer], clusters: tuple[str, ...], addresses: frozenset[str],
        tls: bool, seen: dict[str, frozenset[bool]],
    ) -> None:  # fmt: skip
        following = aiter(answers)
        waiting = asyncio.ensure_future(anext(following))
        try:
            while True:
                good = all(name in seen and not seen[name] & {not tls} for name in clusters)
                done, _ = await asyncio.wait({waiting}, timeout=self._settle_s if good else None)
                if not done:
                    return
                seen |= modes(waiting.result(), addresses)
                waiting = asyncio.ensure_future(anext(following))
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    @asynccontextmanager
    async def _answers(self, clusters: tuple[str, ...]) -> AsyncIterator[AsyncIterator[Answer]]:
        async with self._channel() as channel:
            call = channel.stream_stream(STREAM)(metadata=self._credentials())  # bytes both ways
            await call.write(eds_wire.request(EDS, clusters, node=self._istiod.node()))
            try:
                yield self._acknowledged(call, clusters)
            finally:
                call.cancel()

    async def _acknowledged(self, call: grpc.aio.StreamStreamCall, clusters: tuple[str, ...]) -> AsyncIterator[Answer]:
        while True:
            raw = await call.read()
            if raw is grpc.aio.EOF:
                raise StepFailed(f"istiod at {self._istiod.address} has ended the stream")
            try:
                answer = eds_wire.answer(raw)
            except Malformed as failure:
                raise StepFailed(f"istiod at {self._istiod.address}: its answer cannot be read: {failure}") from failure
            await call.write(eds_wire.request(EDS, clusters, version=answer.version, nonce=answer.nonce))
            yield answer

    def _channel(self) -> grpc.aio.Channel:
        options: list[tuple[str, int | str]] = [("grpc.max_receive_message_length", MESSAGE_BYTES)]
        if self._istiod.roots is None:
            return grpc.aio.insecure_channel(self._istiod.address, options=options)
        if self._istiod.server_name:
            options.append(("grpc.ssl_target_name_override", self._istiod.server_name))
        return grpc.aio.secure_channel(
            self._istiod.address, grpc.ssl_channel_credentials(self._istiod.roots), options=options
        )

    def _credentials(self) -> tuple[tuple[str, str], ...]:
        token = self._istiod.token
        return (("authorization", f"Bearer {token()}"),) if token else ()


def modes(answer: Answer, addresses: frozenset[str]) -> dict[str, frozenset[bool]]:
    """By cluster: whether clients speak mTLS to its endpoints at `addresses`; empty where it has none there."""
    return {name: frozenset(_modes(endpoints, addresses)) for name, endpoints in answer.clusters.items()}


def _modes(endpoints: Iterable[Endpoint], addresses: frozenset[str]) -> Iterable[bool]:
    return (each.tls_mode == ISTIO for each in endpoints if not addresses.isdisjoint(each.addresses))


def _said(clusters: tuple[str, ...], seen: Mapping[str, frozenset[bool]], tls: bool) -> str:
    untold = [name for name in clusters if name not in seen]
    if untold:
        return f"nothing of {untold[0]}"
    other = next((name for name in clusters if (not tls) in seen[name]), clusters[0] if clusters else "")
    return f"{other} is still sent {'plaintext' if tls else 'mTLS'}"
