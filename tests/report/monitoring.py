"""A real Alertmanager and a real Prometheus on loopback, for as long as a test wants them."""

import asyncio
import json
import os
import socket
import subprocess
import urllib.parse
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from hotswitch.precheck.tools import find_program

STARTS_WITHIN_S = 30.0


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def running(directory, *argv):
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def alertmanager(directory, webhook_url, port=None):
    """Its URL. It tells `webhook_url` at once what it has been told; forgets a firing alert after an hour."""
    directory.mkdir()
    port = port or free_port()
    receiver = {"name": "hook", "webhook_configs": [{"url": webhook_url, "send_resolved": True}]}
    route = {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
    config = {"global": {"resolve_timeout": "1h"}, "route": route, "receivers": [receiver]}
    (directory / "alertmanager.yml").write_text(json.dumps(config))
    program = find_program("prometheus-alertmanager", "alertmanager")
    flags = (
        "--config.file=alertmanager.yml",
        "--storage.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    )
    with running(directory, *_at_home(program), program, *flags):
        yield f"http://127.0.0.1:{port}"


def _at_home(program):
    """Debian's Alertmanager opens its templates in /usr/share, also where it was only unpacked: it gets a /usr/share of
    its own, this machine's and the unpacked one in one."""
    share = Path(program).resolve().parents[1] / "share"
    if not (share / "prometheus/alertmanager").is_dir() or share == Path("/usr/share"):
        return ()
    privilege = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    mount = f"mount -t overlay overlay -o lowerdir={share}:/usr/share /usr/share"
    return ("unshare", "--mount", *privilege, "sh", "-c", f'{mount} && exec "$@"', "sh")


@contextmanager
def prometheus(directory, *targets, netns=""):
    """Its URL, in the namespace where it runs. It asks each target ("host:port") four times a second."""
    directory.mkdir()
    port = free_port()
    scrape = {"job_name": "hotswitch", "scrape_interval": "250ms", "scrape_timeout": "250ms",
              "static_configs": [{"targets": [*targets]}]}  # fmt: skip
    (directory / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    flags = (
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    within = ("nsenter", f"--net={netns}") if netns else ()
    with running(directory, *within, find_program("prometheus"), *flags):
        yield f"http://127.0.0.1:{port}"


async def ready(url):
    async with asyncio.timeout(STARTS_WITHIN_S):
        while True:
            try:
                await get(f"{url}/-/ready", as_json=False)
                return
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.05)


async def get(url, as_json=True, **query):
    words = f"?{urllib.parse.urlencode(query)}" if query else ""
    async with aiohttp.ClientSession() as session, session.get(url + words) as answer:
        answer.raise_for_status()
        return await (answer.json() if as_json else answer.text())


async def alerts(url):
    """Those that fire, as Alertmanager shows them: code -> alert."""
    found = await get(f"{url}/api/v2/alerts", active="true")
    return {each["labels"]["alertname"]: each for each in found}


async def eventually(ask, wanted, within_s=20.0):
    """Ask until the answer is wanted, and return it."""
    async with asyncio.timeout(within_s):
        while not wanted(answer := await ask()):
            await asyncio.sleep(0.05)
    return answer
