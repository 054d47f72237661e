"""Which API server, over which TLS, and as whom: all of it as the Kubernetes client library reads it.

A kubeconfig (context, token, token file, client certificate, exec plugin) or the service account of the pod. What can
run out is read again: a service account's token each minute (the library does), everything when the API server
answers 401. The session's TLS context stays and takes new certificates for new connections. A connection whose other
end has vanished without a word is given up after half a minute: the kernel asks (TCP keep-alive).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from hotswitch.cluster.failure import ConnectError
from hotswitch.cluster.http import aiohttp
from hotswitch.cluster.library import (
    ConfigException,
    Configuration,
    RESTClientObject,
    load_incluster_config,
    load_kube_config,
)

RENEW_AT_MOST_EVERY_S = 5.0
VANISHED_S = 30
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, VANISHED_S // 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, VANISHED_S // 6),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_S * 1000),
)


class _Rest(RESTClientObject):  # type: ignore[misc]  # the library has no types
    """With sockets that notice when nobody is there any more."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        # no limit: watches keep their connections, and nobody may have to wait for one
        return aiohttp.TCPConnector(limit=0, ssl=self.ssl_context, socket_factory=_socket)


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family=family, type=kind, proto=protocol)
    for option in _OPTIONS:
        made.setsockopt(*option)
    return made


class Credentials:
    """`kubeconfig` None: the variable KUBECONFIG, else the pod's service account, else ~/.kube/config."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self._kubeconfig = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG", "")
        self._context = context
        self._lock = asyncio.Lock()
        self._renewed_s = float("-inf")

    async def load(self) -> None:
        """Raises ConnectError."""
        self._configuration = await self._read()
        try:
            self._rest = _Rest(self._configuration)
        except OSError as failure:
            raise ConnectError(f"certificates cannot be read: {failure}") from failure
        self.host = str(self._configuration.host).rstrip("/")

    def session(self) -> aiohttp.ClientSession:
        """A session with the cluster's TLS context. Call it inside the event loop that will use it."""
        made: aiohttp.ClientSession = self._rest._create_pool_manager()
        return made

    @property
    def server_hostname(self) -> str | None:
        return str(self._configuration.tls_server_name) if self._configuration.tls_server_name else None

    @property
    def proxy(self) -> str | None:
        return str(self._configuration.proxy) if self._configuration.proxy else None

    @property
    def files(self) -> tuple[str | None, str | None, str | None]:
        """Paths of the server's CA, our certificate, our key; None for what is not used."""
        return self._configuration.ssl_ca_cert, self._configuration.cert_file, self._configuration.key_file

    @property
    def is_verified(self) -> bool:
        """Whether the server's certificate is checked."""
        return bool(self._configuration.verify_ssl)

    async def headers(self) -> dict[str, str]:
        """Raises ConnectError when the token file cannot be read."""
        try:
            settings = await self._configuration.auth_settings()
        except (OSError, ConfigException) as failure:
            raise ConnectError(f"the token cannot be read: {failure}") from failure
        value = str(settings["BearerToken"]["value"]) if "BearerToken" in settings else ""
        scheme, _, token = value.strip().partition(" ")  # the library writes "bearer" and the file's last newline
        return {"Authorization": f"{scheme.capitalize()} {token.strip()}"} if token else {}

    async def renew(self, refused: Mapping[str, str]) -> bool:
        """After a 401 to these headers. False when nothing else is to be had: asking again is of no use."""
        async with self._lock:
            if await self._differ(refused):
                return True  # somebody else was refused a moment before
            if time.monotonic() - self._renewed_s < RENEW_AT_MOST_EVERY_S:
                return False
            self._renewed_s = time.monotonic()
            try:
                fresh = await self._read()
            except ConnectError:
                return False
            self._configuration.api_key = fresh.api_key
            self._configuration.refresh_api_key_hook = fresh.refresh_api_key_hook
            return self._take_certificate(fresh) or await self._differ(refused)

    async def _differ(self, refused: Mapping[str, str]) -> bool:
        return (await self.headers()).get("Authorization") != refused.get("Authorization")

    def _take_certificate(self, fresh: Configuration) -> bool:
        if not fresh.cert_file:
            return False
        self._rest.ssl_context.load_cert_chain(fresh.cert_file, keyfile=fresh.key_file)
        return True

    async def _read(self) -> Configuration:
        configuration = Configuration()
        try:
            if not self._kubeconfig and os.environ.get("KUBERNETES_SERVICE_HOST"):
                load_incluster_config(configuration)
            else:
                await load_kube_config(
                    self._existing(), context=self._context, client_configuration=configuration, persist_config=False
                )
        except (
            ConfigException,
            yaml.YAMLError,
            OSError,
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
        ) as failure:
            raise ConnectError(f"{self._kubeconfig or 'service account'}: {failure}") from failure
        return configuration

    def _existing(self) -> str:
        paths = self._kubeconfig or str(Path("~/.kube/config").expanduser())
        if not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path):
            raise ConnectError(f"no cluster is named: {paths} does not exist, and this is no pod")
        return paths
