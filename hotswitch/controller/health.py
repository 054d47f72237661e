"""/healthz, /readyz and /metrics: what the kubelet and Prometheus ask of the controller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from hotswitch.controller.app import Controller
from hotswitch.controller.listening import listen


@asynccontextmanager
async def serve(controller: Controller) -> AsyncIterator[int]:
    """The port it listens on. Raises OSError when the address is taken."""

    async def healthz(_: web.Request) -> web.Response:
        return _said(controller.alive, f"watches: {controller.watching.age_s:.0f} s silent")

    async def readyz(_: web.Request) -> web.Response:
        return _said(controller.ready, "leading" if controller.elector.leading else "following")

    async def metrics(_: web.Request) -> web.Response:
        controller.refresh_metrics()
        body = generate_latest(controller.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listen(controller.settings.address, controller.settings.port)).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _said(well: bool, sentence: str) -> web.Response:
    return web.Response(text=f"{sentence}\n", status=200 if well else 503)
