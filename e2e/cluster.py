"""A cluster as kubectl shows it, and requests sent from within its pods."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PROXY = "istio-proxy"
ASK = """
import sys, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=2).status)
except Exception as failure:
    print(type(failure).__name__, failure)
"""


class Failed(RuntimeError):
    """kubectl said no; the message is what it said."""


@dataclass(frozen=True)
class Kubectl:
    program: str

    @classmethod
    def found(cls) -> Kubectl | str:
        """Or a sentence that says what is missing."""
        program = shutil.which("kubectl")
        return cls(program) if program else "kubectl is missing: the end-to-end tests speak to the cluster by it"

    def __call__(self, *words: str, stdin: str | None = None, timeout_s: float = 200.0) -> str:
        done = subprocess.run(
            [self.program, *words], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if done.returncode:
            raise Failed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *words: str) -> Any:
        return json.loads(self("get", *words, "-o", "json"))

    def may(self, account: str, *words: str) -> bool:
        """As `kubectl auth can-i` answers, which ends with 1 for no."""
        try:
            return self("auth", "can-i", *words, "--as", account).strip() == "yes"
        except Failed:
            return False


@dataclass(frozen=True)
class InPod:
    kubectl: Kubectl
    namespace: str
    name: str

    @property
    def object(self) -> dict[str, Any]:
        found: dict[str, Any] = self.kubectl.get("pod", self.name, "--namespace", self.namespace)
        return found

    @property
    def address(self) -> str:
        return str(self.object["status"]["podIP"])

    def ask(self, url: str) -> str:
        """The HTTP status that the app's container gets, or what went wrong."""
        return self.run("app", "python3", "-c", ASK, url).strip()

    def run(self, container: str, *command: str) -> str:
        """What the command prints. Raises Failed."""
        where = (self.name, "--namespace", self.namespace, "--container", container)
        return self.kubectl("exec", *where, "--", *command)

    @property
    def app_restarts(self) -> int:
        return next(
            int(each["restartCount"]) for each in self.object["status"]["containerStatuses"] if each["name"] == "app"
        )

    @property
    def proxy(self) -> tuple[str, int, str]:
        """Where the proxy stands in the spec (a native sidecar is in `initContainers`), and its image."""
        spec = self.object["spec"]
        for where in ("containers", "initContainers"):
            for place, container in enumerate(spec.get(where, [])):
                if container["name"] == PROXY:
                    return where, place, container["image"]
        raise AssertionError(f"{self.name} has no {PROXY}: is the namespace injected?")

    def set_proxy_image(self, image: str) -> None:
        """The one field of a running container that may be changed: the kubelet ends it and starts the new image."""
        where, place, _ = self.proxy
        patch = [{"op": "replace", "path": f"/spec/{where}/{place}/image", "value": image}]
        self.kubectl("patch", "pod", self.name, "--namespace", self.namespace, "--type=json", "-p", json.dumps(patch))


def await_that(holds: Callable[[], bool], what: str, within_s: float = 60.0) -> float:
    """Seconds until it held. Another question every half second: the cluster's events are not ours to await."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"after {within_s:.0f} s still not: {what}")
        time.sleep(0.5)
    return time.monotonic() - began
