"""HotSwitchPolicy's own CRD on the embedded and on a real API server: both take the good examples, both refuse the bad
ones where they are wrong and with the same words (S4.6). The model that reads policies is held to the same examples.
"""

from __future__ import annotations

import copy
import secrets
from pathlib import Path

import pytest
import yaml

from hotswitch.api.crd import crd
from hotswitch.api.names import GROUP, KIND, PLURAL, VERSION
from tests.kubeapi.client import eventually
from tests.kubeapi.realapi import mark

pytestmark = pytest.mark.parametrize(
    "api",
    [pytest.param("embedded", marks=pytest.mark.k8s), pytest.param("real", marks=mark())],
    indirect=True,
)
DATA = Path(__file__).parents[1] / "api" / "data"
GOOD = yaml.safe_load((DATA / "good.yaml").read_text())
BAD = yaml.safe_load((DATA / "bad.yaml").read_text())
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def group(api, runner):
    """The CRD under a group of the test's own: a cluster that has hotswitch keeps its own one."""
    name = f"t{secrets.token_hex(4)}.{GROUP}"
    definition = copy.deepcopy(crd())
    definition["metadata"]["name"] = f"{PLURAL}.{name}"
    definition["spec"]["group"] = name
    definition["spec"]["names"].pop("shortNames")
    runner.run(api.post(DEFINITIONS, definition))
    runner.run(eventually(lambda: served(api, name)))
    yield name
    runner.run(api.delete(f"{DEFINITIONS}/{PLURAL}.{name}"))


async def served(api, group):
    definition = await api.get(f"{DEFINITIONS}/{PLURAL}.{group}")
    conditions = (definition.get("status") or {}).get("conditions") or []
    if not any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
        return False
    return (await api.get(path(group), status=(200, 404)))["kind"] != "Status"


def path(group):
    return f"/apis/{group}/{VERSION}/namespaces/{{ns}}/{PLURAL}"


def policy(group, name, spec):
    return {"apiVersion": f"{group}/{VERSION}", "kind": KIND, "metadata": {"name": name}, "spec": spec}


async def test_good_policies_are_taken_and_kept_whole(api, group):
    for each in GOOD:
        made = await api.post(path(group), policy(group, each["name"], each["spec"]))
        assert made["spec"] == each["spec"], each["name"]


async def test_bad_policies_are_refused_where_they_are_wrong(api, group):
    for each in BAD:
        refused = await api.post(path(group), policy(group, each["name"], each["spec"]), status=422)
        field, causes = each["field"], refused["details"]["causes"]
        assert field in {cause["field"] for cause in causes}, (each["name"], causes)
        assert any(each["says"] in cause["message"] for cause in causes if cause["field"] == field), (
            each["name"],
            causes,
        )


async def test_a_policys_condition_is_written_beside_its_spec(api, group):
    await api.post(path(group), policy(group, "own", {"mode": "observe"}))
    condition = {
        "type": "Valid",
        "status": "True",
        "reason": "InForce",
        "message": "All that the policy says is in force.",
    }
    condition |= {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    body = {"spec": {"mode": "auto"}, "status": {"observedGeneration": 1, "conditions": [condition]}}
    kept = await api.patch(f"{path(group)}/own/status", body)
    assert (kept["spec"], kept["status"]) == ({"mode": "observe"}, body["status"])
