"""The agent's file: errors name field and value; defaults give nothing away (I2)."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotswitch.config.agentfile import AgentFile, load, parse
from hotswitch.config.told import ConfigError
from hotswitch.model import Level, Mode, Mtls

pytestmark = pytest.mark.unit

POD = {
    "name": "web-0",
    "uid": "u1",
    "netns": "/run/netns/web-0",
    "addresses": ["10.0.0.1"],
    "capture": {"args": ["-p", "15001"]},
}


def with_pod(**changes: Any) -> dict[str, Any]:
    return {"pods": [{**POD, **changes}]}


def test_defaults_give_nothing_away() -> None:  # I2
    policy = parse(with_pod()).pods[0].policy.policy()
    assert (policy.mode, policy.mtls) == (Mode.OBSERVE, Mtls.STRICT)
    assert Level.DIRECT not in (*policy.inbound, *policy.outbound)


def test_an_empty_file_guards_nobody() -> None:
    assert parse(None) == AgentFile()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"pods": [{}]}, ["pods.0.name: is missing"]),
        (with_pod(app={"ports": [0]}), ["pods.0.app.ports.0", "given: 0"]),
        (with_pod(policy={"mtls_by_port": {0: "STRICT"}}), ["pods.0.policy.mtls_by_port", "given: {0"]),
        (with_pod(policy={"mode": "yes"}), ["pods.0.policy.mode: is none of auto, observe, off", "'yes'"]),
        (
            with_pod(policy={"mode": False}),
            ["pods.0.policy.mode: is none of auto,", "False; YAML takes off"],
        ),
        (with_pod(policy={"inbound": ["resque"]}), ["pods.0.policy.inbound", "is none of", "rescue", "'resque'"]),
        (with_pod(policy={"dependencies": {"no-config": "say"}}), ["pods.0.policy.dependencies: is none of"]),
        (with_pod(policy={"inbound": ["rescue", "rescue"]}), ["inbound", "twice"]),
        (with_pod(policy={"expiry_s": 0}), ["pods.0.policy.expiry_s", "given: 0"]),
        (with_pod(policy={"expiry_s": 7200}), ["expiry_s 7200", "open_at_most_s"]),
        (with_pod(policy={"profle": "fast"}), ["pods.0.policy.profle: there is no such field", "'fast'"]),
        (with_pod(addresses=["10.0.0.300"]), ["pods.0.addresses.0", "10.0.0.300"]),
        (with_pod(capture={}), ["pods.0.capture", "exactly one"]),
        (with_pod(identity={"socket": "/s", "spiffe_id": "nobody"}), ["spiffe_id", "nobody"]),
        ({"pods": [POD, POD]}, ["uid u1 is given twice"]),
        ({"budget": {"node": -1}}, ["budget.node", "-1"]),
        ([1, 2], ["file"]),
    ],
)
def test_a_wrong_field_is_named_with_its_value(content: object, named: list[str]) -> None:
    with pytest.raises(ConfigError) as failure:
        parse(content, "agent.yaml")
    assert all(part in str(failure.value) for part in ["agent.yaml", *named])


def test_a_file_that_is_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("pods: [")
    with pytest.raises(ConfigError, match=r"agent\.yaml: not YAML"):
        load(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*POD, "policy", "pods"]), inner),
    max_leaves=12,
)


@given(JSON)
def test_no_content_is_a_traceback(content: object) -> None:
    try:
        assert isinstance(parse(content), AgentFile)
    except ConfigError as failure:
        assert str(failure)
