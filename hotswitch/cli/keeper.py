"""`hotswitch keeper`: beside an app, the one who lets its port be reached only while it is the active one (I7)."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import typer

from hotswitch.cli.show import fail

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def keeper(
    ports: Annotated[str, typer.Option("--ports", help="Of the Service, at the pod; by commas.")],
    roles: Annotated[str, typer.Option("--roles", envvar="HOTSWITCH_ROLES", help="URLs of role endpoints, by commas.")],
    name: Annotated[str, typer.Option("--name", envvar="POD_NAME", help="The pod's.")],
    namespace: Annotated[str, typer.Option("--namespace", envvar="POD_NAMESPACE", help="The pod's.")],
    uid: Annotated[str, typer.Option("--uid", envvar="POD_UID", help="The pod's.")],
    allow: Annotated[str, typer.Option("--allow", help="Networks that always pass: the node's, for probes.")] = "",
    token: Annotated[Path, typer.Option("--token", help="By which a fence is confirmed.")] = TOKEN,
    serve: Annotated[
        int, typer.Option("--serve", min=0, max=65535, help="Port on loopback where the app asks its role; 0: none.")
    ] = 0,
    netns: Annotated[str | None, typer.Option("--netns", help="Path of the pod's namespace; else this one.")] = None,
) -> None:
    """Shut the pod's ports, and open them for as long as a controller says that this pod is the active one."""
    from hotswitch.endpoints.app_role import AppRole
    from hotswitch.endpoints.app_role import serve as serve_role
    from hotswitch.endpoints.doorway import Doorway
    from hotswitch.endpoints.keeper import Keeper, Kept
    from hotswitch.kernel.command import CommandFailed
    from hotswitch.report import loglines

    loglines.to_standard_error()
    doorway = Doorway(netns, _ports(ports), _networks(allow))
    app = AppRole() if serve else None
    kept = Kept(
        namespace=namespace,
        name=name,
        uid=uid,
        doorway=doorway,
        roles=tuple(_words(roles)),
        token=lambda: token.read_text().strip(),
        app=app,
    )
    if not kept.roles:
        raise typer.BadParameter("--roles names no URL")
    try:
        if app is not None:
            serve_role(app, f"/v1/roles/{namespace}/{name}", netns, serve)
        Keeper(kept).run()
    except (CommandFailed, OSError) as failure:
        raise fail(str(failure)) from failure


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _ports(text: str) -> tuple[int, ...]:
    words = _words(text)
    if not words or not all(word.isdecimal() and 0 < int(word) < 65536 for word in words):
        raise typer.BadParameter(f"--ports: {text!r}: is not a list of ports")
    return tuple(map(int, words))


def _networks(text: str) -> tuple[str, ...]:
    words = _words(text)
    try:
        return tuple(str(ip_network(word, strict=False)) for word in words)
    except ValueError as failure:
        raise typer.BadParameter(f"--allow: {failure}") from failure
