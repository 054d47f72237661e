"""What a controller runs by exec starts at once: nothing heavy is imported on the way from a fault to traffic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hotswitch.agent.keep import BAD_SETTINGS

pytestmark = pytest.mark.unit

HEAVY = {"typer", "pydantic", "asyncio", "hotswitch.cli.main", "msgspec", "yaml"}


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-m", "hotswitch.cli.start", *words)
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("words", "stdin"), [(("truth",), ""), (("order",), "{}")])
def test_order_and_truth_import_little(words: tuple[str, ...], stdin: str) -> None:
    code = (
        "import sys; sys.argv = ['hotswitch', *sys.argv[1:]]\nfrom hotswitch.cli.start import main\n"
        "try: main()\nexcept SystemExit as end: print(end.code, *sorted(sys.modules))"
    )
    argv = (sys.executable, "-c", code, *words, "--socket", "/run/no-such.sock")
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
    exit_code, *modules = done.stdout.split()
    assert exit_code == "1" and "no agent listens there" in done.stderr
    assert HEAVY.isdisjoint(modules)


def test_agent_keeps_no_command_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['hotswitch', *sys.argv[1:]]\nfrom hotswitch.cli.start import main\n"
        "try: main()\nexcept SystemExit as end: print(end.code, *sorted(sys.modules))"
    )
    argv = (sys.executable, "-W", "ignore", "-c", code, "agent", "--config", str(tmp_path / "none.yaml"))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    exit_code, *modules = done.stdout.split()
    assert exit_code == "1" and done.stderr.startswith("hotswitch: ") and "none.yaml" in done.stderr
    assert {"typer", "rich", "kubernetes", "aiohttp"}.isdisjoint(modules)


@pytest.mark.parametrize("where", ["node.main", "pod.agent", "helper"])
def test_agents_do_without_what_is_large(where: str) -> None:
    """For a client by models, which is there all the same for whoever asks for it."""
    code = (
        f"import importlib, sys, hotswitch.agent.{where}\nprint(*sys.modules)\nimport hotswitch.cluster.library\n"
        "print(importlib.import_module('kubernetes.aio.client').ApiClient.__module__, file=sys.stderr)"
    )
    argv = (sys.executable, "-W", "ignore", "-c", code)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert {"pydantic", "grpc", "betterproto2", "urllib3", "typer"}.isdisjoint(done.stdout.split())
    assert done.stderr.strip() == "kubernetes.aio.client.api_client"


def test_command_line_waits_for_no_client_of_a_cluster() -> None:
    code = "import sys, hotswitch.cli.main; print(*sorted(sys.modules))"
    done = subprocess.run((sys.executable, "-c", code), capture_output=True, text=True, timeout=60)
    assert "typer" in done.stdout.split()
    assert {"kubernetes", "aiohttp", "grpc", "pydantic"}.isdisjoint(done.stdout.split())


def test_order_that_is_no_json() -> None:
    done = run("order", stdin="not JSON")
    assert done.returncode == 1 and "not JSON" in done.stderr


def test_everything_else_is_the_command_line(tmp_path: Path) -> None:
    assert "Carry out the order" in run("order", "--help").stdout
    assert run("version").returncode == 0
    settings = {"pod": {"name": "p"}}
    done = run("helper", "--check", "--settings", json.dumps(settings))
    assert done.returncode == BAD_SETTINGS and "uid" in done.stderr
