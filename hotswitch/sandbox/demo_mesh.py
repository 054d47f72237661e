"""`hotswitch demo-mesh`: a cluster in miniature, hotswitch installed as it is shipped, and sidecars that fail.

An embedded Kubernetes API, a node whose pods are namespaces with real Envoys, and the controller as a process with the
rights of its ServiceAccount. Here is only the frame: what is missing is said in a sentence before anything is made; ^C
and SIGTERM remove everything. Start reading at `mesh_play`.
"""

from __future__ import annotations

import asyncio
import sys

from hotswitch.sandbox.demo import PACKAGES as DEMO_PACKAGES
from hotswitch.sandbox.demo import missing

PACKAGES = ("aiohttp", "kopf", "kubernetes", "jsonpatch", "celpy")


def main(*, stay: bool) -> int:
    """Exit code: 0 all as it should be, 1 not, or interrupted, or something is missing; a sentence says what."""
    problems = missing((*DEMO_PACKAGES, *PACKAGES)) or _played(stay)
    for problem in problems:
        print(f"hotswitch demo-mesh: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _played(stay: bool) -> list[str]:
    from hotswitch.sandbox.mesh_play import play  # heavy, and needs what was just looked for

    try:
        return asyncio.run(play(stay=stay))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return [] if stay else ["interrupted; everything that was made has been removed"]
    except (OSError, RuntimeError, ValueError) as failure:  # CommandFailed and TimeoutError are among them
        return [f"{str(failure) or type(failure).__name__}; everything that was made has been removed"]
