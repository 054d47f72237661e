"""`pilot-agent` of the proxyv2 image, for those who exec it: `python -m ...pilot_agent VERSION COMMAND ...`.

What the sandbox starts as istio-proxy's own process is sandbox.pilot; this is the same program's other commands.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence

from hotswitch.capture.version import IstioVersion
from hotswitch.model import ADMIN
from hotswitch.sandbox.cluster import istio_iptables

LAST_OLD_CLEANUP = (1, 24)


def main(argv: Sequence[str]) -> int:
    """The exit code; 255 for a command line that this release does not know."""
    version = IstioVersion.of(argv[0])
    match list(argv[1:]):
        case ["istio-iptables", *words]:
            return istio_iptables.setup_or_clean(words, version)
        case ["istio-clean-iptables", *words] if not version.at_least(1, 25):
            return istio_iptables.clean_old(words, version)
        case ["version", *_]:
            print(f'version.BuildInfo{{Version:"{version}"}}')
            return 0
        case ["request", *words]:
            return _request(words)
        case ["wait", *words]:
            return _wait(words)
        case [command, *_]:
            print(f'Error: unknown command "{command}" for "pilot-agent"', file=sys.stderr)
    return istio_iptables.BAD_USAGE


def _wait(words: Sequence[str]) -> int:
    """Until the URL answers (nobody here lets it), or for so many seconds."""
    named = dict(word.removeprefix("--").partition("=")[::2] for word in words)
    time.sleep(min(float(named.get("timeoutSeconds", "60")), threading.TIMEOUT_MAX))
    return istio_iptables.FAILED


def _request(words: Sequence[str]) -> int:
    port = next((int(word.partition("=")[2]) for word in words if word.startswith("--debug-port=")), ADMIN)
    plain = [word for word in words if not word.startswith("-")]
    if len(plain) < 2:
        print("Error: accepts 2 arg(s)", file=sys.stderr)
        return istio_iptables.BAD_USAGE
    return istio_iptables.local_request(port, plain[0], plain[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
