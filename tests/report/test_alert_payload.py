"""What receivers are sent: complete, escaped, bounded, and without secrets (S4.6, S4.7)."""

import json

import pytest

from hotswitch.report.alerts.payload import About, Phase, Telling, body
from hotswitch.report.alerts.receiver import Kind
from hotswitch.report.notice import Severity
from hotswitch.report.scrub import EVIDENCE, LABELS, SENTENCE, scrub
from tests.report.receiving import notice

pytestmark = pytest.mark.unit
T = 1_764_230_400.0  # 2025-11-27T08:00:00Z
ABOUT = About(cluster="blue", docs_url="https://docs.example.com/codes/{code}")


def telling(of, phase=Phase.FIRED, before=None, turn=0):
    return Telling(notice=of, phase=phase, turn=turn, at_unix_s=T + 10, lasts_s=240, before=before)


def sent(kind, *tellings, about=ABOUT):
    made = body(kind, tellings, about)
    return made, json.loads(made.content)


def test_alertmanager_gets_an_alert_that_ends_by_itself_when_nobody_repeats_it() -> None:
    made, (alert,) = sent(Kind.ALERTMANAGER, telling(notice(labels={"team": "shop"}, evidence={"exit": "137"})))
    assert made.path == "/api/v2/alerts"
    assert alert["labels"] == {
        "alertname": "HSD001", "severity": "warning", "namespace": "shop", "pod": "web-0", "workload": "deploy/web",
        "cluster": "blue", "team": "shop", "matter": alert["labels"]["matter"],
    }  # fmt: skip
    assert (alert["startsAt"], alert["endsAt"]) == ("2025-11-27T08:00:00.000Z", "2025-11-27T08:04:10.000Z")
    assert alert["generatorURL"] == "https://docs.example.com/codes/HSD001"
    assert alert["annotations"]["summary"] == "The proxy died." and alert["annotations"]["evidence_exit"] == "137"


def test_alertmanager_gets_the_end_under_the_same_labels() -> None:
    _, (fire,) = sent(Kind.ALERTMANAGER, telling(notice()))
    _, (end,) = sent(Kind.ALERTMANAGER, telling(notice(ends=T + 60), Phase.RESOLVED, before=notice()))
    assert (end["labels"], end["endsAt"]) == (fire["labels"], "2025-11-27T08:01:00.000Z")


def test_alert_that_changes_its_labels_leaves_none_behind() -> None:
    """To Alertmanager it is another alert: the old one would fire on."""
    graver = notice(severity=Severity.CRITICAL)
    _, alerts = sent(Kind.ALERTMANAGER, telling(graver, before=notice()))
    ends = {alert["labels"]["severity"]: alert["endsAt"] for alert in alerts}
    assert ends == {"critical": "2025-11-27T08:04:10.000Z", "warning": "2025-11-27T08:00:10.000Z"}


def test_end_before_its_beginning_is_no_reason_to_lose_the_message() -> None:
    """Clocks of two controllers differ; Alertmanager refuses such an alert and all others of the message."""
    _, (alert,) = sent(Kind.ALERTMANAGER, telling(notice(ends=T - 5), Phase.RESOLVED))
    assert alert["endsAt"] == alert["startsAt"]


def test_policy_cannot_take_an_alerts_own_labels_away() -> None:
    labels = {"alertname": "Watchdog", "severity": "none", "namespace": "other", "matter": "x", "pod": "y"}
    _, (alert,) = sent(Kind.ALERTMANAGER, telling(notice(labels=labels)))
    own = {name: alert["labels"][name] for name in ("alertname", "severity", "namespace", "pod")}
    assert own == {"alertname": "HSD001", "severity": "warning", "namespace": "shop", "pod": "web-0"}


def test_two_matters_without_a_pod_are_two_alerts() -> None:
    pair = [telling(notice(key, pod=None, namespace="shop")) for key in ("policy/a", "policy/b")]
    _, (one, other) = sent(Kind.ALERTMANAGER, *pair)
    assert one["labels"] != other["labels"]


def test_webhook() -> None:
    made, document = sent(Kind.WEBHOOK, telling(notice(ends=T + 60), Phase.RESOLVED, turn=3))
    assert (made.content_type, made.path) == ("application/json", "")
    assert document["status"] == "resolved" and document["endsAt"] == "2025-11-27T08:01:00.000Z"
    assert document["pod"] == {"name": "web-0", "uid": "u1", "workload": "deploy/web"}
    _, firing = sent(Kind.WEBHOOK, telling(notice(pod=None, namespace="shop")))
    assert (firing["pod"], firing["endsAt"], firing["namespace"]) == (None, None, "shop")


def test_cloudevent_has_what_the_specification_demands() -> None:
    made, event = sent(Kind.CLOUDEVENTS, telling(notice(), Phase.REPEATED))
    assert made.content_type.startswith("application/cloudevents+json")
    assert {name: event[name] for name in ("specversion", "source", "type", "subject", "datacontenttype")} == {
        "specversion": "1.0", "source": "/hotswitch/blue", "type": "io.hotswitch.alert.repeated",
        "subject": "shop/web-0", "datacontenttype": "application/json",
    }  # fmt: skip
    assert event["time"] == "2025-11-27T08:00:00.000Z" and event["data"]["code"] == "HSD001"
    assert event["id"] == event["data"]["id"] and len(event["id"]) == 32
    assert all(name.isalnum() and name.islower() for name in event)


def test_slack_cannot_be_made_to_shout_or_to_link() -> None:
    """A workload's owner writes annotations, and a sentence may quote them."""
    words = "<!channel> @here <https://evil.example.com|click> & more"
    made, message = sent(Kind.SLACK, telling(notice(sentence=words, labels={"team": "<!everyone>"})))
    text = made.content.decode()
    assert "<!" not in text and "<http" not in text and "@here" not in text
    assert message["text"].startswith("[FIRED] HSD001 shop/web-0: &lt;!channel&gt;")
    assert message["attachments"][0]["title_link"] == "https://docs.example.com/codes/HSD001"


@pytest.mark.parametrize("kind", list(Kind))
def test_without_pages_and_name_nothing_is_made_up(kind) -> None:
    made, _ = sent(kind, telling(notice()), about=About())
    assert b'"generatorURL"' not in made.content and b'"runbook_url"' not in made.content
    assert b'"title_link"' not in made.content and b'"cluster":"b' not in made.content


def test_secrets_that_found_their_way_into_a_notice_go_no_further() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
    leaky = notice(
        sentence=f"Last log line: authorization: Bearer {token} password=hunter2",
        labels={"note": f"token={token}", "password": "hunter2"},
        evidence={"db_password": "hunter2", "log": "https://user:hunter2@db/", "cookie": "hunter2"},
    )
    for kind in Kind:
        made, _ = sent(kind, telling(scrub(leaky)))
        assert b"hunter2" not in made.content and token.encode() not in made.content


def test_words_of_others_are_bounded_and_cannot_steer_a_terminal() -> None:
    wild = "\x1b[31m\u202eabc\n\ud800" + "x" * 10_000
    clean = scrub(notice(sentence=wild, labels={f"l{n}": wild for n in range(99)} | {"a-b": "x", "é": "x"},
                         evidence={f"e{n}{wild}": wild for n in range(99)}))  # fmt: skip
    assert len(clean.sentence) <= SENTENCE and len(clean.labels) == LABELS and len(clean.evidence) <= EVIDENCE
    words = json.dumps([clean.sentence, dict(clean.labels), dict(clean.evidence)], ensure_ascii=False)
    assert not set("\x1b\u202e\n") & set(words) and words.encode()
    assert scrub(clean) == clean, "what is clean stays as it is"


def test_long_keys_stay_different() -> None:
    assert scrub(notice("k" * 500 + "a")).key != scrub(notice("k" * 500 + "b")).key
