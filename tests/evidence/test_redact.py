"""No secret reaches the evidence, wherever it was planted (S4.7); what is no secret stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hotswitch import redact
from hotswitch.evidence.admin import PARSED_BYTES, Answer, fit

pytestmark = pytest.mark.unit

PEM_BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"
PEM = f"-----BEGIN PRIVATE KEY-----\n{PEM_BODY}\n{PEM_BODY}\n-----END PRIVATE KEY-----"
EC = PEM.replace("PRIVATE KEY", "EC PRIVATE KEY")
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJlLW9mLWl0"
WORD = "s3cr3t-w0rd"
PLANTED = (PEM_BODY, JWT, WORD, "AKIAIOSFODNN7EXAMPLE", "c2VjcmV0OnNlY3JldA==")

LINES = [
    PEM,
    EC,
    PEM.replace("\n", "\\n"),
    f"{PEM_BODY}\n-----END RSA PRIVATE KEY-----\nand on",  # a tail that begins inside
    f"the end of it\n-----BEGIN PRIVATE KEY-----\n{PEM_BODY}",  # and one that was cut
    f"authorization: Bearer {JWT}",
    f"Authorization: {WORD}",
    '{"authorization":"Basic c2VjcmV0OnNlY3JldA=="}',
    f'"cookie": "session={WORD}; other={WORD}"',
    f"set-cookie: id={WORD}; Path=/",
    f"x-api-key={WORD}",
    f"got a token {JWT} from the client",
    f"DB_PASSWORD={WORD} started",
    f"AWS_SECRET_ACCESS_KEY: {WORD}",
    f"client_secret='{WORD}'",
    f'"refreshToken":"{WORD}"',
    f"connecting to postgres://user:{WORD}@db:5432/x",
    f"GET /login?access_token={WORD}&user=1",
    "key AKIAIOSFODNN7EXAMPLE was used",
    f'\\"password\\": \\"{WORD}\\"',
    f"Proxy-Authorization: Negotiate {WORD}",
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_no_secret_is_left_in_a_text(line: str) -> None:
    found = redact.text(f"before\n{line}\nafter") if "-----END RSA" not in line else redact.text(line)
    assert [secret for secret in PLANTED if secret in found] == []
    assert redact.GONE in found


def test_what_is_no_secret_stays() -> None:
    log = (
        "2026-11-22T04:00:00Z warning envoy main external/envoy/source/server/server.cc:1: oom\n"
        "cluster.outbound|80||web.default.svc.cluster.local.upstream_rq_503: 12\n"
        "server.days_until_first_cert_expiring: 0\n"
    )
    certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    assert redact.text(log + certificate) == log + certificate


DUMP: dict[str, Any] = {
    "configs": [
        {
            "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": {
                "node": {"id": "sidecar~10.0.0.1~web", "metadata": {"API_TOKEN": WORD, "LABELS": {"app": "web"}}},
                "static_resources": {"clusters": [{"name": "db", "url": f"redis://:{WORD}@cache"}]},
            },
        },
        {
            "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
            "dynamic_active_secrets": [
                {
                    "name": "default",
                    "secret": {
                        "tls_certificate": {
                            "certificate_chain": {"inline_bytes": "Y2VydA=="},
                            "private_key": {"inline_bytes": PEM_BODY},
                        }
                    },
                }
            ],
        },
        {
            "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
            "request_headers_to_add": [
                {"header": {"key": "Authorization", "value": WORD}},
                {"header": {"key": "x-served-by", "value": "web"}},
            ],
            "match": {"headers": [{"name": "cookie", "string_match": {"exact": WORD}}]},
            "lua": {"inline_code": f"local h = 'Bearer {JWT}'", "source_code": {"inline_string": WORD}},
        },
    ]
}


def test_no_secret_is_left_in_a_configuration() -> None:
    text = fit(Answer("config_dump", json.dumps(DUMP).encode())).decode()
    assert [secret for secret in PLANTED if secret in text] == []
    for stays in ("sidecar~10.0.0.1~web", "x-served-by", '"app": "web"', '"default"', "SecretsConfigDump"):
        assert stays in text


def test_a_configuration_that_is_too_large_is_kept_as_a_digest() -> None:
    dump = {"configs": [{**DUMP["configs"][1], "filler": "x" * PARSED_BYTES}]}
    told = json.loads(fit(Answer("config_dump", json.dumps(dump).encode())))
    assert told["bytes"] > PARSED_BYTES and len(told["sha256"]) == 64
    assert told["kinds"] == {"envoy.admin.v3.SecretsConfigDump": 1}


def test_what_is_no_json_is_kept_as_a_digest() -> None:
    assert WORD not in fit(Answer("certs", f"password {WORD}".encode())).decode()
