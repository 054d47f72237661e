"""The agent's protocol: nothing is lost on the way, nothing that is not understood gives anything away (I2)."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotswitch.api.agent.checked import Malformed
from hotswitch.api.agent.grants import override_message, override_of, policy_message, policy_of
from hotswitch.api.agent.reports import (
    ability_message,
    ability_of,
    diagnosis_message,
    diagnosis_of,
    standing_message,
    standing_of,
)
from hotswitch.api.agent.v1 import agent_pb2 as wire
from hotswitch.model import (
    Capabilities,
    Dependency,
    Diagnosis,
    Direction,
    Fault,
    Generation,
    Grade,
    Level,
    Mode,
    Mtls,
    Opening,
    Override,
    PodRef,
    PodUid,
    Policy,
    Reaction,
    Standing,
    Thresholds,
)
from hotswitch.report.journal import entry
from hotswitch.report.lines import entry_of, line_message

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
MADE = Path("hotswitch/api/agent/v1")
HERE_S, THERE_S = 1000.0, 77.0  # the two clocks
POD = PodRef("web-1", "shop", PodUid("u"), "deploy/web")

POLICY = Policy(
    mode=Mode.AUTO,
    inbound=(Level.RESCUE, Level.DIRECT, Level.HOLD),
    outbound=(Level.DIRECT, Level.HOLD),
    outbound_free=True,
    mtls=Mtls.PERMISSIVE,
    mtls_by_port={8080: Mtls.STRICT},
    strict_granted=True,
    never_direct=frozenset({9000, 9001}),
    expiry_s=61.5,
    open_at_most_s=900.0,
    hold_down_s=31.0,
    hold_down_max_s=700.0,
    thresholds=Thresholds(0.1, 1, 0.02, 0.01, 0.5, 7, 2.5),
    dependencies={Dependency.CONTROL_PLANE_LOST: Reaction.PAGE},
    stale_after_s=44.0,
    certificate_ends_s=55.0,
)
STANDING = Standing(
    generation=Generation(7),
    levels={Direction.INBOUND: Level.DIRECT, Direction.OUTBOUND: Level.HOLD},
    opened_s=HERE_S - 9.0,
    expires_s=HERE_S + 50.0,
    fault=Fault.DEAD,
    fault_since_s=HERE_S - 10.0,
    hold_down_s=60.0,
    hold_down_until_s=HERE_S + 5.0,
    recent_faults_s=(HERE_S - 500.0, HERE_S - 10.0),
    openings={Direction.INBOUND: Opening(Level.DIRECT, {9000: Level.HOLD})},
    ordered=frozenset({Direction.INBOUND}),
    induced=True,
    ever_ready=True,
    said=frozenset({"HSD021"}),
)


def sent(message: Any) -> Any:
    """Through the wire."""
    return type(message).FromString(message.SerializeToString())


def test_a_policy_arrives_whole() -> None:
    assert policy_of(sent(policy_message(POLICY))) == POLICY
    assert policy_of(sent(policy_message(Policy()))) == Policy()


def test_a_standing_arrives_on_the_readers_clock() -> None:
    moved = THERE_S - HERE_S
    instants = ("opened_s", "expires_s", "fault_since_s", "hold_down_until_s")
    wanted = replace(
        STANDING,
        **{name: getattr(STANDING, name) + moved for name in instants},
        recent_faults_s=tuple(each + moved for each in STANDING.recent_faults_s),
    )  # fmt: skip
    assert standing_of(sent(standing_message(STANDING, HERE_S)), THERE_S) == wanted
    fresh = standing_of(sent(standing_message(Standing(), HERE_S)), THERE_S)
    assert replace(fresh, hold_down_until_s=0.0) == Standing()


def test_what_was_seen_arrives() -> None:
    seen = Diagnosis(Fault.HUNG, Grade.CORROBORATED, "it hangs", {"probes": "3"}, HERE_S - 2.0)
    assert diagnosis_of(sent(diagnosis_message(seen, HERE_S)), THERE_S) == replace(seen, since_s=THERE_S - 2.0)
    able = Capabilities(gate=False, gate_refusal="foreign NAT", rescue=False, rescue_refusal="none", rescue_deaths=2)
    assert ability_of(sent(ability_message(able))) == able


def test_an_order_arrives() -> None:
    order = Override({Direction.INBOUND: Level.DIRECT}, HERE_S + 60.0, "a test", "ann")
    assert override_of(sent(override_message(order, HERE_S)), THERE_S) == replace(order, until_s=THERE_S + 60.0)


def test_a_line_arrives_under_its_agents_name() -> None:
    """I8: who said it is the controller's to write down."""
    line = entry("open", POD, who="ann", generation=3, code="HSD001", why="dead", evidence={"a": "b"}, failed="")
    arrived = entry_of(sent(line_message(line)), POD, "agent on node-1")
    assert (arrived.who, arrived.pod, arrived.code, arrived.evidence) == (
        "agent on node-1: ann", "shop/web-1", "HSD001", {"a": "b"},
    )  # fmt: skip


def test_words_of_a_newer_controller_give_nothing_away() -> None:
    """Backward compatible, and careful."""
    message = policy_message(POLICY)
    message.mode = "reckless"
    message.mtls = "QUANTUM"
    message.mtls_by_port[1] = "LESS"
    message.inbound[:] = ["teleport", "rescue"]
    message.dependencies["new-thing"] = "act"
    message.dependencies["control-plane-lost"] = "act"
    read = policy_of(sent(message))
    assert (read.mode, read.mtls, read.mtls_by_port[1], read.inbound, read.dependencies) == (
        Mode.OBSERVE, Mtls.STRICT, Mtls.STRICT, (Level.RESCUE,), {},
    )  # fmt: skip


def test_an_older_controller_does_not_say_how_long_it_is_waited_for() -> None:  # I1
    message = policy_message(Policy(thresholds=Thresholds(second_within_s=7.0)))
    assert policy_of(message).thresholds.second_within_s == 7.0
    message.thresholds.ClearField("second_within_s")
    assert policy_of(message).thresholds.second_within_s == Thresholds().second_within_s


@pytest.mark.parametrize("wrong_s", [math.nan, math.inf, -1.0, 61.0])
def test_a_controller_that_would_be_waited_for_without_end(wrong_s: float) -> None:  # I1
    message = policy_message(Policy())
    message.thresholds.second_within_s = wrong_s
    with pytest.raises(Malformed, match=r"thresholds\.second_within_s"):
        policy_of(message)


def test_a_message_of_a_newer_kind_is_one_that_says_nothing() -> None:
    """As proto3 has it; both sides pass over it."""
    unknown_kind = bytes([0x9A, 0x06, 0x02, 0x08, 0x01])  # field 99, two bytes
    assert wire.ToAgent.FromString(unknown_kind).WhichOneof("said") is None
    more = wire.Beat(number=3).SerializeToString() + unknown_kind
    assert wire.Beat.FromString(more).number == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expires_in_s", math.nan),
        ("expires_in_s", math.inf),
        ("opened_age_s", -5.0),
        ("fault_age_s", 1e12),
        ("hold_down_s", math.inf),
        ("generation", 2**60),
    ],
)
def test_numbers_that_no_agent_says(field: str, value: float) -> None:
    message = standing_message(STANDING, HERE_S)
    setattr(message, field, value)
    with pytest.raises(Malformed, match=field):
        standing_of(message, THERE_S)


@pytest.mark.parametrize("field", ["levels", "openings"])
def test_directions_that_no_agent_knows(field: str) -> None:
    message = standing_message(STANDING, HERE_S)
    told = getattr(message, field)
    if field == "levels":
        told["sideways"] = "rescue"
    else:
        told["sideways"].level = "rescue"
    with pytest.raises(Malformed, match="sideways"):
        standing_of(message, THERE_S)


def test_the_code_is_made_from_the_proto_file(tmp_path: Path) -> None:
    """What `make proto` would write is what is there."""
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed: scripts/setup")
    target = tmp_path / MADE
    target.mkdir(parents=True)
    shutil.copy(ROOT / MADE / "agent.proto", target)
    command = ["-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--pyi_out=.", str(MADE / "agent.proto")]
    subprocess.run([sys.executable, *command], cwd=tmp_path, check=True)
    for name in ("agent_pb2.py", "agent_pb2.pyi"):
        assert (target / name).read_text() == (ROOT / MADE / name).read_text(), f"{name}: run make proto"
