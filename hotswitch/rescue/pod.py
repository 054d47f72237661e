"""What the rescue Envoy must know of one pod: where it is, what is allowed in plaintext, whom to believe.

A `RescuePod` is checked when it is made, so that everything built from it is sound: nothing here is guessed later.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hotswitch.model import Mtls, Port
from hotswitch.rescue.authorization import AuthorizationPolicy

IN, OUT, OUT_MTLS = "in", "out", "out-mtls"  # parts of a pod in the rescue, by name: its doors and ways out,
IDENTITY, ROOTS = "identity", "roots"  # and its secrets
_KEY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")  # SPIFFE-ID 2.1


class PodRefused(ValueError):
    """A field of a RescuePod cannot be used; the message names field and value."""


@dataclass(frozen=True, slots=True)
class MeshDestination:
    """Outbound flows to `network` (CIDR; `port` None: any) carry the pod's identity; all others pass as they are."""

    network: str
    port: Port | None = None

    def __post_init__(self) -> None:
        _check_network(self.network)
        if self.port is not None:
            _check_port("outbound_mtls.port", self.port)


@dataclass(frozen=True, slots=True)
class RescuePod:
    """`key` names the pod's resources ("namespace/name"). `netns` is the path of its network namespace, which uid
    RESCUE_UID must be able to open for as long as the pod is here; empty: the one that the rescue itself lives in. The
    rescue's sockets keep that namespace alive, so a pod that is gone, or has another namespace now, has to be removed.
    The families of `addresses` are the families listened on. `trust_domains`: the mesh's own first, then its aliases.
    `mtls` holds for ports that `mtls_by_port` does not name.

    Raises PodRefused.
    """

    key: str
    netns: str
    addresses: tuple[str, ...]
    trust_domains: tuple[str, ...] = ("cluster.local",)
    mtls: Mtls = Mtls.STRICT
    mtls_by_port: Mapping[Port, Mtls] = field(default_factory=dict)
    authorization: tuple[AuthorizationPolicy, ...] = ()
    outbound_mtls: tuple[MeshDestination, ...] = ()

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise PodRefused(f"key: {self.key!r} is not made of letters, digits, '.', '_', '-' and '/'")
        if self.netns and (not self.netns.startswith("/") or len(self.netns) < 5):
            raise PodRefused(f"netns: {self.netns!r} is not an absolute path")
        if not self.addresses:
            raise PodRefused("addresses: () names no address to listen for")
        for address in self.addresses:
            _check_address(address)
        if not self.trust_domains:
            raise PodRefused("trust_domains: () names nobody to believe")
        for domain in self.trust_domains:
            if not _TRUST_DOMAIN.fullmatch(domain):
                raise PodRefused(f"trust_domains: {domain!r} is not a SPIFFE trust domain")
        for port in self.mtls_by_port:
            _check_port("mtls_by_port", port)

    def name(self, part: str) -> str:
        """Names of all xDS resources of a pod begin with its key and a bar, which no key contains."""
        return f"{self.key}|{part}"

    @property
    def has_ipv4(self) -> bool:
        return any(ipaddress.ip_address(address).version == 4 for address in self.addresses)

    @property
    def has_ipv6(self) -> bool:
        return any(ipaddress.ip_address(address).version == 6 for address in self.addresses)

    @property
    def modes(self) -> tuple[tuple[Port | None, Mtls], ...]:
        """The effective mode of every port: the default (None) first, then the ports that differ from it."""
        exceptions = ((port, mode) for port, mode in sorted(self.mtls_by_port.items()) if mode is not self.mtls)
        return ((None, self.mtls), *exceptions)

    @property
    def needs_identity(self) -> bool:
        """False only where mTLS is switched off for every port and no outbound flow originates it."""
        return bool(self.outbound_mtls) or any(mode is not Mtls.DISABLE for _, mode in self.modes)


def _check_address(address: str) -> None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise PodRefused(f"addresses: {address!r} is not an IP address") from None


def _check_network(network: str) -> None:
    try:
        ipaddress.ip_network(network)
    except ValueError:
        raise PodRefused(f"outbound_mtls.network: {network!r} is not a CIDR block") from None


def _check_port(name: str, port: Port) -> None:
    if not 0 < port < 65536:
        raise PodRefused(f"{name}: {port!r} is not a port from 1 to 65535")
