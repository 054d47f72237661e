"""`hotswitch helper`, `order`, `truth`: the program in a pod's helper container, and what a controller runs there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hotswitch.agent.keep import BAD_SETTINGS, keep
from hotswitch.api.names import HELPER_VARIABLE
from hotswitch.cli.ask import DEFAULT_SOCKET, AgentError, ask
from hotswitch.cli.show import fail

ONCE = (sys.executable, "-m", "hotswitch.cli.main", "helper", "--once")
SocketOption = Annotated[Path, typer.Option("--socket", help="The helper's control socket.", envvar="HOTSWITCH_SOCKET")]


def helper(
    settings: Annotated[str, typer.Option("--settings", help="JSON, as the controller writes it.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Do not start again what dies.")] = False,
    check_only: Annotated[bool, typer.Option("--check", help="Check the settings and end.")] = False,
) -> None:
    """Run inside a pod: see, and act on a controller's orders. Settings come from HOTSWITCH_HELPER or --settings."""
    from hotswitch.agent import helper as program  # heavy: not for the other commands
    from hotswitch.config.told import ConfigError

    text = settings or os.environ.get(HELPER_VARIABLE, "")
    try:
        found = program.agent_file(text)
        program.HelperAgent.check(found)
        if check_only:
            typer.echo("good")
        elif once:
            program.run(text)
    except ConfigError as failure:
        fail(str(failure))
        raise typer.Exit(BAD_SETTINGS) from failure
    except OSError as failure:
        raise fail(str(failure)) from failure
    if not (check_only or once):
        raise typer.Exit(keep(ONCE, {**os.environ, HELPER_VARIABLE: text}))


def order(socket: SocketOption = DEFAULT_SOCKET) -> None:
    """Carry out the order that is read as JSON from standard input; the answer, as JSON, says what became of it."""
    try:
        given = json.load(sys.stdin)
    except ValueError as failure:
        raise fail(f"standard input: not JSON: {failure}") from failure
    _told(socket, {"verb": "order", "order": given})


def truth(socket: SocketOption = DEFAULT_SOCKET) -> None:
    """What the pod's namespace shows and what is seen of the proxy, as JSON; changes nothing."""
    _told(socket, {"verb": "truth"})


def _told(socket: Path, request: dict[str, Any]) -> None:
    try:
        answer = ask(socket, request)
    except AgentError as failure:
        raise fail(str(failure)) from failure
    typer.echo(json.dumps(answer))
