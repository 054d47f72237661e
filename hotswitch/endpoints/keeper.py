"""The keeper of a pod's doorway: asks the pod's role, lets the kernel permit what was told, and confirms a fence (I7).

It runs beside the app, in the pod's own namespace (a native sidecar, started before the app), or elsewhere with a path
to it. It decides nothing: without an answer it does nothing, and the kernel shuts the doorway when time is over. The
order inside it matters: a permit is for what is left of `ttl_s` since the question was sent; a fence is confirmed only
when the kernel has shut the doorway; and once a generation was withdrawn, no later word makes it permitted again,
whatever is still on its way. Into a new generation nothing of an older one is let: flows that still stand are ended
before the first permit, and an app that asks us for its role (app_role) has taken the new one by then. One pod, one
question at a time: a plain loop, and no library beyond Python's own.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from hotswitch.decide.endpoints.activity import CONNECT_S, PAUSE_S, STANDS_S, renewal_s
from hotswitch.endpoints.app_role import AppRole, clock_s
from hotswitch.endpoints.doorway import Doorway
from hotswitch.kernel.command import CommandFailed

UNLIMITED_S = 86_400.0  # a permit without a time to live: renewed long before
LASTS_S = 0.5  # a permit for less is not called open: it may end before the next one is heard of
TAKE_S = 0.5  # how long the app is waited for at once; meanwhile nothing else is heard
log = logging.getLogger("hotswitch.endpoints.keeper")
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """`roles`: URLs of controllers; the one that leads answers, and every address behind a name is asked until it does.
    `token`: read anew for each confirmation. `app`: where the app hears its role; None: it does not ask us."""

    namespace: str
    name: str
    uid: str
    doorway: Doorway
    roles: tuple[str, ...]
    token: Callable[[], str]
    clock: Callable[[], float] = clock_s
    app: AppRole | None = None


class Keeper:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._mark, self._ttl_s = "", 0.0
        self._withdrawn = self._confirmed = 0
        self._active_in = 0  # the generation that was heard of last
        self._turns = 0  # whose turn it is to be asked
        self.generation = 0
        """The newest that was permitted."""
        self._opened = 0  # the newest whose permit lasts

    def run(self) -> None:
        """For ever. What stands in the kernel ends by itself when we do. Raises CommandFailed, FileNotFoundError when
        the doorway cannot be built: then the app must not be started."""
        if self._kept.doorway.exists:
            self.generation = self._kept.doorway.generation
        else:
            self._kept.doorway.build()
        while True:
            if not self.turn():
                time.sleep(PAUSE_S)

    def turn(self) -> bool:
        """One question. Whether it was answered, and heeded."""
        asked_s, asked_unix_s = self._kept.clock(), time.time()
        said = self._ask()
        if said is None:
            self._turns, self._mark = self._turns + 1, ""
            return False
        try:
            self.heed(said, asked_s, asked_unix_s)
        except (CommandFailed, OSError) as failure:
            log.warning("%s: the kernel cannot be told: %s", self._kept.name, failure)
            self._mark = ""
            return False
        return self._confirm(int(said["withdrawn"]))

    # ---- the kernel ----

    def heed(self, said: Answer, asked_s: float, asked_unix_s: float) -> None:
        """Let the kernel have what was said, for what is left of it since it was asked for."""
        generation, ttl_s = int(said["generation"]), said["ttl_s"]
        self._withdrawn = max(self._withdrawn, int(said["withdrawn"]))
        if said["role"] != "active" or generation <= self._withdrawn:
            self._ttl_s = 0.0
            self._tell({**said, "role": "standby", "ttl_s": None, "mark": f"standby-{generation}"}, asked_s)
            if said["mark"] != self._mark:
                self._kept.doorway.shut()
            self._mark = str(said["mark"])
            return
        self._ttl_s = UNLIMITED_S if ttl_s is None else float(ttl_s)
        self._tell(said, asked_s + self._ttl_s)
        if generation != self.generation:
            self._kept.doorway.shut()
        taken = self._is_taken(str(said["mark"]))
        self._mark = str(said["mark"]) if taken and generation == self._active_in else ""
        self._active_in = generation
        left_s = asked_s + self._ttl_s - self._kept.clock()
        if taken and left_s > 0:
            self._kept.doorway.permit(asked_unix_s + self._ttl_s, left_s, generation)
            self.generation = generation
            self._opened = generation if left_s >= LASTS_S else self._opened

    # ---- the app ----

    def _tell(self, said: Answer, until_s: float) -> None:
        if self._kept.app is not None:
            self._kept.app.say(said, until_s)

    def _is_taken(self, mark: str) -> bool:
        return self._kept.app is None or self._kept.app.is_taken(mark, min(TAKE_S, self._ttl_s))

    # ---- the controller ----

    def _ask(self) -> Answer | None:
        """At once while nothing was heard yet; else when something changes, or a permit is due to be renewed."""
        wait_s = 0.0 if not self._mark else renewal_s(self._ttl_s) if self._ttl_s > 0 else STANDS_S
        query = {"uid": self._kept.uid, "wait": f"{wait_s:.3f}", "known": self._mark}
        query["permitted"] = str(self._opened)
        status, body = self._request("GET", "", query, wait_s + CONNECT_S)
        if status != 200:
            return None
        try:
            said: Answer = json.loads(body)
            return said if {"role", "generation", "withdrawn", "ttl_s", "mark"} <= said.keys() else None
        except ValueError:
            return None

    def _confirm(self, withdrawn: int) -> bool:
        """Of the active one's own generation there is nothing to confirm."""
        if withdrawn <= self._confirmed or self._ttl_s > 0:
            return True
        query = {"uid": self._kept.uid, "generation": str(withdrawn)}
        try:
            headers = {"Authorization": f"Bearer {self._kept.token()}"}
        except OSError as failure:
            log.warning("%s: no token to confirm with: %s", self._kept.name, failure)
            return False
        status, body = self._request("POST", "/fenced", query, CONNECT_S, headers)
        if status == 200:
            self._confirmed = withdrawn
            return True
        log.warning("%s: not confirmed: %s %s", self._kept.name, status, body.decode("utf-8", "replace").strip())
        self._mark = ""  # ask again soon, and confirm again
        return False

    def _request(
        self, method: str, more: str, query: dict[str, str], timeout_s: float, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status 0: no answer."""
        turn, number = divmod(self._turns, len(self._kept.roles))
        base = urlsplit(self._kept.roles[number])
        connection: http.client.HTTPConnection
        if base.scheme == "https":  # by its name alone it is known
            connection = http.client.HTTPSConnection(base.hostname or "", base.port, timeout=timeout_s)
        else:
            address = _address(base.hostname or "", turn)
            connection = http.client.HTTPConnection(address, base.port or 80, timeout=timeout_s)
        path = f"/v1/roles/{self._kept.namespace}/{self._kept.name}{more}?{urlencode(query)}"
        try:
            connection.request(method, path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()


def _address(host: str, turn: int) -> str:
    """Each of those behind a name in its turn: who does not lead answers, too, and a resolver may put the same one
    first each time."""
    try:
        found = sorted({str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError:
        return host
    return found[turn % len(found)] if found else host
