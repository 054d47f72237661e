"""`hotswitch`: the commands. Every command that changes something has --dry-run; a bypass needs --for and --reason."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hotswitch import __version__
from hotswitch.cli import capture, cluster, controller, helper, keeper, route, show, start, trace
from hotswitch.cli.ask import ANSWER_TIMEOUT_S, DEFAULT_SOCKET, AgentError, ask
from hotswitch.cli.duration import seconds
from hotswitch.cli.show import fail
from hotswitch.model import Direction, Level

app = typer.Typer(
    name="hotswitch",
    help="Sees a failed Istio sidecar, proves it, lets traffic go on within milliseconds, and puts capture back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(capture.app, name="capture")
app.add_typer(cluster.app, name="mesh")
app.add_typer(route.app, name="route")
app.command()(controller.controller)
app.command()(keeper.keeper)
app.command()(trace.trace)
for command in (helper.helper, helper.order, helper.truth):
    app.command()(command)

SocketOption = Annotated[Path, typer.Option("--socket", help="The agent's control socket.", envvar="HOTSWITCH_SOCKET")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
Pod = Annotated[str, typer.Argument(help="namespace/name, name, or uid.")]
AnyPod = Annotated[str, typer.Argument(help="namespace/name, name, or uid; all pods when left out.")]


def asked(path: Path, timeout_s: float = ANSWER_TIMEOUT_S, **request: Any) -> dict[str, Any]:
    try:
        return ask(path, request, timeout_s)
    except AgentError as failure:
        raise fail(str(failure)) from failure


def told(answer: dict[str, Any], as_json: bool, lines: list[str]) -> None:
    typer.echo(json.dumps(answer, indent=2) if as_json else "\n".join(lines))


DRILL_PATIENCE_S = 120.0  # another one may be under way, and what follows is waited for


def duration(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as failure:
        raise typer.BadParameter(str(failure)) from failure


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def agent(
    config: Annotated[
        Path | None, typer.Option("--config", help="The agent's file (docs/reference/agent-file.md).")
    ] = None,
    check_only: Annotated[bool, typer.Option("--check", help="With --config: check the file and end.")] = False,
    node: Annotated[bool, typer.Option("--node", help="Of this node's pods; told by its environment.")] = False,
    pod: Annotated[bool, typer.Option("--pod", help="Of the pod it is in; told by its environment.")] = False,
    restore_all: Annotated[
        bool, typer.Option("--restore-all", help="With --node: take hotswitch out of all pods of the node, and end.")
    ] = False,
) -> None:
    """Protect pods until SIGTERM: those of a file (SIGHUP reads it again), of a node, or the one it is in."""
    if (config is not None) + node + pod != 1:
        raise typer.BadParameter("give exactly one of --config, --node and --pod")
    if restore_all and not node:
        raise typer.BadParameter("--restore-all goes with --node")
    if config is None:
        start.here("--node" if node else "--pod", restore_all=restore_all)
    else:
        _agent_of_file(config, check_only)


def _agent_of_file(config: Path, check_only: bool) -> None:
    from hotswitch.agent.agent import Agent  # heavy: not for the other commands
    from hotswitch.agent.main import run
    from hotswitch.config.agentfile import load
    from hotswitch.config.told import ConfigError

    try:
        if check_only:
            Agent.check(load(config))
            typer.echo(f"{config}: good")
        else:
            run(config)
    except (ConfigError, OSError) as failure:
        raise fail(str(failure)) from failure


@app.command()
def remove(
    config: Annotated[Path, typer.Option("--config", help="The agent's file.")],
    dry_run: DryRun = False,
) -> None:
    """Take hotswitch out again: its tables in the file's namespaces, its rescue Envoy. Stop the agent first."""
    from hotswitch.agent import removal
    from hotswitch.config.agentfile import load
    from hotswitch.config.told import ConfigError
    from hotswitch.kernel.command import CommandFailed

    try:
        settings = load(config)
        if dry_run:
            lines = removal.plan(settings)
        elif _answers(settings.socket):
            raise fail(f"{settings.socket}: an agent is running; stop it first")
        else:
            lines = asyncio.run(removal.remove(settings))
    except (ConfigError, CommandFailed, OSError) as failure:
        raise fail(str(failure)) from failure
    typer.echo("\n".join(lines))


def _answers(path: Path) -> bool:
    try:
        ask(path, {"verb": "status"})
    except AgentError:
        return False
    return True


@app.command()
def status(pod: AnyPod = "", socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """What is seen and what stands: RESCUED, DIRECT, HELD or captured, per pod and direction."""
    answer = asked(socket, verb="status", pod=pod)
    told(answer, as_json, show.status_lines(answer["pods"]))


@app.command()
def plan(pod: Pod, socket: SocketOption = DEFAULT_SOCKET, as_json: JsonOption = False) -> None:
    """What would be done now, and if the proxy died this instant, as commands; changes nothing."""
    answer = asked(socket, verb="plan", pod=pod)
    dies = show.plan_lines(answer["if_proxy_dies"])
    told(answer, as_json, ["now:", *show.plan_lines(answer["now"]), "if the proxy died:", *dies, *answer["stand_in"]])


@app.command()
def bypass(
    pod: Pod,
    for_: Annotated[str, typer.Option("--for", help="How long, like 30m; then capture comes back by itself.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the journal.")],
    level: Annotated[Level, typer.Option("--level", help="rescue, direct or hold; what policy allows.")] = Level.RESCUE,
    direction: Annotated[list[Direction] | None, typer.Option("--direction", help="Both when left out.")] = None,
    dry_run: DryRun = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Lead a pod's new flows past its proxy, for a time and for a reason. Obeys the policy like hotswitch itself."""
    if level is Level.CAPTURE:
        raise typer.BadParameter("--level capture is `hotswitch restore`")
    ways = [str(way) for way in direction or list(Direction)]
    _order(
        socket, as_json, verb="bypass", pod=pod, level=str(level), directions=ways, for_s=duration(for_), reason=reason,
        dry_run=dry_run,
    )  # fmt: skip


@app.command()
def restore(
    pod: Pod,
    for_: Annotated[str, typer.Option("--for", help="Keep captured that long, whatever is seen.")] = "0",
    reason: Annotated[str, typer.Option("--reason", help="Why; needed with --for.")] = "",
    dry_run: DryRun = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Put capture back: end an order. Without --for, hotswitch goes on judging and may open again."""
    _order(socket, as_json, verb="restore", pod=pod, for_s=duration(for_), reason=reason, dry_run=dry_run)


def _order(socket: Path, as_json: bool, **request: Any) -> None:
    answer = asked(socket, **request)
    if "plan" in answer:
        told(answer, as_json, ["would do:", *show.plan_lines(answer["plan"])])
    else:
        told(
            answer, as_json, [*show.plan_lines(answer["done"], "nothing had to be done"), *show.status_lines([answer])]
        )


@app.command()
def drill(
    pod: Pod,
    for_: Annotated[str, typer.Option("--for", help="How long, like 5s; a minute at most.")] = "5s",
    dry_run: DryRun = False,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """Lead a well pod's new inbound flows to its rescue for seconds, ask its app that way, and lead them back. Exit
    code 1 when it failed or was refused."""
    for_s = duration(for_)
    answer = asked(socket, DRILL_PATIENCE_S + for_s, verb="drill", pod=pod, for_s=for_s, dry_run=dry_run)
    told(answer, as_json, show.drill_lines(answer))
    if answer.get("refusal") or answer.get("result", "passed") != "passed":
        raise typer.Exit(1)


@app.command()
def history(
    pod: AnyPod = "",
    last: Annotated[int, typer.Option("--last", help="How many entries.", min=1)] = 50,
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """What was done: who, why, rules before and after, how long."""
    answer = asked(socket, verb="history", pod=pod, last=last)
    told(answer, as_json, show.history_lines(answer["entries"]))


@app.command()
def evidence(
    pod: AnyPod = "",
    name: Annotated[str, typer.Option("--name", help="Of this fault only, as the list names it.")] = "",
    file: Annotated[str, typer.Option("--file", help="With --name: print this file of it.")] = "",
    socket: SocketOption = DEFAULT_SOCKET,
    as_json: JsonOption = False,
) -> None:
    """What was kept of faults: a directory for each, with the proxy's last words; nothing secret is in them."""
    if file and not name:
        raise typer.BadParameter("--file needs --name")
    answer = asked(socket, verb="evidence", pod=pod, name=name, file=file)
    told(answer, as_json, [answer["content"]] if file else show.evidence_lines(answer))


@app.command("uninstall-check")
def uninstall_check() -> None:
    """Is anything of hotswitch left in a pod of this node? Changes nothing; exit code 1 when there is."""
    sys.exit(start.take_out(remove=False))


@app.command()
def check() -> None:
    """Is everything there that hotswitch needs on this machine? One sentence for each thing that is missing."""
    from hotswitch.precheck.__main__ import main

    sys.exit(main([]))


@app.command()
def demo(
    seconds_: Annotated[float, typer.Option("--seconds", help="Length of the walk through the faults.", min=20)] = 60.0,
    picture: Annotated[Path, typer.Option("--picture", help="Where the picture is written (PNG or SVG).")] = Path(
        "hotswitch-demo.png"
    ),
    plain: Annotated[bool, typer.Option("--plain", help="Plain text, as without a terminal.")] = False,
) -> None:
    """A mesh in miniature on this machine: real Envoys fail, with and without hotswitch, side by side. No cluster."""
    from hotswitch.sandbox.demo import main

    raise typer.Exit(main(seconds_, picture, plain=plain))


@app.command("demo-mesh")
def demo_mesh(
    stay: Annotated[
        bool, typer.Option("--stay", help="Break nothing; stay until ^C, for you to break things.")
    ] = False,
) -> None:
    """A cluster in miniature on this machine, hotswitch installed as shipped; sidecars fail; kubectl works on it."""
    from hotswitch.sandbox.demo_mesh import main

    raise typer.Exit(main(stay=stay))


if __name__ == "__main__":
    app()
