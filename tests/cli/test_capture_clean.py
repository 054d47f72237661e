"""`hotswitch capture clean` and `apply`: what is said, what is run, where it is refused (S4.3b, I8)."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from hotswitch.capture import effective
from hotswitch.capture.inspect import inspect
from hotswitch.capture.spec import Backend, CaptureSpec
from hotswitch.cli.main import app
from hotswitch.kernel.command import Command, run
from hotswitch.kernel.netns import inside
from tests.capture.leavings import do, load, picture

pytestmark = pytest.mark.netns
USUAL = CaptureSpec(inbound_ports="*", outbound_cidrs="*", inbound_exclude_ports=(15020, 15021, 15090), ipv6=True)


def hotswitch(*words: str) -> Result:
    return CliRunner().invoke(app, ["capture", *words])


@pytest.fixture
def settings(tmp_path: Path) -> str:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(effective.write(USUAL)))
    return str(path)


def test_there_and_back(netns: str, settings: str) -> None:
    before = picture(netns)
    name = netns.rpartition("/")[2]
    assert hotswitch("apply", "--spec", settings, "--netns", name).exit_code == 0
    assert inspect(netns, USUAL).matches(USUAL) == []
    assert "nothing to do" in hotswitch("apply", "--spec", settings, "--netns", netns).stdout
    done = hotswitch("clean", "--netns", name)
    assert done.exit_code == 0 and "-X ISTIO_OUTPUT" in done.stdout
    assert picture(netns) == before
    assert "nothing to do" in hotswitch("clean", "--netns", netns).stdout


def test_dry_run_says_all_and_changes_nothing(netns: str, settings: str) -> None:
    planned = json.loads(hotswitch("apply", "--spec", settings, "--netns", netns, "--dry-run", "--json").stdout)
    assert len(planned["commands"]) == 3 and planned["changed"] is False
    load(netns, USUAL, Backend.IPTABLES_NFT)
    there = picture(netns)
    planned = json.loads(hotswitch("clean", "--netns", netns, "--dry-run", "--json", "--drain", "0s").stdout)
    assert picture(netns) == there
    done = json.loads(hotswitch("clean", "--netns", netns, "--json", "--drain", "0s").stdout)
    assert done["commands"][: len(planned["commands"])] == planned["commands"]
    assert done["changed"] is True and any("stays, empty" in note for note in done["notes"])
    assert "ip nat ISTIO_OUTPUT" in done["before"] and done["after"] == ""


def test_rules_in_the_way_have_an_exit_code_of_their_own(netns: str, settings: str) -> None:
    load(netns, replace(USUAL, outbound_exclude_ports=(1,)), Backend.NFTABLES)
    for dry in ([], ["--dry-run"]):
        refused = hotswitch("apply", "--spec", settings, "--netns", netns, *dry)
        assert refused.exit_code == 4 and "there already and differ" in refused.stderr


def test_own_namespace_is_touched_only_when_told(netns: str, settings: str) -> None:
    for words in ((), ("--netns", "/proc/self/ns/net")):
        assert hotswitch("clean", *words).exit_code == 2
        assert hotswitch("apply", "--spec", settings, *words).exit_code == 2
    assert hotswitch("clean", "--netns", netns, "--this-namespace").exit_code == 2
    with inside(netns):  # of the thread, not of the process
        load(netns, USUAL, Backend.IPTABLES_NFT)
        assert hotswitch("clean", "--this-namespace").exit_code == 0
    assert inspect(netns).backends == ()


def test_namespace_that_is_not_there_is_one_sentence() -> None:
    gone = hotswitch("clean", "--netns", "no-such-namespace")
    assert gone.exit_code == 1 and len(gone.stderr.splitlines()) == 1


def test_without_rights_it_says_so(netns: str) -> None:
    words = (sys.executable, "-m", "hotswitch.cli.main", "capture", "clean", "--netns", netns)
    refused = run(Command(("setpriv", "--bounding-set=-net_admin", *words)))
    assert (refused.returncode, refused.stderr) == (1, "hotswitch: this needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN)\n")


def test_doubts_are_notes(netns: str) -> None:
    do(netns, "iptables-nft -t nat -A PREROUTING -i eth1 -j RETURN")
    assert (
        "note: iptables-nft ip nat PREROUTING: -i eth1 -j RETURN: may be Istio's"
        in hotswitch("clean", "--netns", netns).stdout
    )
