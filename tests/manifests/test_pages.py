"""What the documentation says of rights is what the manifests give, tier by tier."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hotswitch.sandbox.manifests import MANIFESTS, render
from tests.manifests.shipped import OPT_INS, TIERS, rights, tier, with_opt_ins

pytestmark = pytest.mark.unit
DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"^\| `?(\w+)`? \| (.+?) \| .+? \| .+? \|$", re.MULTILINE)
WHERE = {"in its namespace": "hotswitch-system", "in Istio's root namespace": "istio-system"}
KIND = re.compile(r"(?:of )?`([\w/.-]+)`")


def documented():
    """Tier or opt-in -> rights, as shipped.rights has them."""
    text = (DOCS / "reference" / "rights.md").read_text().split("## Kept to its own keys")[0]
    found: dict[str, set[tuple[str, str, str, str, str]]] = {}
    for where, right in ROW.findall(text):
        found.setdefault(where, set()).update(parsed(right))
    return found


def parsed(right):
    first, _, rest = right.partition(": ")
    namespace = WHERE.get(first, "")
    resources: list[tuple[str, str]] = []
    for part in (rest if namespace else right).split(";"):
        words, _, verbs = part.partition(": ")
        kinds, _, named = words.partition("of `")
        if found := KIND.findall(kinds):
            resources = [tuple(reversed(split(kind))) for kind in found]
        for group, resource in resources:
            for verb in verbs.split(", "):
                yield (namespace, group, resource, named.rstrip("`"), verb.strip())


def split(kind):
    """`hotswitchpolicies/status.hotswitch.io` -> resource, group."""
    resource, _, group = kind.partition(".")
    return resource, group


def test_each_tier_is_documented_as_it_is(tmp_path):
    said = documented()
    given: set = set()
    for number, name in enumerate(TIERS):
        assert said.pop(str(number)) == rights(tier(name)) - given
        given = rights(tier(name))
    for component in OPT_INS:
        folder = tmp_path / component
        folder.mkdir()
        assert said.pop(component) == rights(render(with_opt_ins(folder, TIERS[-1], component))) - given
    assert said.pop("agent") == rights(render(MANIFESTS / "overlays" / "agent-node"))
    assert said.pop("peer") == rights(render(MANIFESTS / "overlays" / "peer"))
    assert said.keys() <= {"tier", "where"}


def test_each_capability_of_the_nodes_agent_is_documented():
    (agent,) = [each for each in render(MANIFESTS / "overlays" / "agent-node") if each["kind"] == "DaemonSet"]
    (container,) = agent["spec"]["template"]["spec"]["containers"]
    text = (DOCS / "reference" / "rights.md").read_text().split("## The agent of a node")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)
    assert listed == container["securityContext"]["capabilities"]["add"]


def test_each_admission_policy_is_documented():
    text = (DOCS / "reference" / "rights.md").read_text()
    kind = "ValidatingAdmissionPolicy"
    policies = {obj["metadata"]["name"] for obj in tier(TIERS[-1]) if obj["kind"] == kind}
    assert policies == set(re.findall(r"^\| `(hotswitch-[\w-]+)` \|", text, re.MULTILINE))


def test_going_down_a_tier_removes_all_that_it_added(tmp_path):
    text = (DOCS / "how-to" / "install.md").read_text()
    removed = set(re.findall(r"kubectl delete clusterrole,clusterrolebinding ([\w -]+?) --ignore", text))
    names = {name for line in removed for name in line.split()}
    objects = render(with_opt_ins(tmp_path, TIERS[-1], *OPT_INS))
    roles = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "ClusterRole"}
    assert roles - {"hotswitch-controller"} == names


def test_folders_that_are_named_exist():
    text = (DOCS / "how-to" / "install.md").read_text()
    named = set(re.findall(r"manifests/[\w./-]+[\w]", text))
    assert named and [path for path in named if not (MANIFESTS.parent / path).exists()] == []
