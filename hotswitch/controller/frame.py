"""kopf, which brings the news of our own resource, in a thread and an event loop of its own (S4.1).

When a watch of kopf's is answered with what it did not foresee (410 or 404 as an answer, no JSON), all of kopf ends,
and with it every task of its event loop, whoever made it. That must not be a worker that has a gate open. So kopf is
alone in its loop, is begun again, and says in one line why it ended. What passes by itself (no connection, 5xx, 429,
403) it tries for as long as it takes. The thread also loads kopf: nobody waits for that at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hotswitch.api.names import GROUP, PLURAL, VERSION
from hotswitch.cluster.backoff import Backoff
from hotswitch.cluster.credentials import Credentials
from hotswitch.controller.app import Controller

if TYPE_CHECKING:
    import kopf

AGAIN_S, AGAIN_AT_MOST_S = 1.0, 30.0
GOODBYE_S = 5.0
CLOSING_S = 0.25  # the other side's goodbye to TLS connections that kopf has closed
_LOGGERS = ("kopf._core.reactor.running", "kopf._core.reactor.orchestration")
log = logging.getLogger("hotswitch.controller")


class Patient:
    """kopf's `error_backoffs`, without an end."""

    def __iter__(self) -> Iterator[float]:
        backoff = Backoff(AGAIN_S, AGAIN_AT_MOST_S)
        while True:
            yield backoff.next_s()


class Frame:
    """`start` and `stop` in the controller's loop."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._serve, name="kopf", daemon=True)
        self._ended = threading.Event()
        self._within: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def start(self) -> None:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(_plainly)
        self._thread.start()

    async def stop(self) -> None:
        self._ended.set()
        if self._thread.ident is None:
            return  # it was never started
        loop, stop = self._within, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(stop.set)
        await asyncio.to_thread(self._thread.join, GOODBYE_S)

    # ---- in the thread ----

    def _serve(self) -> None:
        backoff = Backoff(AGAIN_S, AGAIN_AT_MOST_S)
        while not self._ended.is_set():
            try:
                asyncio.run(self._operate())
            except Exception as failure:
                log.warning("kopf ended", extra={"why": f"{type(failure).__name__}: {failure}"})
            self._ended.wait(backoff.next_s())

    async def _operate(self) -> None:
        import kopf

        self._within, self._stop = asyncio.get_running_loop(), asyncio.Event()
        if self._ended.is_set():
            return
        # Without one kopf makes its own of the user's name, and a container's user has none.
        identity: Any = self._controller.settings.identity
        try:
            await kopf.operator(
                registry=self._registry(),
                standalone=True,
                clusterwide=True,
                identity=identity,
                stop_flag=self._stop,
            )
        finally:
            await asyncio.sleep(CLOSING_S)

    def _registry(self) -> kopf.OperatorRegistry:
        import kopf

        registry = kopf.OperatorRegistry()

        @kopf.on.startup(registry=registry)
        async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
            settings.scanning.disabled = True  # our CRD comes with the manifests, and CRDs are not ours to list
            settings.posting.enabled = False  # Events are written by report.events
            settings.process.ultimate_exiting_timeout = None  # its end is not the end of the process
            settings.watching.server_timeout = 300
            settings.watching.client_timeout = 330
            settings.watching.connect_timeout = 10
            settings.networking.request_timeout = 30
            settings.networking.error_backoffs = Patient()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.ConnectionInfo:
            asked = asyncio.run_coroutine_threadsafe(connection(self._controller.cluster.credentials), self._loop)
            return await asyncio.wrap_future(asked)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def policy(name: str, namespace: str | None, **_: Any) -> None:
            """What became of it is to be said on it. Our own watch, for which leading waits, brings the same news."""
            self._loop.call_soon_threadsafe(self._controller.reports.news, (namespace or "", name))

        return registry


async def connection(credentials: Credentials) -> kopf.ConnectionInfo:
    """The same server and identity for kopf; asked again by it after a 401, when the token file was read anew."""
    import kopf

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


def _plainly(record: logging.LogRecord) -> bool:
    """Its failures are told in a line; that signals are not its own to hear in a thread is not told at all."""
    record.exc_info = None
    return "OS signals are ignored" not in str(record.msg)
