"""What a controller does not load before it reads the cluster: its start would take so much longer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

_LOADED = """
import gc, os, ssl, sys
import hotswitch.controller.operator
contexts = [each for each in gc.get_objects() if isinstance(each, ssl.SSLContext)]
print(len(contexts) > 0, sum(each.cert_store_stats()["x509_ca"] for each in contexts), os.environ["SSL_CERT_FILE"])
print("kopf" in sys.modules)
"""
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def test_neither_public_authorities_nor_kopf_are_loaded_before_the_cluster_is_read() -> None:
    env = {**os.environ, "SSL_CERT_FILE": AUTHORITIES}
    said = subprocess.run([sys.executable, "-c", _LOADED], env=env, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"True 0 {AUTHORITIES}", "False"]
