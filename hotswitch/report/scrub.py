"""What of a notice may leave the cluster: no secrets, and nothing without a bound (S4.7, A9).

A notice carries words that workloads wrote (annotations, a proxy's last log line). They are searched for secrets and
cut before they are kept, sent or stored, so that every channel and the stored state are small and clean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hotswitch import redact
from hotswitch.report.notice import Notice

SENTENCE, KEY, LABEL_VALUE, VALUE = 512, 200, 128, 200  # characters
LABELS, EVIDENCE = 8, 16
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def scrub(notice: Notice) -> Notice:
    return replace(
        notice,
        key=short_key(notice.key),
        sentence=plain(notice.sentence, SENTENCE),
        labels=_labels(notice.labels),
        evidence=_evidence(notice.evidence),
    )


def plain(text: str, at_most: int) -> str:
    """One line without secrets and without signs that steer a terminal or turn the direction of reading."""
    return _cut(redact.text(text[: 2 * at_most]), at_most)


def _cut(text: str, at_most: int) -> str:
    clean = _CONTROL.sub(" ", text).encode("utf-8", "replace").decode()
    return clean if len(clean) <= at_most else clean[: at_most - 1] + "…"


def short_key(key: str) -> str:
    return key if len(key) <= KEY else f"{key[:64]}-{hashlib.sha256(key.encode()).hexdigest()}"


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Only such names as Prometheus has always taken."""
    named = [(name, value) for name, value in labels.items() if _LABEL.fullmatch(name)]
    return _values(named[:LABELS], LABEL_VALUE)


def _evidence(evidence: Mapping[str, str]) -> dict[str, str]:
    named = [(_cut(str(name), 64), value) for name, value in list(evidence.items())[:EVIDENCE]]
    return _values(named, VALUE)


def _values(named: Iterable[tuple[str, str]], at_most: int) -> dict[str, str]:
    """A value whose name says that it is secret goes as well."""
    bounded = {name: str(value)[: 2 * at_most] for name, value in named}
    return {name: _cut(value, at_most) for name, value in redact.tree(bounded).items()}
