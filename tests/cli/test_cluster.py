"""`hotswitch mesh` before an API server with the shipped manifests: what it shows, orders and refuses; what goes wrong
is one sentence on standard error and an exit code (S4.6, I2, I4).
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import tarfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hotswitch.api import names
from hotswitch.cli.cluster import app
from hotswitch.model import Direction, Level
from tests.controller.test_refusals import istio
from tests.controller.town import POLICY, Town, town

pytestmark = pytest.mark.k8s

STRICT = istio("PeerAuthentication", {"mtls": {"mode": "STRICT"}})
FOR = ("--for", "5m", "--reason", "INC-4711: wedged")
LOOKER = "system:serviceaccount:shop:looker"
Story = Callable[[Town], Coroutine[Any, Any, None]]


def told(story: Story, **more: Any) -> None:
    async def within() -> None:
        async with town(**more) as made:
            await made.pod("web-0")
            await story(made)

    asyncio.run(within())


async def mesh(made: Town, *words: str, account: str = "") -> Result:
    kubeconfig = made.api.kubeconfig(account) if account else made.api.kubeconfig()
    environment = {"KUBECONFIG": str(kubeconfig), "COLUMNS": "200"}
    return await asyncio.to_thread(CliRunner().invoke, app, list(words), env=environment)


def policy(**spec: Any) -> dict[str, Any]:
    changed = copy.deepcopy(POLICY)
    changed["spec"] |= spec
    return changed


def grant(made: Town, account: str, *rules: tuple[str, str, str]) -> None:
    """Rules (group, resource, verb) in the namespace shop."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "given", "namespace": "shop"}}
    rows = [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for group, resource, verb in rules]
    _, _, space, name = account.split(":")
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "given"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": space}],
    }
    made.api.admin.apply([{**role, "kind": "Role", "rules": rows}, {**role, "kind": "RoleBinding", **binding}])


def test_order_is_shown_until_it_is_carried_out_and_can_be_taken_back() -> None:
    async def story(made: Town) -> None:
        dry = await mesh(made, "bypass", "shop/web-0", *FOR, "--dry-run")
        assert dry.exit_code == 0 and names.OVERRIDE not in made.annotations("web-0")
        ordered = await mesh(made, "bypass", "shop/web-0", *FOR)
        assert ordered.exit_code == 0, ordered.output
        assert made.annotations("web-0")[names.OVERRIDE] == "rescue"
        assert "outbound rescue: the settings do not list it" in ordered.stdout
        shown = json.loads((await mesh(made, "status", "--json")).stdout)
        assert shown["pods"][0]["why"].endswith("INC-4711: wedged")
        taken = await mesh(made, "restore", "shop/web-0")
        assert taken.exit_code == 0 and names.OVERRIDE not in made.annotations("web-0")
        assert (await mesh(made, "restore", "shop/web-0")).stdout == "nothing is ordered\n"

    told(story)


def test_order_is_carried_out_by_the_controller_and_told_in_the_status() -> None:
    async def story(made: Town) -> None:
        async with made.controller():
            await made.until(lambda: "leader: c0" in _status(made), "a leader")
            await mesh(made, "bypass", "shop/web-0", *FOR, "--direction", "inbound")
            await made.until(lambda: _is(made, Direction.INBOUND, Level.RESCUE), "opened")
            shown = await mesh(made, "status")
            assert "RESCUED" in shown.stdout and "leader: c0" in shown.stdout
            assert "open: 1 of 1 pods; the mesh's budget is 1" in shown.stdout
            await made.until(lambda: made.codes("web-0"), "an Event")
            assert "HSD005" in (await mesh(made, "history", "shop/web-0")).stdout

    told(story)


def _status(made: Town) -> str:
    leases = made.api.admin.list("leases", "hotswitch-system")
    return f"leader: {leases[0]['spec'].get('holderIdentity')}" if leases else ""


def _is(made: Town, way: Direction, level: Level) -> bool:
    status = made.status("web-0")
    return status is not None and not status.under_way and status.levels.get(way) is level


@pytest.mark.parametrize(
    ("more", "words", "says"),
    [
        ({}, ("--level", "direct", "--direction", "inbound"), "the settings do not list it"),
        (
            {"objects": [istio("RequestAuthentication", {"jwtRules": [{"issuer": "x"}]})]},
            ("--direction", "inbound"),
            "HSW0204",
        ),
        ({"policy": policy(mode="observe")}, (), "mode is observe"),
    ],
)
def test_order_that_policy_refuses_is_not_written(more: dict[str, Any], words: tuple[str, ...], says: str) -> None:
    async def story(made: Town) -> None:  # I2
        refused = await mesh(made, "bypass", "shop/web-0", *FOR, *words)
        assert refused.exit_code == 1 and says in refused.stderr and refused.stderr.count("\n") == 1
        assert names.OVERRIDE not in made.annotations("web-0")

    told(story, **more)


@pytest.mark.parametrize(
    "words",
    [
        ("bypass", "shop/web-0", "--for", "5m"),
        ("bypass", "shop/web-0", "--for", "soon", "--reason", "x"),
        ("bypass", "shop/web-0", "--for", "0", "--reason", "x"),
        ("bypass", "shop/web-0", "--for", "8d", "--reason", "x"),
        ("bypass", "shop/web-0", "--for", "5m", "--reason", " "),
        ("bypass", "shop/web-0", *FOR, "--level", "capture"),
        ("bypass", "shop/web-0", *FOR, "--accept", "anything"),
        ("restore", "shop/web-0", "--for", "5m"),
    ],
)
def test_wrong_command_line_asks_nobody(words: tuple[str, ...]) -> None:
    """No API server is there at all."""
    answer = CliRunner().invoke(app, list(words), env={"KUBECONFIG": os.devnull + "/none"})
    assert answer.exit_code == 2, answer.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("explain", "nope"), "no pod with a sidecar of that name in default"),
        (("explain", "shop/nope"), "no pod with a sidecar of that name in shop"),
        (("bypass", "shop/nope", *FOR), "no pod with a sidecar of that name in shop"),
        (("status", "--context", "nope"), "nope"),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(words: tuple[str, ...], says: str) -> None:
    async def story(made: Town) -> None:
        answer = await mesh(made, *words)
        assert answer.exit_code == 1 and says in answer.stderr and answer.stderr.startswith("hotswitch: ")

    told(story)


def test_api_server_is_away(tmp_path: Path) -> None:
    cluster = {"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
    content = {"clusters": [cluster], "contexts": [context], "users": [{"name": "x", "user": {"token": "x"}}]}
    (tmp_path / "config").write_text(json.dumps({**content, "current-context": "x", "kind": "Config"}))
    for verb in ("status", "analyze", "check", "history"):
        answer = CliRunner().invoke(app, [verb], env={"KUBECONFIG": str(tmp_path / "config")})
        assert answer.exit_code == 1 and answer.stderr.count("\n") == 1 and "ConnectionLost" in answer.stderr


def test_who_may_read_a_namespace_only_sees_what_stands_there() -> None:
    async def story(made: Town) -> None:
        refused = await mesh(made, "status", account=LOOKER)
        assert refused.exit_code == 1 and 'cannot list resource "pods"' in refused.stderr
        grant(made, LOOKER, ("", "pods", "list"), ("", "pods", "get"))
        shown = await mesh(made, "status", "-n", "shop", account=LOOKER)
        assert shown.exit_code == 0, shown.output
        assert "web-0  ?" in shown.stdout and "unread: hotswitchpolicies.hotswitch.io" in shown.stdout
        ordered = await mesh(made, "bypass", "shop/web-0", *FOR, account=LOOKER)
        assert ordered.exit_code == 1 and 'cannot patch resource "pods"' in ordered.stderr
        grant(made, LOOKER, ("", "pods", "list"), ("", "pods", "get"), ("", "pods", "patch"))
        ordered = await mesh(made, "bypass", "shop/web-0", *FOR, account=LOOKER)
        assert ordered.exit_code == 0 and "not judged here" in ordered.stdout
        assert made.annotations("web-0")[names.OVERRIDE] == "rescue"

    told(story)


def test_findings_name_the_objects_that_cause_them() -> None:
    async def story(made: Town) -> None:
        shown = (await mesh(made, "analyze")).stdout
        assert "HSW0101" in shown and "because of PeerAuthentication shop/x" in shown
        found = json.loads((await mesh(made, "analyze", "--json")).stdout)
        assert any(each["code"] == "HSW0101" and each["pods"] == 1 for each in found["concerns"])
        explained = (await mesh(made, "explain", "shop/web-0")).stdout
        assert "HotSwitchPolicy istio-system/mesh" in explained and "left inbound: rescue, hold" in explained
        checked = await mesh(made, "check")
        assert checked.exit_code == 1 and "FAIL  istiod" in checked.stdout and "rights for tier 1" in checked.stdout

    told(story, objects=[STRICT])


def test_bug_report_has_no_secret_and_overwrites_nothing(tmp_path: Path) -> None:  # S4.7
    async def story(made: Town) -> None:
        await mesh(made, "bypass", "shop/web-0", "--for", "5m", "--reason", "Authorization: Bearer abc.def.ghi")
        path = tmp_path / "report.tar.gz"
        assert (await mesh(made, "bug-report", "--to", str(path))).exit_code == 0
        with tarfile.open(path) as archive:
            found = {each.name: archive.extractfile(each) for each in archive.getmembers()}
            text = b"".join(each.read() for each in found.values() if each is not None)
        assert b"web-0" in text and b"abc.def.ghi" not in text
        again = await mesh(made, "bug-report", "--to", str(path))
        assert again.exit_code == 1 and "is there already" in again.stderr

    told(story)
