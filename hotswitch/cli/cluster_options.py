"""What the verbs of `kubectl hotswitch` share: options that say which cluster and which pods, and the asking itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from hotswitch.cli.show import fail

T = TypeVar("T")
Kubeconfig = Annotated[Path | None, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="Else as kubectl finds it.")]
Context = Annotated[str | None, typer.Option("--context", help="Of the kubeconfig.")]
Root = Annotated[str, typer.Option("--root-namespace", envvar="HOTSWITCH_ROOT_NAMESPACE", help="Istio's.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Where the name says none.")]
Everywhere = Annotated[str | None, typer.Option("--namespace", "-n", help="Only this one.")]
PodName = Annotated[str, typer.Argument(help="namespace/name, name, or uid.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
ROOT = "istio-system"


def asked(kubeconfig: Path | None, context: str | None, work: Callable[..., Awaitable[T]], *more: object) -> T:
    """Run `work(cluster, ...)`; what goes wrong is one sentence and exit code 1."""
    from hotswitch.cluster.client import connect
    from hotswitch.cluster.failure import ApiFailure, ConnectError
    from hotswitch.controller.snapshot import NotFound

    async def run() -> T:
        async with connect(kubeconfig, context) as cluster:
            return await work(cluster, *more)

    try:
        return asyncio.run(run())
    except (ApiFailure, ConnectError, NotFound, ValueError, OSError) as failure:
        raise fail(str(failure.args[0]) if isinstance(failure, NotFound) else str(failure)) from failure


def say(
    kubeconfig: Path | None, context: str | None, work: Callable[..., Awaitable[Iterable[str]]], *more: object
) -> None:
    """The same for work whose answer is lines: they are printed."""
    typer.echo("\n".join(asked(kubeconfig, context, work, *more)))
