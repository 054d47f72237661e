"""A pod's identity from the files that pilot-agent writes where OUTPUT_CERTS names a directory (S4.3, review 4.2).

They are what is left when the workload socket does not answer: files outlive the process that wrote them. The
directory is a volume of the pod, so what lies in it is a stranger's word: no link is followed, nothing is waited for,
and the identity must be exactly the pod's. The key is read into memory and goes nowhere else. In a cluster pilot-agent
makes the files readable for all (0644), so this needs no right over others' files.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from hotswitch.rescue.identity import Expected, Identity, IdentityRefused, read_identity

CHAIN, KEY, ROOTS = "cert-chain.pem", "key.pem", "root-cert.pem"
MOST_BYTES = 1 << 20  # of one file: a chain is some 3 kB, roots of a large federation some 100 kB


def read_output_certs(directory: Path, expected: Expected, *, clock: Callable[[], float] = time.time) -> Identity:
    """Raises IdentityRefused: a file is missing or no plain file, or the identity does not pass `read_identity`.

    The files are replaced one by one: who reads in between gets a key that does not fit, and has to come again.
    """
    if not (expected.trust_domain and expected.namespace and expected.service_account):
        raise IdentityRefused(f"{directory}: whose identity it must be is not known (identity.spiffe_id)")
    chain, key, roots = (_content(directory, name) for name in (CHAIN, KEY, ROOTS))
    return read_identity(chain, key, roots, clock(), expected)


def is_replaced(directory: Path, identity: Identity) -> bool:
    """Whether other certificates or roots lie there by now; files that cannot be read are no others."""
    try:
        return (_content(directory, CHAIN), _content(directory, ROOTS)) != (identity.chain_pem, identity.roots_pem)
    except IdentityRefused:
        return False


def _content(directory: Path, name: str) -> bytes:
    path = directory / name
    try:
        found = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as failure:
        raise IdentityRefused(f"{name}: {failure.strerror}") from None
    with open(found, "rb") as file:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise IdentityRefused(f"{name}: not a plain file")
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise IdentityRefused(f"{name}: larger than {MOST_BYTES} bytes")
    return content
