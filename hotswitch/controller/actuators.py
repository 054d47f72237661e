"""Which actuators this controller has: what it was given rights and means for at its start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hotswitch.act.execing import ExecActuator
from hotswitch.act.helper import HelperActuator
from hotswitch.act.order import Actuator
from hotswitch.act.tlsmode import Meshed
from hotswitch.act.turns import InTurn, Turns
from hotswitch.cluster.client import Cluster
from hotswitch.controller.seen import SeenPod
from hotswitch.controller.settings import ControllerSettings


def offered(cluster: Cluster, settings: ControllerSettings, leads: Callable[[], bool]) -> dict[str, Actuator]:
    """By the names that policies use. The API server has the last word on every single act. `leads`: whether this
    controller may still act."""
    found: list[Actuator] = [ExecActuator(cluster)]
    if settings.helper_image:
        found.append(HelperActuator(cluster, image=settings.helper_image))
    turns = Turns()
    return {each.name: InTurn(each, turns, leads) for each in found}


def meshed(cluster: Cluster, settings: ControllerSettings) -> Callable[[SeenPod, str | None, int], Meshed] | None:
    """None without istiod's address: then nobody can know when clients speak plaintext, and `direct` is not done where
    they would have to. Raises OSError when istiod's root certificate cannot be read."""
    if not settings.istiod:
        return None
    from hotswitch.act.eds_check import EdsCheck, Istiod  # brings grpc along

    roots = settings.istiod_roots.read_bytes() if settings.istiod_roots is not None else None
    clients = EdsCheck(Istiod(address=settings.istiod, roots=roots, token=_token(settings.istiod_token)))

    def of(pod: SeenPod, label_before: str | None, generation: int) -> Meshed:
        return Meshed(
            cluster=cluster,
            clients=clients,
            pod=pod.ref,
            addresses=frozenset({pod.address}),
            label_before=label_before,
            generation=generation,
        )

    return of


def _token(path: Path | None) -> Callable[[], str] | None:
    """Read anew each time: the kubelet renews it."""
    return None if path is None else lambda: path.read_text().strip()
