"""The pod's key stays in memory, and the process that holds it has no right that it does not need (A11)."""

from __future__ import annotations

import asyncio
import base64
import os
import resource
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from hotswitch.kernel.netns import as_user
from hotswitch.model import RESCUE_UID
from hotswitch.precheck.tools import find_envoy
from hotswitch.rescue.launch import LOCK_TAKEN
from hotswitch.rescue.program import RescueProgram
from tests.rescue.authority import Pair
from tests.rescue.world import World, eventually, world

pytestmark = pytest.mark.envoy

CAP_SYS_ADMIN = 1 << 21


def forms(pair: Pair) -> list[bytes]:
    """Ways in which a key would be recognised: lines of the PEM text, base64 of it, and the secret number itself."""
    key = serialization.load_pem_private_key(pair.key, None)
    number = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    lines = pair.key.splitlines()[1:-1]
    return [*lines, base64.b64encode(pair.key)[:60], number, number.hex().encode()]


def files_of(directory: Path) -> Iterator[bytes]:
    for path in directory.rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path.read_bytes()


async def admin(w: World, path: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(w.rescue.program.admin_socket)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_key_is_in_no_file_no_argument_and_no_dump() -> None:
    async def scenario() -> None:
        async with world() as w:
            proc = Path(f"/proc/{w.rescue.process.pid}")
            pages = [await admin(w, f"/{page}") for page in ("config_dump?include_eds", "certs", "listeners", "stats")]
            assert b"shop/web|identity" in pages[0] and b"200 OK" in pages[0]
            seen = [*pages, *files_of(w.directory), *((proc / f).read_bytes() for f in ("cmdline", "environ", "maps"))]
            texts = [repr(w.rescue).encode(), repr(vars(w.rescue._server)).encode(), repr(w.rescue._guests).encode()]
            for form in forms(w.identity):
                assert not any(form in text for text in (*seen, *texts))
            held = w.rescue._server._pods["shop/web"].secrets["shop/web|identity"].wire
            assert any(form in held for form in forms(w.identity))  # the forms are ones that would be found

    asyncio.run(scenario())


def test_rights_are_the_fewest() -> None:
    async def scenario() -> None:
        async with world() as w:
            proc = Path(f"/proc/{w.rescue.process.pid}")
            status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
            assert status["Uid"].split() == status["Gid"].split() == [str(RESCUE_UID)] * 4
            assert status["Groups"].strip() == "" and status["NoNewPrivs"] == "1"
            assert {int(status[kind], 16) for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")} == {
                CAP_SYS_ADMIN
            }
            assert int(status["SigIgn"], 16) & 1 << signal.SIGXFSZ - 1  # else a full log would end it
            limits = (proc / "limits").read_text()
            assert "Max core file size        1                    1 " in limits
            assert int((proc / "coredump_filter").read_text(), 16) == 0
            assert os.readlink(proc / "cwd") == "/"

    asyncio.run(scenario())


def test_only_the_rescue_gets_to_the_socket_with_the_keys() -> None:
    async def scenario() -> None:
        async with world() as w:
            path = w.rescue.program.xds_socket
            assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_uid == RESCUE_UID
            for uid in (1337, 1000):
                with as_user(uid, uid), socket.socket(socket.AF_UNIX) as stranger, pytest.raises(PermissionError):
                    stranger.connect(str(path))
            with as_user(RESCUE_UID, RESCUE_UID), socket.socket(socket.AF_UNIX) as own:
                own.connect(str(path))

    asyncio.run(scenario())


def test_rescue_can_write_nowhere_but_in_its_corner() -> None:
    async def scenario() -> None:
        async with world() as w:
            with as_user(RESCUE_UID, RESCUE_UID):
                for name in ("bootstrap.json", "envoy.lock", "envoy.log", "started-as"):
                    with pytest.raises(PermissionError):
                        (w.directory / name).open("a").close()
                with pytest.raises(PermissionError):
                    (w.directory / "new").touch()
            fds = Path(f"/proc/{w.rescue.process.pid}/fdinfo")
            lock = [fd for fd in fds.iterdir() if _target(fd).endswith("envoy.lock")]
            assert len(lock) == 1 and "flags:\t0100000" in lock[0].read_text()  # read-only: it cannot name another pid

    asyncio.run(scenario())


def _target(fdinfo: Path) -> str:
    return os.readlink(str(fdinfo).replace("fdinfo", "fd"))


@pytest.fixture
def cores_allowed(tmp_path: Path) -> Iterator[None]:
    """As unlimited as this process may have them; a control shows that a core would be written."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, before)


def _dumps(pid: int) -> bool:
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status)


def test_abort_leaves_no_core(cores_allowed: None, tmp_path: Path) -> None:
    script = "import os, sys; os.chdir(sys.argv[1]); os.abort()"
    argv = (sys.executable, "-I", "-S", "-c", script, str(tmp_path))
    assert _dumps(os.posix_spawn(argv[0], argv, {})), "the control leaves no core: this machine cannot show it"

    async def scenario() -> None:
        async with world() as w:
            pid = w.rescue.process.pid or 0
            await w.rescue.leave()
            os.kill(pid, signal.SIGABRT)
            assert not _dumps(pid)

    asyncio.run(scenario())


def test_second_launch_finds_the_lock_taken() -> None:
    async def scenario() -> None:
        async with world() as w:
            envoy = find_envoy()
            assert envoy is not None
            pid = RescueProgram(w.directory, envoy).spawn()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == LOCK_TAKEN
            assert w.rescue.program.holder() is not None and (await w.ask()).served

    asyncio.run(scenario())


def test_wrapper_script_is_not_taken_for_envoy(tmp_path: Path) -> None:
    script = tmp_path / "envoy"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    with pytest.raises(ValueError, match="not a program file"):
        RescueProgram(tmp_path / "run", script)


def test_directory_that_the_rescue_cannot_reach_is_refused(tmp_path: Path) -> None:
    envoy = find_envoy()
    assert envoy is not None
    tmp_path.chmod(0o700)
    with pytest.raises(PermissionError, match=f"uid {RESCUE_UID} cannot pass"):
        RescueProgram(tmp_path / "run", envoy).prepare()


def test_hung_rescue_ends_itself_or_is_ended() -> None:
    """SIGSTOP: nobody is told, but `stop` gets rid of it all the same."""

    async def scenario() -> None:
        async with world() as w:
            pid = w.rescue.process.pid or 0
            os.kill(pid, signal.SIGSTOP)
            await w.rescue.stop()
            await eventually(lambda: not Path(f"/proc/{pid}").exists(), "ended")

    asyncio.run(scenario())
