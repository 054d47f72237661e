"""Receivers as policies write them: what the place of a policy gives, and nothing more (A9)."""

import pytest

from hotswitch.api.alerts import Receiver as Written
from hotswitch.config.telling import ReceiverAt
from hotswitch.report.alerts.guard import Refused, Rules
from hotswitch.report.alerts.listed import listed
from hotswitch.report.alerts.receiver import Kind, SecretRef, origin_problem

pytestmark = pytest.mark.unit
ROOT = "istio-system"


def made(namespace, **fields):
    written = Written.model_validate({"name": "team", "type": "webhook"} | fields)
    return listed(ReceiverAt(namespace, "policy", written), root_namespace=ROOT, repeat_s=60)


def test_root_namespace_lists_its_own_alertmanager() -> None:
    url = "http://Alertmanager.monitoring.svc:9093"
    receiver = made(ROOT, type="alertmanager", url=url, allowNetworks=["10.96.0.0/12"], timeout="3s")
    assert (receiver.name, receiver.kind, receiver.default) == ("istio-system/policy/team", Kind.ALERTMANAGER, True)
    assert receiver.rules.check_url(url).host == "alertmanager.monitoring.svc"
    with pytest.raises(Refused, match="allowHttp"):
        receiver.rules.check_url("http://other.monitoring.svc:9093")
    assert origin_problem(receiver, ROOT) == "" and receiver.timeout_s == 3


def test_namespace_gives_an_address_by_its_secret_alone() -> None:
    ref, key = {"name": "hooks", "key": "url"}, {"name": "hooks", "key": "hmac"}
    receiver = made("shop", secretRef=ref, hmacSecretRef=key)
    assert receiver.url == SecretRef("shop", "hooks", "url") and receiver.signing == SecretRef("shop", "hooks", "hmac")
    assert not receiver.default and origin_problem(receiver, ROOT) == ""


def test_namespace_lists_nothing_although_the_scope_rules_let_it_through() -> None:
    receiver = made("shop", url="http://127.0.0.1/", allowNetworks=["127.0.0.0/8"])
    assert receiver.rules == Rules() and "may not state a URL" in origin_problem(receiver, ROOT)
