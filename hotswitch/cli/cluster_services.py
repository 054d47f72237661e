"""The verbs of `kubectl hotswitch` about Services: who serves each, and a person's word on it (S0, S2.5)."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from hotswitch.cli import cluster_show as show
from hotswitch.cli.cluster_options import (
    ROOT,
    Context,
    DryRun,
    Everywhere,
    Json,
    Kubeconfig,
    Namespace,
    Root,
    asked,
    say,
)

if TYPE_CHECKING:
    from hotswitch.cluster.client import Cluster

app = typer.Typer()


class OutputWord(StrEnum):
    ISTIO = "istio"


ServiceName = Annotated[str, typer.Argument(help="namespace/name or name of the Service.")]


@app.command()
def endpoints(
    service: Annotated[str, typer.Argument(help="namespace/name or name; all when left out.")] = "",
    namespace: Everywhere = None,
    as_tree: Annotated[bool, typer.Option("--tree", help="By zone and node.")] = False,
    output: Annotated[
        OutputWord | None, typer.Option("--output", help="istio: as ServiceEntry and DestinationRule, in YAML.")
    ] = None,
    as_bounds: Annotated[bool, typer.Option("--bounds", help="For how long nobody may answer, by what fails.")] = False,
    as_json: Json = False,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Who serves each Service that hotswitch publishes; of a single one also what happened last."""
    if as_bounds:
        from hotswitch.cli import cluster_endpoints_bounds

        typer.echo("\n".join(asked(kubeconfig, context, cluster_endpoints_bounds.shown, service, namespace)))
        return
    from hotswitch.cli import cluster_endpoints as read
    from hotswitch.cli import cluster_endpoints_show as serving

    if output is OutputWord.ISTIO:
        from hotswitch.cli.cluster_istio import documents

        async def printed(cluster: Cluster) -> str:
            return documents(await read.shown(cluster, service, namespace))

        typer.echo(asked(kubeconfig, context, printed), nl=False)
        return
    found, clusters = asked(kubeconfig, context, read.shown_with_clusters, service, namespace)
    if as_json:
        typer.echo(json.dumps(serving.as_json(found), indent=2))
        return
    lines = serving.tree(found) if as_tree else show.table(serving.HEAD, serving.rows(found))
    notes = [*serving.notes(found), *clusters]
    typer.echo("\n".join([*lines, *notes, *(serving.history(found[0]) if service else [])]))


@app.command()
def switchover(
    service: ServiceName,
    to: Annotated[str, typer.Option("--to", help="The pod that is to be active.")],
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Order a planned change of the active one. Counts while paused, too; carried out once, or refused."""
    from hotswitch.cli import cluster_endpoints_order as order

    say(kubeconfig, context, order.switchover, service, namespace, to, dry_run)


@app.command()
def pause(
    service: ServiceName,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Nobody is promoted or withdrawn but by a switchover; what has begun is finished."""
    from hotswitch.cli import cluster_endpoints_order as order

    say(kubeconfig, context, order.pause, service, namespace, True, dry_run)


@app.command()
def resume(
    service: ServiceName,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """End a pause."""
    from hotswitch.cli import cluster_endpoints_order as order

    say(kubeconfig, context, order.pause, service, namespace, False, dry_run)


@app.command()
def adopt(
    service: ServiceName,
    again: Annotated[bool, typer.Option("--again", help="Try once more, after somebody else has won.")] = False,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    root: Root = ROOT,
) -> None:
    """How an ordinary Service stands that may be taken over while bypass leaves it too few, and what would be done."""
    from hotswitch.cli import cluster_endpoints_order as order

    say(kubeconfig, context, order.adopt, root, service, namespace, again, dry_run)


@app.command()
def drain(
    pod: Annotated[str, typer.Argument(help="namespace/name or name.")],
    undo: Annotated[bool, typer.Option("--undo", help="Back into rotation.")] = False,
    dry_run: DryRun = False,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """No new flows for this pod; an active one makes room for a standby, as soon as there is one."""
    from hotswitch.cli import cluster_endpoints_order as order

    say(kubeconfig, context, order.drain, pod, namespace, undo, dry_run)
