"""May this pod be drilled now, as far as its leader can tell? Its agent judges once more by what it sees (I2, I3)."""

from __future__ import annotations

import asyncio

from hotswitch.controller.agents.granting import AGENT
from hotswitch.controller.agents.office import Office
from hotswitch.controller.drills.by_actuator import ByActuator
from hotswitch.decide import drill as rules
from hotswitch.decide.grants import scopes_of
from hotswitch.model import Facts, PodRef, Surroundings, View


def of_mesh(office: Office, under_way: str = "") -> str:
    """Why nobody may be drilled now: a sentence, or nothing. `under_way`: the pod of another drill."""
    mesh = rules.Mesh(
        cautious=office.is_cautious,
        frozen=office.frozen(),
        open=under_way or next((str(pod) for pod in office.every_open()), ""),
        sick=office.sick,
    )
    return rules.mesh_refusal(mesh)


async def of_pod(office: Office, by_actuator: ByActuator, pod: PodRef) -> str:
    """Likewise, of one pod. Raises ApiFailure."""
    agent = office.desk.agent_of(pod.uid)
    if agent is None:
        return await by_actuator.refusal(pod)
    if not agent.drills:
        return "its agent is of an earlier version, and takes no order to drill"
    told, places = agent.told.get(pod.uid), agent.allotted.places if agent.allotted is not None else {}
    if told is None:
        return "its agent has not told of it yet"
    if min(places.get(scope, 0) for scope in scopes_of(pod)) < 1:
        return "its agent has no place for it"
    protection = (await office.settings_of(pod)).protection
    if protection is None or AGENT not in protection.actuators:
        return "its settings do not let agents act"
    now_s, state = asyncio.get_running_loop().time(), told.state
    facts = Facts(at_s=now_s, identity_expires_in_s=state.identity_expires_in_s)
    view = View(now_s, pod, protection.policy, facts, state.standing, state.able, Surroundings())
    return rules.refusal(view, state.diagnosis)
