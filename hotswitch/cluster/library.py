"""Of the Kubernetes client library, its asynchronous half alone.

The package's own __init__ loads the synchronous half as well, with requests, oauthlib and websocket: 7 MB in every
agent, for nothing. So the package is entered without it; whoever asks for another part of it by name gets that as ever.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

_PACKAGE = "kubernetes"


def _half() -> None:
    spec = None if _PACKAGE in sys.modules else importlib.util.find_spec(_PACKAGE)
    if spec is not None:
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)


def _part(name: str) -> Any:
    return importlib.import_module(f"{_PACKAGE}.aio.{name}")


_half()
Configuration = _part("client").Configuration
RESTClientObject = _part("client.rest").RESTClientObject
ConfigException = _part("config").ConfigException
load_incluster_config = _part("config").load_incluster_config
load_kube_config = _part("config").load_kube_config
