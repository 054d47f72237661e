"""What stands in the gate's way is said in one sentence, and nothing is written (S4.3, I4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotswitch.agent.scene import look
from hotswitch.capture.render import commands
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.kernel.command import Command, run

pytestmark = pytest.mark.netns

SPEC = CaptureSpec(inbound_ports="*", inbound_exclude_ports=(15090, 15021, 15020), outbound_cidrs="*", ipv6=True)
MODES = [replace(SPEC, mode=mode) for mode in (Interception.REDIRECT, Interception.TPROXY)]
MASQUERADE = "table ip vm {\n chain post {\n type nat hook postrouting priority 100;\n masquerade\n }\n}\n"


def _load(netns: str, spec: CaptureSpec, backend: Backend) -> None:
    for command in commands(spec, backend, netns):
        run(command, check=True)


@pytest.mark.parametrize("spec", MODES, ids=lambda spec: spec.mode)
@pytest.mark.parametrize("backend", Backend)
def test_nothing_is_in_the_way(netns: str, spec: CaptureSpec, backend: Backend) -> None:
    _load(netns, spec, backend)
    assert look(netns, spec, 1).refusal == ""


def test_captured_ipv6_is_not_in_the_settings(netns: str) -> None:
    _load(netns, SPEC, Backend.IPTABLES_NFT)
    refusal = look(netns, replace(SPEC, ipv6=False), 1).refusal
    assert refusal == "Istio's rules are there for IPv6 too, and the settings say that the pod has none (capture.ipv6)"


def test_captured_ipv6_by_nft_needs_no_setting(netns: str) -> None:
    spec = replace(SPEC, ipv6=False, native_nftables=True)
    _load(netns, spec, Backend.NFTABLES)
    assert look(netns, spec, 1).refusal == ""


def test_somebody_else_translates_addresses(netns: str) -> None:
    _load(netns, SPEC, Backend.IPTABLES_LEGACY)
    run(Command(("nft", "-f", "-"), netns, MASQUERADE), check=True)
    assert "address translation that is not Istio's" in look(netns, SPEC, 1).refusal


def test_what_cannot_be_handled_comes_first(netns: str) -> None:
    assert "NONE" in look(netns, CaptureSpec(mode=Interception.NONE), 1).refusal
    assert "'ftp'" in look(netns, replace(SPEC, owner_groups_exclude=("ftp",)), 1).refusal
