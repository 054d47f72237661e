"""The role as a pod's app hears it from its own keeper, and the app's word that it has taken it (I7, S0.5).

A fence of the network knows pods, not what their apps remember. An app that was fenced without hearing of it, because
it was cut off or its proxy was dead, still believes that it serves in the generation of then; if its pod is promoted
again before it hears, an open port would let it answer with what it remembers. So the keeper tells the app first, and
opens the port of a new generation only when the app has shown its mark: its next question names what it has taken.

On loopback, past any sidecar, and in the controllers' own words: an app that asks a controller asks here instead. An
answer counts from when its question came, and one that stands is answered as soon as the permit is renewed: so the app
believes that it serves for as long as the kernel permits it, and not for a renewal less.

    GET /v1/roles/NAMESPACE/POD?known=MARK&wait=SECONDS
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hotswitch.kernel.netns import inside
from hotswitch.model import Port

LONGEST_WAIT_S = 30.0
UNHEARD = {"role": "standby", "generation": 0, "withdrawn": 0, "ttl_s": None, "mark": "unheard"}
Answer = dict[str, Any]
log = logging.getLogger("hotswitch.endpoints.app_role")


def clock_s() -> float:
    """Goes on while the machine sleeps, as the word's other end does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class AppRole:
    """Said by one thread, asked by many."""

    def __init__(self, clock: Callable[[], float] = clock_s) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._said: Answer = UNHEARD
        self._until_s = 0.0
        self._heard_s = 0.0  # until when the app may believe what it was answered last
        self._taken = ""  # the mark of what is said, once the app has shown it

    def say(self, said: Answer, until_s: float) -> None:
        """`said`: as a controller answers; an active one counts until `until_s` by the clock, then nothing may be
        served though nobody has said so."""
        with self._changed:
            if said["mark"] != self._said["mark"]:
                self._taken = ""
            self._said, self._until_s = said, until_s
            self._changed.notify_all()

    def is_taken(self, mark: str, wait_s: float) -> bool:
        """Within that time the app has shown that it goes by this."""
        with self._changed:
            return self._changed.wait_for(lambda: self._taken == mark, wait_s)

    def ask(self, known: str, wait_s: float) -> Answer:
        """As soon as it is another one than `known`, which the app has taken, or counts for longer than the app knows.
        `ttl_s` counts from now, when the question has come."""
        came_s = self._clock()
        with self._changed:
            while True:
                now, now_s = self._now(came_s), self._clock()
                if known == now["mark"]:
                    self._taken = known
                    self._changed.notify_all()
                is_longer = now["ttl_s"] is not None and self._until_s > self._heard_s
                if known != now["mark"] or is_longer or now_s >= came_s + wait_s:
                    self._heard_s = self._until_s
                    return now
                ends_s = min(came_s + wait_s, self._until_s) if now["role"] == "active" else came_s + wait_s
                self._changed.wait(max(0.001, ends_s - now_s))

    def _now(self, came_s: float) -> Answer:
        """To a question that came then."""
        if self._said["role"] != "active":
            return self._said
        if self._until_s <= self._clock():
            return {**self._said, "role": "standby", "ttl_s": None, "mark": f"lapsed-{self._said['generation']}"}
        return {**self._said, "ttl_s": None if self._said["ttl_s"] is None else self._until_s - came_s}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """An app that is killed while it waits for our word is no failure of ours: one line, and no traceback."""
        log.debug("the app went away before it was answered: %s", sys.exc_info()[1])


def serve(role: AppRole, path: str, netns: str | None, port: Port) -> ThreadingHTTPServer:
    """On loopback of that namespace (None: ours), in a thread of its own. Raises OSError when the port is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            query = parse_qs(asked.query)
            if asked.path != path:
                self._answer(404, {"error": f"only {path} is known here"})
                return
            wait_s = min(LONGEST_WAIT_S, _number(query.get("wait", ["0"])[0]))
            self._answer(200, role.ask(query.get("known", [""])[0], wait_s))

        def _answer(self, status: int, content: Answer) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return None

    place: AbstractContextManager[None] = nullcontext() if netns is None else inside(netns)
    with place:
        server = _Server(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if found > 0 else 0.0  # not a number: neither
