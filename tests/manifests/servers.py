"""The API servers that what is shipped is tried on: the embedded one, and the one that KUBECONFIG names (e2e)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from tests.manifests.callers import Caller
from tests.manifests.shipped import ACCOUNT


@contextmanager
def connected(name: str, *accounts: str) -> Iterator[Caller]:
    """`name`: embedded or real. `accounts`: who else calls, besides the administrator and the controller."""
    if name == "real":
        caller = Caller(os.environ.get("KUBECONFIG"))
        yield caller
        caller.close()
        return
    with _embedded() as api:
        caller = Caller(str(api.kubeconfig()), {each: str(api.kubeconfig(each)) for each in (ACCOUNT, *accounts)})
        yield caller
        caller.close()


@contextmanager
def _embedded() -> Iterator[EmbeddedApi]:
    """In a thread of its own: callers here wait for answers."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    api = EmbeddedApi()
    asyncio.run_coroutine_threadsafe(api.__aenter__(), loop).result(30)
    try:
        yield api
    finally:
        asyncio.run_coroutine_threadsafe(api.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
