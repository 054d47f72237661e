"""`hotswitch trace POD`: the time line of a fault, from the agent's journal and, if asked, from all others' (I8)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotswitch.cli.ask import DEFAULT_SOCKET, AgentError, ask
from hotswitch.cli.show import fail

if TYPE_CHECKING:
    from hotswitch.api.status import PodStatus
    from hotswitch.cluster.client import Cluster
    from hotswitch.report.joined import Ended
    from hotswitch.report.journal import Entry


def trace(
    pod: Annotated[str, typer.Argument(help="namespace/name, name, or uid.")],
    last: Annotated[int, typer.Option("--last", help="How far back to look, in entries.", min=1)] = 500,
    agent: Annotated[
        Path | None, typer.Option("--agent", help="The agent's journal as a file, instead of asking it.")
    ] = None,
    controller: Annotated[
        Path | None, typer.Option("--controller", help="The controller's journal or log; other lines are passed over.")
    ] = None,
    api: Annotated[
        bool, typer.Option("--api", help="Also the pod's status, its Events, and its proxy's end, from the API server.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="With --api; else as kubectl finds it.")
    ] = None,
    context: Annotated[str | None, typer.Option("--context", help="Of the kubeconfig.")] = None,
    socket: Annotated[
        Path, typer.Option("--socket", help="The agent's control socket.", envvar="HOTSWITCH_SOCKET")
    ] = DEFAULT_SOCKET,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """The time line of the pod's last fault: from the first evidence to traffic, and back. With --controller or --api
    also what others say of it, by their own clocks."""
    from hotswitch.report.trace import trace as alone

    try:
        others = controller is not None or api
        entries = _agent(agent, socket, pod, last, without=others)
        if not others:
            lines = alone(entries, pod)
        else:
            lines = _joined(entries, pod, controller, (kubeconfig, context) if api else None)
    except (AgentError, OSError, ValueError) as failure:
        raise fail(str(failure)) from failure
    lines = lines or [f"{pod}: no fault in the journal"]
    typer.echo(json.dumps({"pod": pod, "lines": lines}, indent=2) if as_json else "\n".join(lines))


def _agent(journal: Path | None, socket: Path, pod: str, last: int, *, without: bool) -> list[Entry]:
    """`without`: there may be none here, and the controller has its lines. Raises AgentError, OSError."""
    from hotswitch.report.trace import entries_of

    if journal is not None:
        return list(_lines(journal))[-last:]
    if without and not socket.exists():
        return []
    return entries_of(ask(socket, {"verb": "history", "pod": pod, "last": last})["entries"])


def _lines(path: Path) -> Iterator[Entry]:
    import msgspec

    from hotswitch.report.journal import Entry

    for line in path.read_bytes().splitlines():
        with contextlib.suppress(msgspec.MsgspecError):
            yield msgspec.json.decode(line, type=Entry)


def _joined(
    entries: list[Entry], pod: str, controller: Path | None, api: tuple[Path | None, str | None] | None
) -> list[str]:
    from hotswitch.report.joined import joined

    told = list(_lines(controller)) if controller is not None else []
    events, status, ended = _asked(pod, api) if api is not None else ([], None, [])
    return joined(pod, entries, told, events, status, ended)


def _asked(pod: str, api: tuple[Path | None, str | None]) -> tuple[list[dict[str, Any]], PodStatus | None, list[Ended]]:
    """Raises ValueError with a sentence."""
    import asyncio

    from hotswitch.cluster.client import connect
    from hotswitch.cluster.failure import ApiFailure, ConnectError

    async def run() -> tuple[list[dict[str, Any]], PodStatus | None, list[Ended]]:
        async with connect(*api) as cluster:
            return await _of_api(cluster, pod)

    try:
        return asyncio.run(run())
    except (ApiFailure, ConnectError) as failure:
        raise ValueError(str(failure)) from failure


async def _of_api(cluster: Cluster, name: str) -> tuple[list[dict[str, Any]], PodStatus | None, list[Ended]]:
    """Of a pod that is gone, its Events are left. Raises ApiFailure."""
    import msgspec

    from hotswitch.cli.cluster_read import history
    from hotswitch.cli.cluster_show import read_status
    from hotswitch.cluster.failure import ApiFailure
    from hotswitch.cluster.kinds import PODS
    from hotswitch.cluster.pods import Pod

    place, _, own = name.rpartition("/")
    events = await history(cluster, name, place or "default")
    try:
        pod = msgspec.convert(await cluster.get(PODS, place or "default", own), Pod)
    except ApiFailure as failure:
        if failure.is_missing:
            return events, None, []
        raise
    return events, read_status(pod)[0], list(_ends(pod))


def _ends(pod: Any) -> Iterator[Ended]:
    from hotswitch.observe.podlife import PROXY
    from hotswitch.report.joined import Ended

    status = pod.container_status(PROXY)
    for state in (status.state, status.last_state) if status is not None else ():
        if state is not None and state.terminated is not None and state.terminated.finished_at:
            last = state.terminated
            yield Ended(PROXY, last.finished_at, f"{last.reason or 'ended'}, exit code {last.exit_code}")
