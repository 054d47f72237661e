"""An API server with many pods, in a process of its own: `python -m bench.podfarm PODS DIRECTORY`.

It prints the path of a kubeconfig once it serves. Each line on standard input, "RATE SECONDS", makes it change so many
pods a second for so long, evenly; it answers with how many events it made. Pods and events go into the embedded API's
store as bytes, so that the farm takes little of the machine's time from those who are measured.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import yaml

from bench.injected import AT, pod
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from hotswitch.sandbox.manifests import MANIFESTS

TICK_S = 0.01
ILL_ONE_IN = 401  # 2.5 sidecars a second; no divisor of the number of pods, so that it is another one in each round


def fall_ill(pod: dict[str, Any]) -> None:
    """Its sidecar, a native one, crashes again and again."""
    proxy = next(each for each in pod["status"]["initContainerStatuses"] if each["name"] == "istio-proxy")
    proxy |= {"ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}


class Farm:
    def __init__(self, api: EmbeddedApi, count: int) -> None:
        self._api, self._next = api, 0
        places = {str(pod(number)["metadata"]["namespace"]) for number in range(count)} | {"hotswitch-system"}
        api.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}} for place in sorted(places)])
        api.apply(list(yaml.safe_load_all((MANIFESTS / "base" / "crd.yaml").read_text())))
        self._pods = [msgspec.json.encode(pod(number)) for number in range(count)]
        self._table = api.catalogue.find("pods").table
        for raw in self._pods:
            api.store.put(self._table, msgspec.json.decode(raw))

    def change(self, count: int) -> None:
        """The next pods, in turn: another instant, another restart of the app; one in so many has lost its sidecar."""
        for _ in range(count):
            changed = msgspec.json.decode(self._pods[self._next % len(self._pods)])
            changed["status"]["containerStatuses"][0]["restartCount"] = self._next + 1
            changed["metadata"]["annotations"][AT] = str(time.monotonic_ns())
            if self._next % ILL_ONE_IN == 0:
                fall_ill(changed)
            self._api.store.put(self._table, changed)
            self._next += 1

    async def run(self, rate: float, seconds: float) -> int:
        """How many events were made: fewer than asked for when the machine cannot."""
        began_s, first = time.monotonic(), self._next
        while (elapsed_s := time.monotonic() - began_s) < seconds:
            self.change(int(elapsed_s * rate) - (self._next - first))
            await asyncio.sleep(TICK_S)
        return self._next - first


async def main(count: int, directory: Path) -> None:
    async with EmbeddedApi(directory=directory) as api:
        farm = Farm(api, count)
        print(api.kubeconfig(), flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            rate, seconds = (float(word) for word in line.split())
            print(await farm.run(rate, seconds), flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
