"""`hotswitch mesh`, and `kubectl hotswitch`: the same verbs for a whole mesh, through the API server with the rights of
whoever asks. Nothing here acts on a pod: an order is an annotation that the controller reads, and obeys policy (I2).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotswitch.api.values import InvalidValue
from hotswitch.cli import cluster_services
from hotswitch.cli import cluster_show as show
from hotswitch.cli.cluster_options import (
    ROOT,
    Context,
    DryRun,
    Everywhere,
    Json,
    Kubeconfig,
    Namespace,
    PodName,
    Root,
    asked,
    say,
)
from hotswitch.cli.duration import seconds
from hotswitch.model import Direction, Level

if TYPE_CHECKING:
    from hotswitch.cli.cluster_order import Wanted

app = typer.Typer(
    name="mesh",
    help="Whole mesh, through the API server (also as `kubectl hotswitch`): what is seen, allowed, done; and orders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _well_formed(wanted: Wanted) -> None:
    """A wrong command line is told before anybody is asked. Raises typer.BadParameter."""
    from hotswitch.api import override
    from hotswitch.cli.cluster_order import annotations_of

    if wanted.level is not Level.CAPTURE and not wanted.for_s:
        raise typer.BadParameter("--for is nothing: say how long")
    if wanted.level is not Level.CAPTURE and not wanted.reason.strip():
        raise typer.BadParameter("--reason is empty")
    if wanted.for_s > override.LONGEST_S:
        raise typer.BadParameter("--for is more than 7 days")
    try:
        annotations_of(wanted, {})
    except InvalidValue as invalid:
        raise typer.BadParameter(f"{invalid.value!r} {invalid.why}") from invalid


def _duration(text: str) -> float:
    try:
        return seconds(text)
    except ValueError as failure:
        raise typer.BadParameter(str(failure)) from failure


@app.command()
def status(
    namespace: Everywhere = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="A live table, until ^C.")] = False,
    as_json: Json = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """CAPTURED, RESCUED, DIRECT or HELD: every pod and direction, until when, and why."""
    from hotswitch.cli import cluster_read as read

    if watch:
        asked(kubeconfig, context, read.live, root, namespace)
        return
    rows, notes = asked(kubeconfig, context, read.status, root, namespace)
    if as_json:
        typer.echo(json.dumps(show.status_json(rows, notes), indent=2))
    else:
        typer.echo("\n".join([*show.table(show.HEAD, rows), *notes]))


@app.command()
def explain(
    pod: PodName,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """Each setting of a pod and where it came from; what the preflight allows and refuses, by code."""
    from hotswitch.cli import cluster_read as read

    say(kubeconfig, context, read.explain, root, pod, namespace)


@app.command()
def analyze(
    namespace: Everywhere = None,
    as_json: Json = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """What the preflight finds in the whole mesh, by code, with the objects that cause it."""
    from hotswitch.cli import cluster_read as read

    found, invalid = asked(kubeconfig, context, read.analyze, root, namespace)
    if as_json:
        typer.echo(json.dumps(show.analysis_json(found, invalid), indent=2))
    else:
        typer.echo("\n".join(show.analysis_lines(found, invalid)))


@app.command()
def check(kubeconfig: Kubeconfig = None, context: Context = None, root: Root = ROOT) -> None:
    """Is this mesh ready for hotswitch? One line for each thing looked at; exit code 1 when something is missing."""
    from hotswitch.cli import cluster_check
    from hotswitch.decide.preflight.check import ready

    checks = asked(kubeconfig, context, cluster_check.look, root)
    typer.echo("\n".join(show.check_lines(checks)))
    if not ready(checks):
        raise typer.Exit(1)


@app.command()
def bypass(
    pod: PodName,
    for_: Annotated[str, typer.Option("--for", help="How long, like 30m; then capture comes back by itself.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the journal and on the pod.")],
    level: Annotated[Level, typer.Option("--level", help="rescue, direct or hold; what policy allows.")] = Level.RESCUE,
    direction: Annotated[Direction | None, typer.Option("--direction", help="Both when left out.")] = None,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", help="A code whose loss you accept; needs the right for it.")
    ] = None,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """Order a pod's new flows past its proxy, for a time and for a reason. Obeys policy like hotswitch itself."""
    from hotswitch.cli import cluster_order as order

    if level is Level.CAPTURE:
        raise typer.BadParameter("--level capture is `restore`")
    wanted = order.Wanted(level, direction, _duration(for_), reason, frozenset(accept or ()))
    _well_formed(wanted)
    say(kubeconfig, context, order.give, root, pod, namespace, wanted, dry_run)


@app.command()
def restore(
    pod: PodName,
    for_: Annotated[str, typer.Option("--for", help="Keep captured that long, whatever is seen.")] = "0",
    reason: Annotated[str, typer.Option("--reason", help="Why; needed with --for.")] = "",
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """End an order. Without --for, hotswitch goes on judging and may open again."""
    from hotswitch.cli import cluster_order as order

    for_s = _duration(for_)
    if for_s and not reason.strip():
        raise typer.BadParameter("--for needs --reason")
    wanted = order.Wanted(Level.CAPTURE, None, for_s, reason, frozenset())
    _well_formed(wanted)
    say(kubeconfig, context, order.give, root, pod, namespace, wanted, dry_run)


@app.command()
def drill(
    workload: Annotated[str, typer.Argument(help="namespace/kind/name or kind/name, like deploy/web; or a pod.")],
    for_: Annotated[str, typer.Option("--for", help="How long, like 5s; a minute at most.")] = "5s",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Until it has ended; exit code 1 unless it passed.")
    ] = True,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """Order a drill of one well pod of a workload, the one whose last drill is longest ago, from the controller."""
    from hotswitch.api.drills import FOR_AT_MOST_S
    from hotswitch.cli import cluster_drill

    for_s = _duration(for_)
    if not 1.0 <= for_s <= FOR_AT_MOST_S:
        raise typer.BadParameter("--for is not between 1s and 1m")
    lines, well = asked(kubeconfig, context, cluster_drill.order, root, workload, namespace, for_s, dry_run, wait)
    typer.echo("\n".join(lines))
    if not well:
        raise typer.Exit(1)


@app.command()
def history(
    pod: Annotated[str, typer.Argument(help="namespace/name, name or uid; all when left out.")] = "",
    namespace: Everywhere = None,
    as_json: Json = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """What was seen, done and refused, as the Events tell it (the API server keeps them for about an hour; the journal
    has it all)."""
    from hotswitch.cli import cluster_read as read

    found = asked(kubeconfig, context, read.history, pod, namespace)
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(show.history_lines(found)))


@app.command(name="bug-report")
def bug_report(
    to: Annotated[Path | None, typer.Option("--to", help="A .tar.gz; must not exist.")] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """Everything somebody needs to look into a problem, without secrets, in one archive."""
    from hotswitch.cli import cluster_bug_report

    path = to or Path(time.strftime("hotswitch-bug-report-%Y%m%d-%H%M%S.tar.gz"))
    say(kubeconfig, context, cluster_bug_report.write, root, path)


app.add_typer(cluster_services.app)
