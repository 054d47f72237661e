"""What each kind of receiver is sent, as bytes (S4.6; docs/reference/alerts.md).

The same notice, the same id, the same bytes but for instants: a message that is sent again because its answer was lost
can be recognised. Labels of alerts are bounded, and those that name the alert cannot be overridden by a policy.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from hotswitch.report.alerts.receiver import Kind
from hotswitch.report.notice import Notice, Severity

_NOT_NAME = re.compile(r"[^a-zA-Z0-9_]")  # Alertmanager refuses the whole message for one such annotation


class Phase(StrEnum):
    FIRED = "fired"
    REPEATED = "repeated"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """One message to be. `turn` grows with everything new that is said in this matter. `lasts_s`: after so long a
    firing alert that is not repeated is over. `before`: what the receiver was told last, if that looked otherwise."""

    notice: Notice
    phase: Phase
    turn: int
    at_unix_s: float
    lasts_s: float
    before: Notice | None = None

    @property
    def id(self) -> str:
        """The same for each attempt to say this."""
        words = f"{self.notice.key}|{self.notice.starts_unix_s!r}|{self.turn}"
        return hashlib.sha256(words.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Body:
    content_type: str
    content: bytes
    path: str = ""  # appended to the receiver's URL


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Who speaks. `cluster`: its name, for people with several. `docs_url`: of a code's page, with `{code}` in it."""

    cluster: str = ""
    docs_url: str = ""

    def page(self, code: str) -> str:
        return self.docs_url.replace("{code}", code)


def at_most(kind: Kind) -> int:
    """Notices in one message."""
    return 64 if kind is Kind.ALERTMANAGER else 1


def body(kind: Kind, tellings: Sequence[Telling], about: About) -> Body:
    return _FORMS[kind](tellings, about)


def instant(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def identity(notice: Notice, about: About) -> dict[str, str]:
    """An alert's labels: Alertmanager takes two alerts with the same ones as one."""
    pod = notice.pod
    own = {
        "alertname": notice.code,
        "severity": notice.severity.value,
        "namespace": pod.namespace if pod else notice.namespace,
        "pod": pod.name if pod else "",
        "workload": pod.workload if pod else "",
        "cluster": about.cluster,
        "matter": hashlib.sha256(notice.key.encode()).hexdigest()[:8],
    }
    return dict(notice.labels) | {name: value for name, value in own.items() if value}


def _alertmanager(tellings: Sequence[Telling], about: About) -> Body:
    """A matter whose labels changed is a new alert to Alertmanager: the old one is ended in the same message."""
    alerts = [_alert(each.notice, each.at_unix_s + each.lasts_s, about) for each in tellings]
    for each in tellings:
        if each.before is not None and identity(each.before, about) != identity(each.notice, about):
            alerts.append(_alert(each.before, each.at_unix_s, about))
    return Body("application/json", msgspec.json.encode(alerts), "/api/v2/alerts")


def _alert(notice: Notice, ends_unix_s: float, about: About) -> dict[str, Any]:
    page = about.page(notice.code)
    notes = {"summary": notice.sentence, "runbook_url": page}
    notes |= {f"evidence_{_NOT_NAME.sub('_', name)}": value for name, value in notice.evidence.items()}
    ends_unix_s = ends_unix_s if notice.ends_unix_s is None else notice.ends_unix_s
    alert = {
        "labels": identity(notice, about),
        "annotations": {name: value for name, value in notes.items() if value},
        "startsAt": instant(notice.starts_unix_s),
        "endsAt": instant(max(ends_unix_s, notice.starts_unix_s)),  # else Alertmanager refuses the whole message
    }
    return alert | ({"generatorURL": page} if page else {})


def _document(telling: Telling, about: About) -> dict[str, Any]:
    notice = telling.notice
    pod = notice.pod
    return {
        "version": "1",
        "id": telling.id,
        "key": notice.key,
        "status": "resolved" if notice.resolved else "firing",
        "phase": telling.phase,
        "code": notice.code,
        "severity": notice.severity,
        "sentence": notice.sentence,
        "cluster": about.cluster,
        "namespace": pod.namespace if pod else notice.namespace,
        "pod": {"name": pod.name, "uid": pod.uid, "workload": pod.workload} if pod else None,
        "startsAt": instant(notice.starts_unix_s),
        "endsAt": None if notice.ends_unix_s is None else instant(notice.ends_unix_s),
        "labels": dict(notice.labels),
        "evidence": dict(notice.evidence),
        "docs": about.page(notice.code),
    }


def _webhook(tellings: Sequence[Telling], about: About) -> Body:
    return Body("application/json", msgspec.json.encode(_document(tellings[0], about)))


def _cloudevent(tellings: Sequence[Telling], about: About) -> Body:
    telling = tellings[0]
    notice = telling.notice
    event = {
        "specversion": "1.0",
        "id": telling.id,
        "source": f"/hotswitch/{about.cluster}".rstrip("/"),
        "type": f"io.hotswitch.alert.{telling.phase}",
        "subject": str(notice.pod or notice.namespace or "mesh"),
        "time": instant(notice.starts_unix_s if notice.ends_unix_s is None else notice.ends_unix_s),
        "datacontenttype": "application/json",
        "severity": notice.severity,
        "data": _document(telling, about),
    }
    return Body("application/cloudevents+json; charset=utf-8", msgspec.json.encode(event))


_COLOURS = {Severity.INFO: "#439fe0", Severity.WARNING: "#daa038", Severity.CRITICAL: "#d00000"}


def _slack(tellings: Sequence[Telling], about: About) -> Body:
    """Everything that somebody else may have written is escaped: no mention, no link, of their making."""
    telling = tellings[0]
    notice = telling.notice
    where = str(notice.pod or notice.namespace or "the mesh")
    head = f"[{telling.phase.value.upper()}] {notice.code} {where}: {notice.sentence}"
    page = about.page(notice.code)
    fields = {"cluster": about.cluster, "severity": notice.severity.value, **notice.labels, **notice.evidence}
    colour = "#2eb886" if notice.resolved else _COLOURS[notice.severity]
    attachment = {"color": colour, "fallback": _escaped(head), "fields": _slack_fields(fields), "ts": _moment(notice)}
    if page:
        attachment |= {"title": notice.code, "title_link": page}
    content = {"text": _escaped(head), "attachments": [attachment]}
    return Body("application/json", msgspec.json.encode(content))


def _slack_fields(fields: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"title": _escaped(name), "value": _escaped(value), "short": True} for name, value in fields.items() if value
    ]


def _moment(notice: Notice) -> int:
    return int(notice.starts_unix_s if notice.ends_unix_s is None else notice.ends_unix_s)


def _escaped(text: str) -> str:
    clean = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return clean.replace("@", "@\u200b")  # Mattermost mentions by a bare @name


_FORMS: Mapping[Kind, Callable[[Sequence[Telling], About], Body]] = {
    Kind.ALERTMANAGER: _alertmanager,
    Kind.WEBHOOK: _webhook,
    Kind.CLOUDEVENTS: _cloudevent,
    Kind.SLACK: _slack,
}
