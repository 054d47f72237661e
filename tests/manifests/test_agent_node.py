"""How the agent of a node is run: what it needs of the node, and nothing beyond (A9)."""

from __future__ import annotations

import pytest

from hotswitch.agent.node.leaving import DRAINED_WITHIN_S
from hotswitch.api.values import duration_s
from hotswitch.model import Policy
from hotswitch.sandbox.manifests import MANIFESTS, render

pytestmark = pytest.mark.unit
FOLDER = MANIFESTS / "overlays" / "agent-node"


@pytest.fixture(scope="module")
def objects():
    return render(FOLDER)


def only(kind, objects):
    (found,) = [obj for obj in objects if obj["kind"] == kind]
    return found


@pytest.fixture
def pod(objects):
    return only("DaemonSet", objects)["spec"]["template"]


@pytest.fixture
def container(pod):
    (found,) = pod["spec"]["containers"]
    return found


def test_it_shares_neither_network_nor_pids_with_its_node(pod):
    assert not any(pod["spec"].get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))


def test_it_is_not_privileged(pod, container):
    rights = container["securityContext"]
    assert (rights["privileged"], rights["allowPrivilegeEscalation"]) == (False, False)
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["capabilities"]["drop"] == ["ALL"]
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_what_it_mounts_of_the_node_is_read_only(pod, container):
    of_node = {each["name"] for each in pod["spec"]["volumes"] if "hostPath" in each}
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    assert of_node and all(mounts[name]["readOnly"] is True for name in of_node)


def test_each_capability_and_host_path_says_why():
    lines = (FOLDER / "daemon-set.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("                - ") or "hostPath:" in line:
            above = number - (2 if "hostPath:" in line else 1)
            assert lines[above].strip().startswith("# why:"), line


def test_it_writes_nothing_in_the_api(objects):
    verbs = {verb for rule in only("ClusterRole", objects)["rules"] for verb in rule["verbs"]}
    assert verbs <= {"get", "list", "watch"}
    assert not {"secrets", "configmaps"} & {
        name for rule in only("ClusterRole", objects)["rules"] for name in rule["resources"]
    }


def test_memory_is_bounded_and_cpu_never_throttled(container):
    assert container["resources"]["limits"].keys() == {"memory"}


def test_the_cleanup_has_no_more_than_the_agent(container):
    (cleanup,) = [each for each in render(MANIFESTS / "overlays" / "agent-node-remove") if each["kind"] == "DaemonSet"]
    (first,) = cleanup["spec"]["template"]["spec"]["initContainers"]
    added = first["securityContext"]["capabilities"]["add"]
    assert set(added) < set(container["securityContext"]["capabilities"]["add"])
    assert first["args"] == ["agent", "--node", "--restore-all"]
    assert first["securityContext"]["readOnlyRootFilesystem"] is True


def test_it_runs_wherever_pods_run(pod):
    assert pod["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert pod["spec"]["priorityClassName"] == "system-node-critical"


def test_nothing_of_the_controllers_lies_in_its_namespace(objects):
    assert {obj["metadata"].get("namespace", "hotswitch-agents") for obj in objects} == {"hotswitch-agents"}
    assert only("Namespace", objects)["metadata"]["labels"]["istio-injection"] == "disabled"


def test_the_grace_is_longer_than_its_patience_and_its_token_lasts_as_long(
    pod, container
):  # I1: a rollout ends no rescue
    (patience,) = [each["value"] for each in container["env"] if each["name"] == "HOTSWITCH_LEAVE_WITHIN"]
    assert Policy().open_at_most_s < duration_s(patience)
    assert duration_s(patience) + DRAINED_WITHIN_S < pod["spec"]["terminationGracePeriodSeconds"]
    (access,) = [each["projected"] for each in pod["spec"]["volumes"] if each["name"] == "controller-access"]
    lasts_s = access["sources"][0]["serviceAccountToken"]["expirationSeconds"]
    assert (
        lasts_s / 5 > pod["spec"]["terminationGracePeriodSeconds"]
    )  # renewed at four fifths; not while it is being ended
