"""`hotswitch controller`: the program beside istiod (S4.1). Its options first, each a type of its own; then what is
made of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotswitch.cli.show import fail

if TYPE_CHECKING:
    from hotswitch.controller.settings import ControllerSettings

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

Kubeconfig = Annotated[Path | None, typer.Option(envvar="KUBECONFIG", help="Outside a cluster.")]
Context = Annotated[str | None, typer.Option(help="Of the kubeconfig.")]
Namespace = Annotated[str, typer.Option(envvar="POD_NAMESPACE", help="Its own.")]
RootNamespace = Annotated[
    str, typer.Option(envvar="HOTSWITCH_ROOT_NAMESPACE", help="Istio's; policies there are mesh-wide.")
]
Identity = Annotated[str, typer.Option(envvar="POD_NAME", help="Its name, for people.")]
HelperImage = Annotated[
    str, typer.Option(envvar="HOTSWITCH_HELPER_IMAGE", help="Of the helper container; none: not offered.")
]
Istiod = Annotated[
    str, typer.Option(envvar="HOTSWITCH_ISTIOD", help="host:port of its xDS; needed for direct inbound.")
]
IstiodRoots = Annotated[
    Path | None, typer.Option(envvar="HOTSWITCH_ISTIOD_ROOTS", help="Its root certificate (PEM); else plaintext.")
]
IstiodToken = Annotated[
    Path | None, typer.Option(envvar="HOTSWITCH_ISTIOD_TOKEN", help="A token of audience istio-ca.")
]
Address = Annotated[str, typer.Option(help="Where it listens; else everywhere.")]
Port = Annotated[int, typer.Option(help="0: any.")]
AgentsPort = Annotated[
    int | None, typer.Option(envvar="HOTSWITCH_AGENTS_PORT", help="Where agents are served; none: they are not.")
]
AgentsTls = Annotated[
    Path | None, typer.Option(envvar="HOTSWITCH_AGENTS_TLS", help="A folder with tls.crt and tls.key.")
]
AgentsClients = Annotated[
    Path | None, typer.Option(envvar="HOTSWITCH_AGENTS_CLIENTS", help="CA (PEM) of agents' own certificates.")
]
AgentsPerAddress = Annotated[
    int,
    typer.Option(
        envvar="HOTSWITCH_AGENTS_PER_ADDRESS", min=1, help="Agents of one address whose tokens may wait at once."
    ),
]
JournalFile = Annotated[Path | None, typer.Option(help="A file instead of standard output.")]
ClusterName = Annotated[str, typer.Option(envvar="HOTSWITCH_CLUSTER", help="Its name, in alerts.")]
DocsUrl = Annotated[
    str, typer.Option(envvar="HOTSWITCH_DOCS_URL", help="A code's page, with {code} in it; alerts link to it.")
]
Lease = Annotated[int, typer.Option("--lease", min=2, help="Seconds a leader is one without renewing.")]
ProbeIdle = Annotated[float, typer.Option("--probe-idle", min=0.1, help="Seconds between questions.")]
Endpoints = Annotated[
    bool, typer.Option("--endpoints", envvar="HOTSWITCH_ENDPOINTS", help="Publish Services that ask for it.")
]
RolesPort = Annotated[int, typer.Option("--roles-port", help="Where pods ask their role. 0: any.")]
Keepers = Annotated[
    str, typer.Option("--keepers", envvar="HOTSWITCH_KEEPERS", help="Accounts that may confirm fences, by commas.")
]
TrustDomain = Annotated[str, typer.Option("--trust-domain", help="Of SPIFFE ids.")]
ClusterOf = Annotated[
    list[str] | None,
    typer.Option("--cluster-of", help="A further cluster: NAME=KUBECONFIG, or NAME=KUBECONFIG#CONTEXT."),
]
ClustersDir = Annotated[
    Path | None,
    typer.Option(envvar="HOTSWITCH_CLUSTERS_DIR", help="A kubeconfig for each further cluster, called as it is."),
]
XdsPort = Annotated[
    int | None,
    typer.Option("--xds-port", envvar="HOTSWITCH_XDS_PORT", help="Where Envoy and gRPC subscribe. None: nowhere."),
]
XdsCertificate = Annotated[
    Path | None, typer.Option(envvar="HOTSWITCH_XDS_CERTIFICATE", help="PEM, of xDS; none: plaintext.")
]
XdsKey = Annotated[Path | None, typer.Option(envvar="HOTSWITCH_XDS_KEY", help="PEM, of xDS.")]
XdsClients = Annotated[
    Path | None, typer.Option(envvar="HOTSWITCH_XDS_CLIENTS", help="PEM: roots of who may subscribe; none: all.")
]
Domain = Annotated[str, typer.Option("--cluster-domain", help="Of the cluster's Services.")]


def controller(
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = "hotswitch-system",
    root_namespace: RootNamespace = "istio-system",
    identity: Identity = "controller",
    helper_image: HelperImage = "",
    istiod: Istiod = "",
    istiod_roots: IstiodRoots = None,
    istiod_token: IstiodToken = None,
    address: Address = "",
    port: Port = 8080,
    agents_port: AgentsPort = None,
    agents_tls: AgentsTls = None,
    agents_clients: AgentsClients = None,
    agents_per_address: AgentsPerAddress = 64,
    journal: JournalFile = None,
    cluster: ClusterName = "",
    docs_url: DocsUrl = "",
    lease_s: Lease = 15,
    probe_idle_s: ProbeIdle = 2.0,
    endpoints: Endpoints = False,
    roles_port: RolesPort = 8081,
    keepers: Keepers = "",
    trust_domain: TrustDomain = "cluster.local",
    clusters: ClusterOf = None,
    clusters_dir: ClustersDir = None,
    xds_port: XdsPort = None,
    xds_certificate: XdsCertificate = None,
    xds_key: XdsKey = None,
    xds_clients: XdsClients = None,
    domain: Domain = "cluster.local",
) -> None:
    """Watch the mesh, decide, act where policy allows it, and tell people. Several may run; one leads."""
    _run(_settings(**locals()))


def _settings(
    *, lease_s: int, keepers: str, clusters: list[str] | None, clusters_dir: Path | None, **told: Any
) -> ControllerSettings:
    """Options are called as the settings are; what differs is named here. Raises BadParameter."""
    from hotswitch.cluster.lease import retry_s
    from hotswitch.controller.settings import ControllerSettings

    certificate = told["xds_certificate"]
    if (certificate is None) is not (told["xds_key"] is None) or (told["xds_clients"] and certificate is None):
        raise typer.BadParameter("--xds-certificate and --xds-key go together, and --xds-clients needs them")
    found, misnamed = registered(clusters_dir)
    return ControllerSettings(
        lease_s=lease_s,
        renew_s=lease_s / 3,
        retry_s=retry_s(lease_s),
        keepers=tuple(word.strip() for word in keepers.split(",") if word.strip()),
        clusters=found | dict(map(_cluster, clusters or ())),
        misnamed=misnamed,
        **told,
    )


def _cluster(text: str) -> tuple[str, tuple[Path | None, str | None]]:
    name, equals, where = text.partition("=")
    path, _, context = where.partition("#")
    if not equals or not _NAME.fullmatch(name) or not path:
        raise typer.BadParameter(f"--cluster-of: {text!r}: is not NAME=KUBECONFIG or NAME=KUBECONFIG#CONTEXT")
    return name, (Path(path), context or None)


def registered(folder: Path | None) -> tuple[dict[str, tuple[Path | None, str | None]], tuple[str, ...]]:
    """Of a mounted Secret, which may not be there; what begins with .. is the mount's own. And those that are called as
    no cluster is: the others are heard all the same."""
    found = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    files = [each for each in found if not each.name.startswith("..")]
    misnamed = tuple(each.name for each in files if not _NAME.fullmatch(each.name))
    return {each.name: (each, None) for each in files if each.name not in misnamed}, misnamed


def _run(settings: ControllerSettings) -> None:
    from hotswitch.cluster.failure import ConnectError  # heavy: not for the other commands
    from hotswitch.controller.operator import run
    from hotswitch.report import loglines

    loglines.to_standard_error()
    try:
        asyncio.run(run(settings))
    except (ConnectError, OSError) as failure:
        raise fail(str(failure)) from failure
