"""What people were told of one pod, by whatever controller and in each way: Events, alerts, the journal (I8).

A controller that goes on from where another was killed says again what that one may not have been heard with. All of it
bears the instant or the generation of the act, so whoever reads finds each act once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from hotswitch.controller.carried import ACT_OF
from hotswitch.decide.codes import Code
from hotswitch.model import Act
from hotswitch.sandbox.cluster.published import Published
from tests.mesh.stage import Stage
from tests.report.receiving import Server

CLOSES = frozenset(code for code, act in ACT_OF.items() if act is Act.CLOSE)
ACTS = ACT_OF.keys() - {Code.RENEWED, Code.CUT}


class Words:
    def __init__(self, stage: Stage, web: Published, hook: Server) -> None:
        self._stage, self._web, self._hook = stage, web, hook
        self.begin()

    def begin(self) -> None:
        """What was told until now counts no longer."""
        self._event, self._alert = len(self._stage.events), len(self._hook.got)
        self._logged = {each.log: each.log.stat().st_size for each in self._stage.controllers}

    async def told(self, codes: Iterable[str], within_s: float) -> None:
        """Each of these once, and of acts no others. Raises AssertionError."""
        codes = sorted(codes)
        wanted = codes, [code for code in codes if code not in CLOSES], codes
        heeded = ACTS | set(codes)
        found = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while (found := (self.events(heeded), self.alerts(heeded), self.journal(heeded))) != wanted:
                    await asyncio.sleep(0.05)
        assert found == wanted, f"Events, alerts, journal: {found}, and not {wanted}"

    def events(self, heeded: set[str]) -> list[str]:
        """The end of a matter is none. One of before that was counted up is of now, unless that has one of its own: a
        successor does not know of the counting."""
        found = dict[str, str]()
        earlier = {each["metadata"]["name"] for each in self._stage.events[: self._event]}
        for each in self._stage.events[self._event :]:
            ends = each["type"] == "Normal" and each["reason"] not in CLOSES
            if each["involvedObject"]["name"] == self._web.pod.name and each["reason"] in heeded and not ends:
                found[each["metadata"]["name"]] = each["reason"]
        own = {code for event, code in found.items() if event not in earlier}
        return sorted(code for event, code in found.items() if event not in earlier or code not in own)

    def alerts(self, heeded: set[str]) -> list[str]:
        """Those that fired and ended, of one beginning; of others what was said in turn."""
        said = defaultdict[str, list[tuple[str, str]]](list)
        every = {alert["id"]: alert for alert in (json.loads(each.body) for each in self._hook.got[: self._alert])}
        for each in self._hook.got[self._alert :]:
            alert = json.loads(each.body)
            if alert["id"] in every:  # sent again, because its answer was lost
                continue
            every[alert["id"]], news = alert, (alert["status"], alert["startsAt"])
            if alert["pod"] and alert["pod"]["uid"] == self._web.uid and alert["code"] in heeded:
                said[alert["code"]] += [news] if said[alert["code"]][-1:] != [news] else []
        whole = {code: [each for each, _ in news] == ["firing", "resolved"] for code, news in said.items()}
        whole = {code: is_whole and len({at for _, at in said[code]}) == 1 for code, is_whole in whole.items()}
        return sorted(code if is_whole else f"{code}: {said[code]}" for code, is_whole in whole.items())

    def journal(self, heeded: set[str]) -> list[str]:
        lines = {(each["code"], each.get("generation", 0)) for each in self._lines() if each.get("code") in heeded}
        return sorted(code for code, _ in lines)

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Of controllers, about the pod, of what did not fail."""
        for log, size in self._logged.items():
            for line in log.read_bytes()[size:].splitlines():
                with contextlib.suppress(ValueError):  # it was killed in the midst of one
                    told = json.loads(line) if line.startswith(b'{"at"') else {}
                    if told.get("uid") == self._web.uid and not told.get("failed"):
                        yield told
