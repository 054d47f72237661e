"""Whatever ends a sandbox, nothing of it stays in the machine: namespaces, cgroups, processes, files."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hotswitch.sandbox import estate
from hotswitch.sandbox.estate import Estate, ProcessId
from hotswitch.sandbox.sandbox import Sandbox

pytestmark = pytest.mark.envoy

OWNER = """
import asyncio, signal, sys
from hotswitch.sandbox.sandbox import Sandbox

async def main():
    async with Sandbox(ident=sys.argv[1]) as box:
        pod = await box.pod("web-0")
        client = await box.meshed("m0")
        await box.service("web", [pod])
        await pod.ready()
        load = client.load((pod.ip, 8080), rate=100, seconds=60)
        print("up", flush=True)
        if sys.argv[2] == "raise":
            raise RuntimeError("on purpose")
        await pod.faults.hang()
        await load.results()

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
asyncio.run(main())
"""


def _remains(ident: str) -> list[str]:
    """Whatever this machine has of the sandbox: asked of the machine, not of Estate."""
    names = [str(path) for path in Path("/run/netns").glob(f"hs-{ident}-*")]
    names += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"hotswitch-sandbox-hs-{ident}")]
    names += [str(path) for path in Path("/run/hotswitch-sandbox").glob(f"*{ident}*")]
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"hs-{ident}/" in words:
            names.append(words)
    return names


def _start(how: str) -> tuple[subprocess.Popen[str], str]:
    ident = f"t{secrets.token_hex(2)}"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, ident, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    if owner.stdout.readline() != "up\n":
        pytest.fail(owner.communicate()[1])
    assert len(_remains(ident)) > 5, "there is something that could be left"
    return owner, ident


def test_normal_end() -> None:
    async def story() -> str:
        async with Sandbox() as box:
            await box.pod("web-0")  # not ready yet: it ends in the middle of its start
            return box.estate.ident

    assert _remains(asyncio.run(story())) == []


def test_body_raises() -> None:
    owner, ident = _start("raise")
    _, errors = owner.communicate(timeout=90)
    assert "on purpose" in errors
    assert _remains(ident) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_with_a_hung_sidecar_and_load(number: signal.Signals) -> None:
    owner, ident = _start("wait")
    owner.send_signal(number)
    owner.communicate(timeout=90)
    assert owner.returncode != 0
    assert _remains(ident) == []


def test_interrupted_again_while_it_removes() -> None:
    owner, ident = _start("wait")
    owner.send_signal(signal.SIGINT)
    for _ in range(3):
        time.sleep(0.01)  # somewhere in the middle of the removal, which takes about 50 ms
        owner.send_signal(signal.SIGINT)
    owner.communicate(timeout=90)
    assert _remains(ident) == []


def test_owner_crashes_and_the_next_sweeps() -> None:
    owner, ident = _start("wait")
    pids = [process.pid for process in Estate(ident).processes()]
    owner.kill()
    owner.communicate(timeout=90)
    assert len(pids) >= 4
    swept = estate.sweep()
    assert f"hs-{ident}" in swept
    assert _remains(ident) == []


def test_sandbox_of_a_living_owner_is_left_alone() -> None:
    async def story() -> None:
        async with Sandbox() as box:
            assert box.estate.directory.name not in Sandbox.sweep()
            async with Sandbox() as other:
                assert other.network.node.netns != box.network.node.netns
                assert box.network.node.ipv4 == other.network.node.ipv4, "side by side with the same addresses"
            assert _remains(box.estate.ident) != []

    asyncio.run(story())


def test_stranger_with_the_same_pid_is_no_owner() -> None:
    me = ProcessId.of(os.getpid())
    assert me.alive
    assert not ProcessId(me.pid, me.started_ticks - 1).alive


@pytest.mark.parametrize("ident", ["", "UP", "a-b", "../x", "toolongname"])
def test_bad_id_is_refused(ident: str) -> None:
    with pytest.raises(ValueError, match="ident"):
        Estate(ident)


def test_taken_id_is_refused_and_changes_nothing() -> None:
    async def story() -> None:
        async with Sandbox() as box:
            with pytest.raises(FileExistsError):
                await Sandbox(ident=box.estate.ident).__aenter__()
            assert Path(box.network.node.netns).exists()

    asyncio.run(story())
