"""A pod's state on the wire, as the agent says it and the controller takes it (S4.2, I8). Instants become ages."""

from __future__ import annotations

from hotswitch.api.agent.checked import Malformed, count, seconds, text, word
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.api.drills import Drilled, Result
from hotswitch.model import Capabilities, Diagnosis, Direction, Fault, Generation, Grade, Level, Opening, Standing

FAULTS_AT_MOST = EVIDENCE_AT_MOST = 64


def standing_message(standing: Standing, now_s: float) -> wire.Standing:
    return wire.Standing(
        generation=standing.generation,
        levels={str(way): str(level) for way, level in standing.levels.items()},
        openings={str(way): _opening_message(each) for way, each in standing.openings.items()},
        opened_age_s=_age(standing.opened_s, now_s),
        expires_in_s=None if standing.expires_s is None else standing.expires_s - now_s,
        fault=standing.fault,
        fault_age_s=_age(standing.fault_since_s, now_s),
        recent_fault_ages_s=[max(0.0, now_s - each) for each in standing.recent_faults_s],
        hold_down_s=standing.hold_down_s,
        hold_down_left_s=max(0.0, standing.hold_down_until_s - now_s),
        induced=standing.induced,
        ordered=sorted(map(str, standing.ordered)),
        said=sorted(standing.said),
        ever_ready=standing.ever_ready,
    )


def _opening_message(opening: Opening) -> wire.Opening:
    return wire.Opening(level=opening.level, ports={port: str(level) for port, level in opening.ports.items()})


def _age(at_s: float | None, now_s: float) -> float | None:
    return None if at_s is None else max(0.0, now_s - at_s)


def standing_of(message: wire.Standing, now_s: float) -> Standing:
    """On the reader's clock. Raises Malformed."""
    levels = {word("levels", way, Direction): word("levels", each, Level) for way, each in message.levels.items()}
    if len(message.recent_fault_ages_s) > FAULTS_AT_MOST:
        raise Malformed(f"recent_fault_ages_s: {len(message.recent_fault_ages_s)} are too many")
    faults = sorted(seconds("recent_fault_ages_s", each) for each in message.recent_fault_ages_s)
    return Standing(
        generation=Generation(count("generation", message.generation)),
        levels={**Standing().levels, **levels},
        openings={word("openings", way, Direction): _opening(each) for way, each in message.openings.items()},
        opened_s=_instant(message, "opened_age_s", now_s),
        expires_s=now_s + seconds("expires_in_s", message.expires_in_s, at_least=-60.0)
        if message.HasField("expires_in_s")
        else None,
        fault=_fault(message.fault),
        fault_since_s=_instant(message, "fault_age_s", now_s),
        recent_faults_s=tuple(now_s - each for each in reversed(faults)),
        hold_down_s=seconds("hold_down_s", message.hold_down_s),
        hold_down_until_s=now_s + seconds("hold_down_left_s", message.hold_down_left_s),
        induced=message.induced,
        ordered=frozenset(word("ordered", each, Direction) for each in message.ordered),
        said=frozenset(text(each) for each in list(message.said)[:FAULTS_AT_MOST]),
        ever_ready=message.ever_ready,
    )


def _opening(message: wire.Opening) -> Opening:
    ports = {count("ports", int(port), 65535): word("ports", level, Level) for port, level in message.ports.items()}
    return Opening(word("level", message.level, Level), ports)


def _instant(message: wire.Standing, name: str, now_s: float) -> float | None:
    return now_s - seconds(name, getattr(message, name)) if message.HasField(name) else None


def _fault(said: str) -> Fault:
    """A newer agent may know others."""
    return Fault(said) if said in set(Fault) else Fault.UNKNOWN


def diagnosis_message(diagnosis: Diagnosis, now_s: float) -> wire.Diagnosis:
    return wire.Diagnosis(
        fault=diagnosis.fault,
        grade=diagnosis.grade,
        sentence=diagnosis.sentence,
        evidence=dict(diagnosis.evidence),
        age_s=_age(diagnosis.since_s, now_s),
    )


def diagnosis_of(message: wire.Diagnosis, now_s: float) -> Diagnosis:
    """On the reader's clock. Raises Malformed."""
    since_s = now_s - seconds("diagnosis.age_s", message.age_s) if message.HasField("age_s") else None
    grade = Grade(message.grade) if message.grade in set(Grade) else Grade.NONE
    evidence = {text(name): text(why) for name, why in list(message.evidence.items())[:EVIDENCE_AT_MOST]}
    return Diagnosis(_fault(message.fault), grade, text(message.sentence), evidence, since_s)


def drilled_message(drilled: Drilled | None) -> wire.Drilled | None:
    if drilled is None:
        return None
    return wire.Drilled(
        id=drilled.id,
        result=drilled.result,
        why=drilled.why,
        served=drilled.served,
        lost=drilled.lost,
        durations_s=dict(drilled.durations_s),
    )


def drilled_of(message: wire.Drilled) -> Drilled:
    """Raises Malformed."""
    return Drilled(
        id=text(message.id),
        result=word("drilled.result", message.result, Result),
        why=text(message.why),
        served=message.served,
        lost=message.lost,
        durations_s={
            text(name): seconds("drilled.durations_s", each) for name, each in list(message.durations_s.items())[:8]
        },
    )


def ability_message(able: Capabilities) -> wire.Ability:
    return wire.Ability(
        gate_refusal="" if able.gate else able.gate_refusal or "it does not say why",
        rescue_refusal="" if able.rescue else able.rescue_refusal or "it does not say why",
        rescue_deaths=able.rescue_deaths,
    )


def ability_of(message: wire.Ability) -> Capabilities:
    return Capabilities(
        gate=not message.gate_refusal,
        gate_refusal=text(message.gate_refusal),
        rescue=not message.rescue_refusal,
        rescue_refusal=text(message.rescue_refusal),
        rescue_deaths=message.rescue_deaths,
    )
