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
    address: Annotated[str, typer.Option(help="Where it listens; else everywhere.")] = "",
    port: Annotated[int, typer.Option(help="0: any.")] = 8080,
    agents_port: Annotated[
        int | None, typer.Option(envvar="HOTSWITCH_AGENTS_PORT", help="Where agents are served; none: they are not.")
    ] = None,
    agents_tls: Annotated[
        Path | None, typer.Option(envvar="HOTSWITCH_AGENTS_TLS", help="A folder with tls.crt and tls.key.")
    ] = None,
    agents_clients: Annotated[
        Path | None, typer.Option(envvar="HOTSWITCH_AGENTS_CLIENTS", help="CA (PEM) of agents' own certificates.")
    ] = None,
    agents_per_address: Annotated[
        int,
        typer.Option(
            envvar="HOTSWITCH_AGENTS_PER_ADDRESS", min=1, help="Agents of one address whose tokens may wait at once."
        ),
    ] = 64,
    journal: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None,
    cluster: Annotated[str, typer.Option(envvar="HOTSWITCH_CLUSTER", help="Its name, in alerts.")] = "",
    docs_url: Annotated[
        str, typer.Option(envvar="HOTSWITCH_DOCS_URL", help="A code's page, with {code} in it; alerts link to it.")
    ] = "",
    lease_s: Annotated[int, typer.Option("--lease", min=2, help="Seconds a leader is one without renewing.")] = 15,
    probe_idle_s: Annotated[float, typer.Option("--probe-idle", min=0.1, help="Seconds between questions.")] = 2.0,
    endpoints: Annotated[
        bool,
        typer.Option("--endpoints", envvar="HOTSWITCH_ENDPOINTS", help="Publish Services that ask for it."),
    ] = False,
    roles_port: Annotated[int, typer.Option("--roles-port", help="Where pods ask their role. 0: any.")] = 8081,
    keepers: Annotated[
        str, typer.Option("--keepers", envvar="HOTSWITCH_KEEPERS", help="Accounts that may confirm fences, by commas.")
    ] = "",
    trust_domain: Annotated[str, typer.Option("--trust-domain", help="Of SPIFFE ids.")] = "cluster.local",
    clusters: Annotated[
        list[str] | None,
        typer.Option("--cluster-of", help="A further cluster: NAME=KUBECONFIG[#CONTEXT]."),
    ] = None,
    xds_port: Annotated[
        int | None,
        typer.Option("--xds-port", envvar="HOTSWITCH_XDS_PORT", help="Where Envoy and gRPC subscribe. None: nowhere."),
    ] = None,
    xds_certificate: Annotated[
        Path | None, typer.Option(envvar="HOTSWITCH_XDS_CERTIFICATE", help="PEM, of xDS; none: plaintext.")
    ] = None,
    xds_key: Annotated[Path | None, typer.Option(envvar="HOTSWITCH_XDS_KEY", help="PEM, of xDS.")] = None,
    xds_clients: Annotated[
        Path | None, typer.Option(envvar="HOTSWITCH_XDS_CLIENTS", help="PEM: roots of who may subscribe; none: all.")
    ] = None,
    domain: Annotated[str, typer.Option("--cluster-domain", help="Of the cluster's Services.")] = "cluster.local",
) -> None:
    """Watch the mesh, decide, act where policy allows it, and tell people. Several may run; one leads."""
    from hotswitch.cluster.failure import ConnectError  # heavy: not for the other commands
    from hotswitch.controller.operator import run
    from hotswitch.controller.settings import ControllerSettings

    if (xds_certificate is None) is not (xds_key is None) or (xds_clients and xds_certificate is None):
        raise typer.BadParameter("--xds-certificate and --xds-key go together, and --xds-clients needs them")
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
        agents_port=agents_port,
        agents_tls=agents_tls,
        agents_clients=agents_clients,
        agents_per_address=agents_per_address,
        cluster=cluster,
        docs_url=docs_url,
        lease_s=lease_s,
        renew_s=lease_s / 3,
        retry_s=max(0.2, lease_s / 7.5),
        probe_idle_s=probe_idle_s,
        endpoints=endpoints,
        roles_port=roles_port,
        keepers=tuple(word.strip() for word in keepers.split(",") if word.strip()),
        trust_domain=trust_domain,
        clusters=dict(map(_cluster, clusters or ())),
        xds_port=xds_port,
        xds_certificate=xds_certificate,
        xds_key=xds_key,
        xds_clients=xds_clients,
        domain=domain,
    )
    try:
        asyncio.run(run(settings))
    except (ConnectError, OSError) as failure:
        raise fail(str(failure)) from failure


def _cluster(text: str) -> tuple[str, tuple[Path | None, str | None]]:
    name, equals, where = text.partition("=")
    path, _, context = where.partition("#")
    if not equals or not name or not path:
        raise typer.BadParameter(f"--cluster-of: {text!r}: is not NAME=KUBECONFIG or NAME=KUBECONFIG#CONTEXT")
    return name, (Path(path), context or None)
