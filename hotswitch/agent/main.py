"""`hotswitch agent`: from a file to a running agent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
from pathlib import Path

from hotswitch.agent.agent import Agent
from hotswitch.agent.control import Control
from hotswitch.config.agentfile import load

PR_SET_DUMPABLE = 4
NICE = -10
OPEN_FILES = 65536  # six descriptors a pod, and one for every probe under way


def protect_memory() -> None:
    """Private keys pass through this process: no core dump, no ptrace by others. A core pattern that is a pipe
    ignores a limit of 0, a limit of 1 stops both (kernel: fs/coredump.c)."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    core = 1 if most == resource.RLIM_INFINITY else min(1, most)  # a limit of 0 cannot be raised without the right
    resource.setrlimit(resource.RLIMIT_CORE, (core, core))


def raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


def go_first() -> None:
    """Being scheduled late is the largest part of a slow switch on a busy machine; we are idle nearly always."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)


def run(path: Path) -> None:
    """Raises ConfigError or OSError before anything has been changed."""
    serve(Agent(load(path), path))


def serve(agent: Agent) -> None:
    """Until SIGTERM. Raises as `run`."""
    protect_memory()
    raise_file_limit()
    go_first()
    asyncio.run(_run(agent))


async def _run(agent: Agent) -> None:
    control = Control(agent, agent.settings.socket)
    await agent.start()
    await control.start()
    gc.collect()
    gc.freeze()  # what was made at the start lives to the end: a collection in the hot path need not look at it
    try:
        await agent.run()
    finally:
        await control.close()
        await agent.close()
