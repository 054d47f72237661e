"""`hotswitch route explain`: in which order a Service's backends serve a pod, and why (S2.5, S2.8)."""

from __future__ import annotations

import json
import socket
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import urlopen

import typer

from hotswitch.cli.show import fail

URL = "http://127.0.0.1:8081"
TIMEOUT_S = 5.0
app = typer.Typer(help="Who gets whose requests.", no_args_is_help=True)


@app.callback()
def route() -> None:
    """Who gets whose requests."""


@app.command()
def explain(
    service: Annotated[str, typer.Argument(help="NAMESPACE/NAME, or a name in the pod's namespace.")],
    pod: Annotated[str, typer.Option("--from", help="Who asks: NAMESPACE/NAME of a pod.")],
    rule: Annotated[str, typer.Option("--rule", help="Of the Service's request rules; none: its own order.")] = "",
    url: Annotated[
        str,
        typer.Option("--url", envvar="HOTSWITCH_ROLES_URL", help="Of the leader, by kubectl port-forward."),
    ] = URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """The levels from nearest to farthest: who is there, which share of the pod's requests they get, and why."""
    namespace, slash, name = pod.partition("/")
    if not slash or not namespace or not name:
        raise typer.BadParameter(f"--from: {pod!r}: is not NAMESPACE/NAME")
    full = service if "/" in service else f"{namespace}/{service}"
    answer = _ask(url, f"/v1/route/{quote(full)}?{urlencode({'from': pod, 'rule': rule})}")
    typer.echo(json.dumps(answer, indent=2) if as_json else "\n".join(lines(answer)))


def _ask(url: str, path: str) -> dict[str, Any]:
    """The first answer that is one; who does not lead says 503."""
    sentence = f"{url}: no address"
    for base in _bases(url):
        try:
            with urlopen(base + path, timeout=TIMEOUT_S) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except HTTPError as refused:
            sentence = _sentence(refused)
            if refused.code != 503:
                break
        except (URLError, OSError, ValueError) as failure:
            sentence = f"{base}: {failure}"
    raise fail(sentence)


def _sentence(refused: HTTPError) -> str:
    try:
        return str(json.load(refused)["error"])
    except (ValueError, KeyError, TypeError):
        return f"{refused.url}: {refused.code}"


def _bases(url: str) -> list[str]:
    """One for each address behind the name. Raises Exit when it has none."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise typer.BadParameter(f"--url: {url!r}: is not http://HOST:PORT")
    port = parts.port or 80
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as failure:
        raise fail(f"{url}: {failure}") from failure
    hosts = dict.fromkeys(str(each[4][0]) for each in found)
    return [f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}" for host in hosts]


def lines(answer: dict[str, Any]) -> list[str]:
    caller = answer["caller"]
    where = ", ".join(f"{name} {caller[name]}" for name in ("node", "zone") if caller[name]) or "place unknown"
    found = [f"{caller['pod']} ({where}) asks {answer['service']}, in the order {answer['order']}"]
    found += [f"problem: {answer['problem']}"] if answer["problem"] else []
    for level in answer["levels"]:
        found.append(f"  {level['level']:<14} {level['share']:>3} %  {level['why']}")
        found += [f"                       {each}" for each in level["backends"]]
    return found if answer["levels"] else [*found, "  it has no backends"]
