"""What became of a drill under way, as an agent or a helper tells it, or nobody any longer (S4.4, I1)."""

from __future__ import annotations

from hotswitch.api.drills import Drilled, Result
from hotswitch.controller.agents.office import Office
from hotswitch.controller.drills.by_actuator import ByActuator
from hotswitch.controller.drills.record import UnderWay
from hotswitch.decide.drill import Heard, unheard


def of_agent(office: Office, under_way: UnderWay) -> tuple[Drilled | None, bool]:
    """And whether the agent itself has told it; None: it may still be told."""
    uid, order = under_way.pod.uid, under_way.record.id
    agent, told = office.desk.agent_of(uid), office.told(uid)
    drilled = told.state.drilled if told is not None else None
    if drilled is not None and drilled.id == order:
        return drilled, True
    heard = Heard(
        told=False,
        is_there=agent is not None and uid in agent.told,
        is_another=agent is not None and agent.holder != under_way.holder,
        ours=under_way.holder is not None,
        overdue=under_way.overdue,
    )
    if (verdict := unheard(heard)) is None:
        return None, False
    result, why = verdict
    return Drilled(id=order, result=result, why=why), False


async def of_actuator(by_actuator: ByActuator, under_way: UnderWay, term: int) -> Drilled | None:
    """`term`: of who leads now. Raises ApiFailure."""
    order, by = under_way.record.id, under_way.record.actuator
    drilled = await by_actuator.ended(under_way.pod, order, by)
    if drilled is not None or not under_way.overdue:
        return drilled
    ours = under_way.record.term == term
    what = "nobody told how it ended" if ours else "the leader changed"
    result = Result.FAILED if ours else Result.INTERRUPTED
    return Drilled(id=order, result=result, why=f"{what}: the {by} knows nothing of it")
