"""What `pilot-agent istio-iptables` and `istio-clean-iptables` do in the container they run in, release by release.

A stand-in for Istio's program, run with the container's own rights: what those do not allow fails here as there. Its
faults are kept: clean-up ignores every error, looks at nothing, deletes what its arguments of now would have made, and
exits with 0 whatever it leaves; a set-up over other rules fails on the chains (facts/istio.md 1.5, 2.2 to 2.4).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from hotswitch.capture import deletions, iptables, nftables, older, options
from hotswitch.capture.deletions import Deletion, shape_of
from hotswitch.capture.fields import SpecError
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.capture.version import IstioVersion
from hotswitch.kernel.command import Command, Outcome, run

BAD_USAGE, FAILED = 255, 1
NATIVE_TABLES = ("nat", "mangle", "raw")
RESOLV_CONF = Path("/etc/resolv.conf")
_LEGACY_LINES = 3  # from so many on, a legacy table counts as in use


def setup_or_clean(words: Sequence[str], version: IstioVersion) -> int:
    """`istio-iptables WORDS`; the exit code."""
    try:
        spec = options.parse(("istio-iptables", *words), dict(os.environ), ipv6=has_ipv6(), dns_servers=servers())
    except SpecError as refused:
        return _refuse(f"Error: {refused}", BAD_USAGE)
    asked = {name for name, text in spec.run_options if text == "true"}
    if unknown := _unknown(asked, spec, version):
        return _refuse(f"Error: unknown flag: --{unknown}", BAD_USAGE)
    if "dry-run" in asked or "skip-rule-apply" in asked:
        return 0
    if spec.native_nftables:
        return _native(spec, clean="cleanup-only" in asked)
    if "cleanup-only" in asked:
        delete(spec, version, deletions.by_arguments)
        return _routes(spec)
    if "reconcile" in asked:
        delete(spec, version, deletions.by_arguments)
    return _load(spec, version) or _routes(spec)


def clean_old(words: Sequence[str], version: IstioVersion) -> int:
    """`istio-clean-iptables WORDS`, until 1.24."""
    known = ("proxy-uid", "proxy-gid", "redirect-dns", "capture-all-dns")
    kept = [word for word in words if word.startswith("--") and word[2:].partition("=")[0] in known]
    mode = os.environ.get("INBOUND_INTERCEPTION_MODE") or "REDIRECT"
    try:
        spec = options.parse(
            ("istio-iptables", f"--istio-inbound-interception-mode={mode}", *kept), {}, ipv6=True, dns_servers=servers()
        )
    except SpecError as refused:
        return _refuse(f"Error: {refused}", BAD_USAGE)
    delete(spec, version, deletions.fixed_list)
    return 0


def delete(spec: CaptureSpec, version: IstioVersion, listed: object) -> None:
    """Errors are said, and that is all."""
    assert callable(listed)
    tool = _binary(spec)
    for number, program in ((4, f"iptables-{tool}"), (6, f"ip6tables-{tool}")):
        if number == 6 and not spec.ipv6:
            continue
        _delete_each(program, listed(spec, number, version))


def _delete_each(program: str, every: Iterable[Deletion]) -> None:
    for deletion in every:
        for words in deletion.argvs:
            _said(run(Command((program, "--wait=30", *words))))


def _load(spec: CaptureSpec, version: IstioVersion) -> int:
    tool = _binary(spec)
    for number, program in ((4, f"iptables-{tool}-restore"), (6, f"ip6tables-{tool}-restore")):
        if number == 6 and not spec.ipv6:
            continue
        text = iptables.restore_text(older.rules(spec, number, shape_of(version)))
        if _is_there(program.replace("restore", "save"), text):
            continue
        if _said(run(Command((program, "--noflush"), stdin=text))).returncode != 0:
            return FAILED
    return 0


def _is_there(save: str, text: str) -> bool:
    """Istio's check of what is there, as far as it matters: all of its chains, with as many rules in each."""
    saved = run(Command((save,))).stdout.splitlines()
    written = [line for line in text.splitlines() if line.startswith(("-A ISTIO_", "-I ISTIO_"))]
    chains = {line.split()[1] for line in written}
    there = {line.split()[0][1:] for line in saved if line.startswith(":ISTIO_")}
    counted = sum(line.startswith("-A ISTIO_") for line in saved)
    return bool(there) and chains <= there and counted == len(written)


def _native(spec: CaptureSpec, *, clean: bool) -> int:
    names = [f"inet istio-proxy-{table}" for table in NATIVE_TABLES]
    gone = "".join(f"add table {name}\ndelete table {name}\n" for name in names)
    text = gone if clean else "".join(nftables.render(spec))
    if _said(run(Command(("nft", "-f", "-"), stdin=text))).returncode != 0:
        return FAILED
    return _routes(spec)


def _routes(spec: CaptureSpec) -> int:
    """Made after every run, a clean-up too, and never taken away."""
    if spec.ipv6:
        _said(run(Command(("ip", "-6", "addr", "replace", "::6/128", "dev", "lo"))))
    if not (spec.tproxy and spec.inbound_ports):
        return 0
    mark, table = str(spec.tproxy_mark), str(spec.tproxy_route_table)
    for family, everywhere in (("-4", "0.0.0.0/0"), ("-6", "::/0")) if spec.ipv6 else (("-4", "0.0.0.0/0"),):
        _said(run(Command(("ip", family, "rule", "add", "fwmark", mark, "lookup", table))))
        _said(run(Command(("ip", family, "route", "replace", "local", everywhere, "dev", "lo", "table", table))))
    return 0


def _binary(spec: CaptureSpec) -> str:
    """Legacy where anything seems to be in its tables, even if it is nothing; else nft."""
    if spec.backend is Backend.IPTABLES_LEGACY:
        return "legacy"
    if spec.force_iptables_binary:
        return spec.force_iptables_binary
    saved = run(Command(("iptables-legacy-save",))).stdout
    return "legacy" if len(saved.splitlines()) >= _LEGACY_LINES else "nft"


def _unknown(asked: set[str], spec: CaptureSpec, version: IstioVersion) -> str:
    since = {"cleanup-only": (1, 24), "reconcile": (1, 24), "force-apply": (1, 24)}
    late = [name for name in sorted(asked & since.keys()) if not version.at_least(*since[name])]
    if spec.native_nftables and not version.at_least(1, 27):
        late.append("native-nftables")
    return late[0] if late else ""


def has_ipv6() -> bool:
    """Is there an address that is neither loopback nor link-local?"""
    try:
        lines = Path("/proc/self/net/if_inet6").read_text().splitlines()
    except OSError:
        return False
    return any(words[3] == "00" and words[5] != "lo" for words in map(str.split, lines))


def servers() -> list[str]:
    try:
        lines = RESOLV_CONF.read_text().splitlines()
    except OSError:
        return []
    return [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]


def _said(outcome: Outcome) -> Outcome:
    if outcome.stderr:
        sys.stderr.write(outcome.stderr)
    return outcome


def _refuse(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


def local_request(port: int, method: str, path: str) -> int:
    """`pilot-agent request`: what a server on localhost answers; the exit code."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
            head = f"{method} /{path.lstrip('/')} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
            connection.sendall(head.encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError as failure:
        return _refuse(f"Error: command terminated with {failure}", FAILED)
    status, _, body = answer.partition(b"\r\n\r\n")
    sys.stdout.write(body.decode("utf-8", "replace"))
    return 0 if b" 200 " in status.partition(b"\r\n")[0] + b" " else FAILED
