"""`hotswitch capture inspect` in real namespaces: text, JSON and exit codes (S4.3)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotswitch.capture import effective
from hotswitch.capture.render import commands
from hotswitch.capture.spec import CaptureSpec
from hotswitch.kernel.command import Command, run
from tests.cli.test_capture import hotswitch

pytestmark = pytest.mark.netns


def test_state_in_the_kernel_as_text_json_and_exit_code(netns: str, tmp_path: Path) -> None:
    spec = CaptureSpec(inbound_ports="*", outbound_cidrs="*", ipv6=True)
    wanted = tmp_path / "settings.json"
    wanted.write_text(json.dumps(effective.write(spec)))
    name = netns.rpartition("/")[2]
    assert hotswitch("inspect", "--netns", name).exit_code == 3
    for command in commands(spec, netns=netns):
        run(command, check=True)
    captured = hotswitch("inspect", "--netns", name, "--spec", str(wanted), "--json")
    assert captured.exit_code == 0
    said = json.loads(captured.stdout)
    assert (said["state"], said["ip"]["state"], said["ip6"]["backends"]) == ("captured", "captured", ["iptables-nft"])
    assert said["ip"]["releases"] == said["ip6"]["releases"] == ["1.25 or later"]
    assert said["routing"] == {"rules": [], "routes": [], "magic_v6": True}
    run(Command(tuple(["iptables-nft", "-t", "nat", "-D", "OUTPUT", "-j", "ISTIO_OUTPUT"]), netns), check=True)
    partial = hotswitch("inspect", "--netns", netns)
    assert partial.exit_code == 4
    assert partial.stdout.splitlines()[:3] == [
        "state  partial",
        "ip     partial by iptables-nft",
        "       nat OUTPUT does not lead to ISTIO_OUTPUT",
    ]
