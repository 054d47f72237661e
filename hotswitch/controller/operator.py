"""kopf, as the frame of the process: start and end, our own resource, liveness (S4.1).

Pods are not watched here: kopf keeps a task and a copy for each object, which is too much for ten thousand pods
(facts/kubernetes.md 2). Nothing is stored in objects by kopf: there are only event handlers, no finalizers, no peering.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import kopf

from hotswitch.api.names import GROUP, PLURAL, VERSION
from hotswitch.cluster.credentials import Credentials
from hotswitch.cluster.failure import ApiFailure
from hotswitch.controller.app import Controller
from hotswitch.controller.health import serve
from hotswitch.controller.policies import report_status
from hotswitch.controller.settings import ControllerSettings

SILENCE_S = 70  # kopf takes a new watch when it hears nothing for so long; bookmarks come each minute


def registry_for(controller: Controller) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.scanning.disabled = True  # our CRD comes with the manifests, and CRDs are not ours to list
        settings.posting.enabled = False  # Events are written by report.events
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        settings.watching.connect_timeout = 10
        settings.networking.request_timeout = 30

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(controller.cluster.credentials)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def policy(body: kopf.Body, name: str, namespace: str | None, **_: Any) -> None:
        """Says on the policy what became of it; the watch of our own reads it, so that leading can wait for all."""
        known = controller.picture.policies.get((namespace or "", name))
        if known is not None and known.ref.uid == body["metadata"]["uid"] and controller.elector.leading:
            with contextlib.suppress(ApiFailure):  # 409: a newer version comes by the watch
                await report_status(controller.cluster, dict(body), known)

    return registry


async def connection(credentials: Credentials) -> kopf.ConnectionInfo:
    """The same server and identity for kopf; asked again by it after a 401, when the token file was read anew."""
    authority, certificate, key = credentials.files
    scheme, _, token = (await credentials.headers()).get("Authorization", "").partition(" ")
    return kopf.ConnectionInfo(
        server=credentials.host,
        ca_path=authority,
        insecure=not credentials.is_verified,
        certificate_path=certificate,
        private_key_path=key,
        scheme=scheme or None,
        token=token or None,
    )


async def spare_the_collector(controller: Controller) -> None:
    """Once all was read: it lives for long, and a collection that looks at it again keeps everybody waiting."""
    await controller.watching.synced.wait()
    gc.collect()
    gc.freeze()


async def run(settings: ControllerSettings) -> None:
    """Until SIGTERM or SIGINT. Raises ConnectError, OSError when the port is taken."""
    async with Controller(settings) as controller, serve(controller):
        stop = asyncio.Event()
        work = asyncio.create_task(controller.run())
        calm = asyncio.create_task(spare_the_collector(controller))
        work.add_done_callback(lambda _: stop.set())
        frame = asyncio.create_task(
            kopf.operator(
                registry=registry_for(controller),
                standalone=True,
                clusterwide=True,
                stop_flag=stop,
            )
        )
        try:
            await asyncio.wait([work, frame], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.set()
            calm.cancel()
            await controller.finish()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            with contextlib.suppress(asyncio.CancelledError):
                await frame
