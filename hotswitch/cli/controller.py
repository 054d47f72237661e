"""`hotswitch controller`: the program beside istiod (S4.1)."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from hotswitch.cli.show import fail


def controller(
    kubeconfig: Annotated[Path | None, typer.Option(envvar="KUBECONFIG", help="Outside a cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Of the kubeconfig.")] = None,
    namespace: Annotated[str, typer.Option(envvar="POD_NAMESPACE", help="Its own.")] = "hotswitch-system",
    root_namespace: Annotated[
        str, typer.Option(envvar="HOTSWITCH_ROOT_NAMESPACE", help="Istio's; policies there are mesh-wide.")
    ] = "istio-system",
    identity: Annotated[str, typer.Option(envvar="POD_NAME", help="Its name, for people.")] = "controller",
    helper_image: Annotated[
        str, typer.Option(envvar="HOTSWITCH_HELPER_IMAGE", help="Of the helper container; none: not offered.")
    ] = "",
    istiod: Annotated[
        str, typer.Option(envvar="HOTSWITCH_ISTIOD", help="host:port of its xDS; needed for direct inbound.")
    ] = "",
    istiod_roots: Annotated[
        Path | None, typer.Option(envvar="HOTSWITCH_ISTIOD_ROOTS", help="Its root certificate (PEM); else plaintext.")
    ] = None,
    istiod_token: Annotated[
        Path | None, typer.Option(envvar="HOTSWITCH_ISTIOD_TOKEN", help="A token of audience istio-ca.")
    ] = None,
    address: Annotated[str, typer.Option(help="Where /healthz, /readyz and /metrics are served.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(help="0: any.")] = 8080,
    journal: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None,
    cluster: Annotated[str, typer.Option(envvar="HOTSWITCH_CLUSTER", help="Its name, in alerts.")] = "",
    docs_url: Annotated[
        str, typer.Option(envvar="HOTSWITCH_DOCS_URL", help="A code's page, with {code} in it; alerts link to it.")
    ] = "",
    lease_s: Annotated[int, typer.Option("--lease", min=2, help="Seconds a leader is one without renewing.")] = 15,
    probe_idle_s: Annotated[float, typer.Option("--probe-idle", min=0.1, help="Seconds between questions.")] = 2.0,
) -> None:
    """Watch the mesh, decide, act where policy allows it, and tell people. Several may run; one leads."""
    from hotswitch.cluster.failure import ConnectError  # heavy: not for the other commands
    from hotswitch.controller.operator import run
    from hotswitch.controller.settings import ControllerSettings

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = ControllerSettings(
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
        root_namespace=root_namespace,
        identity=identity,
        helper_image=helper_image,
        istiod=istiod,
        istiod_roots=istiod_roots,
        istiod_token=istiod_token,
        address=address,
        port=port,
        journal=journal,
        cluster=cluster,
        docs_url=docs_url,
        lease_s=lease_s,
        renew_s=lease_s / 3,
        retry_s=max(0.2, lease_s / 7.5),
        probe_idle_s=probe_idle_s,
    )
    try:
        asyncio.run(run(settings))
    except (ConnectError, OSError) as failure:
        raise fail(str(failure)) from failure
