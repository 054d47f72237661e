"""`hotswitch agent`: from a file to a running agent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

from hotswitch.agent.agent import Agent
from hotswitch.agent.control import Control
from hotswitch.config.agentfile import load

PR_SET_DUMPABLE = 4
NICE = -10
M_ARENA_MAX = -8  # malloc.h
SWITCH_S = 0.0002  # a thread that lists rules or gathers evidence gives way to the hot path after this, not after 5 ms
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


def keep_little() -> None:
    """Each thread would get a heap of its own from glibc, and the work of the start leaves its heap half empty."""
    with contextlib.suppress(AttributeError):  # musl has neither
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """What the start has used and needs no more."""
    gc.collect()
    gc.freeze()  # what was made at the start lives to the end: a collection in the hot path need not look at it
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def run(path: Path) -> None:
    """Raises ConfigError or OSError before anything has been changed."""
    serve(Agent(load(path), path))


def serve(agent: Agent) -> None:
    """Until SIGTERM. Raises as `run`."""
    protect_memory()
    raise_file_limit()
    go_first()
    keep_little()
    sys.setswitchinterval(SWITCH_S)
    asyncio.run(_run(agent))


async def _run(agent: Agent) -> None:
    control = Control(agent, agent.settings.socket)
    await agent.start()
    await control.start()
    give_back()
    try:
        await agent.run()
    finally:
        await control.close()
        await agent.close()
