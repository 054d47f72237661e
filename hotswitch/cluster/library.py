"""Of the Kubernetes client library, its asynchronous half alone.

The package's own __init__ loads the synchronous half as well, with requests, oauthlib and websocket: 7 MB in every
agent, for nothing. That of its asynchronous half loads a discovery client and urllib3: 2 MB. So both are entered
without it; whoever asks for another part of them by name gets that as ever. What reads kubeconfigs can make clients,
too, and would load for it what we use nothing of: a client by models, and with it pydantic, 8 MB.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

_PACKAGE, _HALF = "kubernetes", "kubernetes.aio"


def _enter(package: str) -> None:
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is not None:
        sys.modules[package] = importlib.util.module_from_spec(spec)


def _part(name: str) -> Any:
    return importlib.import_module(f"{_HALF}.{name}")


def _make_client(*args: Any, **settings: Any) -> Any:
    return _part("client.api_client").ApiClient(*args, **settings)


def _config() -> Any:
    """The part that reads kubeconfigs, loaded without the client that it could make."""
    client = _part("client")
    if "ApiClient" in vars(client):
        return _part("config")
    client.ApiClient = _make_client
    try:
        return _part("config")
    finally:
        del client.ApiClient  # whoever asks for the class itself gets it


_enter(_PACKAGE)
_enter(_HALF)
Configuration = _part("client").Configuration
RESTClientObject = _part("client.rest").RESTClientObject
ConfigException = _config().ConfigException
load_incluster_config = _config().load_incluster_config
load_kube_config = _config().load_kube_config
