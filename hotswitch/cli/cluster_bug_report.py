"""One archive with what somebody needs to look into a problem: settings, states, Events, the controller's log (S4.7).

Nothing secret is read: no Secrets, no variables or arguments of pods. What users wrote into reasons and labels is in
it, and is passed through the same redaction as the evidence of a fault.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import yaml

from hotswitch import __version__, redact
from hotswitch.api import names
from hotswitch.cli import cluster_read as read
from hotswitch.cli import cluster_show as show
from hotswitch.cluster.client import Cluster
from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import LEASES, PODS, POLICIES, Kind
from hotswitch.controller.settings import LEASE, SYSTEM_NAMESPACE

LOG_LINES = 2000
CONTROLLER = "app.kubernetes.io/component=controller,app.kubernetes.io/name=hotswitch"


async def write(cluster: Cluster, root: str, path: Path) -> list[str]:
    """What is in it. Raises FileExistsError; what cannot be read is named in the archive, and is no error."""
    if path.exists():  # before the cluster is asked for everything
        raise FileExistsError(f"{path}: is there already")
    files = {
        "version.txt": f"hotswitch {__version__}\nserver {cluster.host}\n",
        "status.txt": await _told(_status(cluster, root)),
        "analyze.txt": await _told(_analysis(cluster, root)),
        "history.txt": await _told(_history(cluster)),
        "policies.yaml": await _told(_objects(cluster, POLICIES)),
        "pods.json": await _told(_pods(cluster)),
        "lease.json": await _told(_lease(cluster)),
        **await _logs(cluster),
    }
    with tarfile.open(path, "x:gz") as archive:
        for name, text in files.items():
            content = redact.text(text).encode()
            entry = tarfile.TarInfo(f"hotswitch-bug-report/{name}")
            entry.size, entry.mtime = len(content), int(time.time())
            archive.addfile(entry, io.BytesIO(content))
    return [f"{path}:", *(f"  {name} ({len(text)} characters)" for name, text in files.items())]


async def _told(work: Any) -> str:
    try:
        return str(await work)
    except ApiFailure as failure:
        return f"cannot be read: {failure}\n"


async def _status(cluster: Cluster, root: str) -> str:
    rows, notes = await read.status(cluster, root, None)
    return "\n".join([*show.table(show.HEAD, rows), *notes])


async def _analysis(cluster: Cluster, root: str) -> str:
    return "\n".join(show.analysis_lines(*await read.analyze(cluster, root, None)))


async def _history(cluster: Cluster) -> str:
    return "\n".join(show.history_lines(await read.history(cluster, "", None)))


async def _objects(cluster: Cluster, kind: Kind) -> str:
    return yaml.safe_dump_all([_bare(each) for each in await cluster.list(kind)])


def _bare(content: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in content["metadata"].items() if key != "managedFields"}
    return {**content, "metadata": metadata}


async def _pods(cluster: Cluster) -> str:
    """Of meshed pods: our annotations, states of containers; neither variables nor arguments."""
    found = []
    for each in await cluster.list(PODS, label_selector=names.TLS_MODE_LABEL):
        about = each["metadata"]
        ours = {key: value for key, value in (about.get("annotations") or {}).items() if key.startswith(names.PREFIX)}
        found.append(
            {"pod": f"{about['namespace']}/{about['name']}", "annotations": ours, "status": each.get("status")}
        )
    return json.dumps(found, indent=2)


async def _lease(cluster: Cluster) -> str:
    return json.dumps(await cluster.get(LEASES, SYSTEM_NAMESPACE, LEASE), indent=2)


async def _logs(cluster: Cluster) -> dict[str, str]:
    found = {}
    try:
        pods = list(await cluster.list(PODS, SYSTEM_NAMESPACE, label_selector=CONTROLLER))
    except ApiFailure as failure:
        return {"logs.txt": f"cannot be read: {failure}\n"}
    for each in pods:
        name = each["metadata"]["name"]
        path = PODS.path(SYSTEM_NAMESPACE, name, "log")
        found[f"{name}.log"] = await _told(_log(cluster, path))
    return found


async def _log(cluster: Cluster, path: str) -> str:
    return (await cluster.request("GET", path, {"tailLines": str(LOG_LINES)})).decode(errors="replace")
