"""Istio's own clean-up, as each release would run it here: what it leaves is what was predicted (S4.3b).

The rules of that release are loaded into a real namespace, the same deletions are run there by iptables with every
error ignored, and then it is looked."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
import yaml
from typer.testing import CliRunner

from hotswitch.capture import deletions, effective, iptables_save
from hotswitch.capture.deletions import Deletion, by_arguments, fixed_list, left_of, shape_of
from hotswitch.capture.inspect import inspect
from hotswitch.capture.inspection import State
from hotswitch.capture.iptables import Rule
from hotswitch.capture.istio_commands import Commands, commands
from hotswitch.capture.older import rules
from hotswitch.capture.ruleset import Ruleset
from hotswitch.capture.spec import Backend, CaptureSpec, Interception, SpecError
from hotswitch.capture.version import IstioVersion
from hotswitch.cli.main import app
from hotswitch.kernel.command import Command, run
from tests.capture.golden import pods
from tests.capture.test_older import TOOLS, load_as

USUAL = CaptureSpec(inbound_ports="*", outbound_cidrs="*", inbound_exclude_ports=(15090, 15021, 15020), ipv6=True)
NAMES = replace(USUAL, redirect_dns=True, dns_servers_v4=("10.96.0.10",), dns_servers_v6=("fd00::10",))
ALL_NAMES = replace(USUAL, redirect_dns=True, capture_all_dns=True)
TPROXY = replace(USUAL, mode=Interception.TPROXY)
GUESTS = replace(USUAL, kube_virt_interfaces=("net1",))
EXCLUDED = replace(USUAL, exclude_interfaces=("not-istio",))
INVALID = replace(USUAL, drop_invalid=True)
EVERYTHING = replace(
    NAMES,
    mode=Interception.TPROXY,
    kube_virt_interfaces=("net1",),
    exclude_interfaces=("not-istio",),
    drop_invalid=True,
)
RELEASES = ["1.20.3", "1.22.1", "1.23.0", "1.23.4", "1.24.2", "1.25.0", "1.26.3", "1.30.1"]


def version(text: str) -> IstioVersion:
    return IstioVersion.of(text)


def said(spec: CaptureSpec, release: str, backend: Backend | None = None) -> Commands:
    return commands(spec, version(release), backend)


def texts(ruleset: Ruleset) -> set[str]:
    """A line for each rule, and one for each empty chain; all rules of a chain together would hide which is there."""
    found = {f"{chain}: {rule.text}" for chain, rules in ruleset.items() for rule in rules}
    return found | {f"{chain}: empty" for chain, rules in ruleset.items() if not rules}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("release", "programs"),
    [
        ("1.6", ["istio-clean-iptables"]),
        ("1.23.6", ["istio-clean-iptables"]),
        ("1.24.0", ["istio-iptables", "istio-clean-iptables"]),
        ("1.25.0-distroless", ["istio-iptables"]),
        ("v1.31", ["istio-iptables"]),
    ],
)
def test_the_command_is_the_releases_own(release: str, programs: list[str]) -> None:
    found = said(USUAL, release)
    assert [command.argv[1] for command in found.cleanups] == programs
    assert [command.argv[-1] for command in found.cleanups if command.argv[1] == "istio-iptables"] in (
        [],
        ["--cleanup-only"],
    )
    assert found.setup and found.setup.argv[:2] == ("pilot-agent", "istio-iptables")


@pytest.mark.unit
def test_cleanup_only_has_the_arguments_of_the_set_up() -> None:
    found = said(replace(EVERYTHING, owner_groups=("202",)), "1.26.3")
    (cleanup,) = found.cleanups
    assert found.setup and cleanup.argv == (*found.setup.argv, "--cleanup-only")
    assert cleanup.env == found.setup.env == {"ISTIO_OUTBOUND_OWNER_GROUPS": "202"}


@pytest.mark.unit
def test_old_command_takes_the_mode_from_its_own_variables() -> None:
    (cleanup,) = said(EVERYTHING, "1.22.1").cleanups
    assert cleanup.env == {"INBOUND_INTERCEPTION_MODE": "TPROXY", "INBOUND_TPROXY_MARK": "1337"}
    assert cleanup.argv[2:] == ("--proxy-uid=1337", "--proxy-gid=1337", "--redirect-dns=true")
    assert "--capture-all-dns=true" in said(ALL_NAMES, "1.21.0").cleanups[0].argv
    assert "--capture-all-dns=true" not in said(ALL_NAMES, "1.20.9").cleanups[0].argv


@pytest.mark.unit
def test_binary_is_forced_where_the_release_can_be_told() -> None:
    assert "--force-iptables-binary=nft" in said(USUAL, "1.28.0", Backend.IPTABLES_NFT).cleanups[0].argv
    assert "--force-iptables-binary=legacy" in said(USUAL, "1.30.1", Backend.IPTABLES_LEGACY).cleanups[0].argv
    for found in (said(USUAL, "1.27.4", Backend.IPTABLES_NFT), said(USUAL, "1.28.0")):
        assert not any("force" in word for word in found.cleanups[0].argv)
        assert any("chooses iptables-legacy" in sentence for sentence in found.cleanups[0].leaves)


@pytest.mark.unit
def test_native_tables_go_whole_and_the_routing_stays() -> None:
    (cleanup,) = said(replace(EVERYTHING, native_nftables=True), "1.28.0").cleanups
    assert "--native-nftables=true" in cleanup.argv
    assert cleanup.rules == {}
    assert cleanup.leaves == (
        "no rule (its three tables go in one transaction)",
        "ip rule: fwmark 0x539 lookup 133, one more of them; its route",
        "ip -6 addr: ::6/128 dev lo",
    )


@pytest.mark.unit
@pytest.mark.parametrize("spec", [USUAL, NAMES, ALL_NAMES, TPROXY, GUESTS, EXCLUDED, INVALID, EVERYTHING])
@pytest.mark.parametrize("release", ["1.24.2", "1.25.0", "1.30.1"])
def test_cleanup_only_with_the_same_settings_leaves_no_rule(spec: CaptureSpec, release: str) -> None:
    assert said(spec, release).cleanups[0].rules == {}


FAULTS = {  # what stays of IPv4's rules: facts on istio-clean-iptables
    ("1.22.1", "USUAL"): set(),
    ("1.22.1", "NAMES"): set(),
    ("1.20.3", "ALL_NAMES"): {
        "ip nat OUTPUT: --dport 53 -p udp -j REDIRECT --to-ports 15053",
        "ip raw OUTPUT: --dport 53 -p udp -j CT --zone 2",
        "ip raw PREROUTING: --sport 53 -p udp -j CT --zone 1",
    },
    ("1.21.0", "ALL_NAMES"): set(),
    ("1.22.1", "TPROXY"): {
        "ip mangle OUTPUT: -o lo -p tcp mark:--mark 0x539/0xffffffff -j RETURN",
        "ip mangle OUTPUT: ! -d 127.0.0.1/32 --uid-owner 1337 -o lo -p tcp -j MARK --set-xmark 0x53a/0xffffffff",
        "ip mangle OUTPUT: ! -d 127.0.0.1/32 --gid-owner 1337 -o lo -p tcp -j MARK --set-xmark 0x53a/0xffffffff",
    },
    ("1.22.1", "GUESTS"): {
        "ip nat PREROUTING: -i net1 -j ISTIO_REDIRECT",
        "ip nat PREROUTING: -i net1 -j RETURN",
        "ip nat ISTIO_REDIRECT: empty",
    },
    ("1.22.1", "EXCLUDED"): {"ip nat PREROUTING: -i not-istio -j RETURN", "ip nat OUTPUT: -o not-istio -j RETURN"},
    ("1.22.1", "INVALID"): {"ip mangle PREROUTING: --ctstate INVALID -j DROP"},
    ("1.24.2", "INVALID"): {
        "ip mangle PREROUTING: --ctstate INVALID -j ISTIO_DROP",
        "ip mangle ISTIO_DROP: -j DROP",
    },
    ("1.23.0", "NAMES"): {"ip nat ISTIO_OUTPUT: empty", "ip raw ISTIO_OUTPUT: empty"},
    ("1.23.1", "NAMES"): set(),
}


@pytest.mark.unit
@pytest.mark.parametrize(("release", "name"), FAULTS)
def test_known_faults_of_the_old_command(release: str, name: str) -> None:
    left = said(globals()[name], release).cleanups[-1].rules
    assert {text for text in texts(left) if text.startswith("ip ")} == FAULTS[release, name]


@pytest.mark.unit
def test_old_command_forgets_ipv6_of_captured_dns() -> None:
    left = said(NAMES, "1.24.2").cleanups[-1].rules
    assert texts(left) == {"ip6 nat ISTIO_OUTPUT: empty", "ip6 raw ISTIO_OUTPUT: empty"}


# ---- the same in the kernel ----


def restored(netns: str, family: int) -> Ruleset:
    """What is there now, without built-in chains that are empty."""
    text = run(Command((f"{TOOLS[family]}-nft-save",), netns), check=True).stdout
    saved = iptables_save.parse(text, "ip" if family == 4 else "ip6").ruleset
    return {chain: rules for chain, rules in saved.items() if rules or chain.is_istio}


def delete(netns: str, family: int, of: list[Deletion]) -> None:
    lines = [shlex.join((f"{TOOLS[family]}-nft", *argv)) for deletion in of for argv in deletion.argvs]
    run(Command(("sh", "-c", "\n".join(f"{line} 2> /dev/null" for line in lines) + "\ntrue"), netns), check=True)


def is_named(found: tuple[str, ...], left: Ruleset) -> bool:
    return all(
        any(str(chain) in sentence and (not rules or rule.text in sentence) for sentence in found)
        for chain, rules in left.items()
        for rule in (rules or [None])
        if rule is None or not chain.is_istio
    )


SPECS = {"NAMES": NAMES, "EVERYTHING": EVERYTHING, "EXCLUDED": EXCLUDED, "INVALID": INVALID}


@pytest.mark.netns
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("release", RELEASES)
def test_kernel_keeps_what_was_predicted(netns: str, release: str, name: str) -> None:
    spec, of = SPECS[name], version(release)
    load_as(netns, spec, shape_of(of), Backend.IPTABLES_NFT)
    cleanup = said(spec, release).cleanups[-1]
    deleted = by_arguments if cleanup.argv[1] == "istio-iptables" else fixed_list
    for family in (4, 6):
        delete(netns, family, deleted(spec, family, of))
    kept = {**restored(netns, 4), **restored(netns, 6)}
    assert texts(kept) == texts(cleanup.rules)
    found = inspect(netns, spec)
    for family, view in (("ip", found.ip), ("ip6", found.ip6)):
        left = {chain: rules for chain, rules in cleanup.rules.items() if chain.family == family}
        assert view.state is (State.PARTIAL if left else State.ABSENT)
        assert is_named(view.problems, left), (left, view.problems)
    assert found.routing  # which no clean-up takes away


OTHER_ARGUMENTS = {
    "without inbound ports": (USUAL, replace(USUAL, inbound_ports=()), {"ISTIO_INBOUND", "ISTIO_IN_REDIRECT"}),
    "without TPROXY": (TPROXY, USUAL, {"ISTIO_INBOUND", "ISTIO_DIVERT", "ISTIO_TPROXY"}),
    "without DNS": (NAMES, replace(NAMES, redirect_dns=False), {"ISTIO_OUTPUT_DNS", "ISTIO_INBOUND"}),
    "without guests": (GUESTS, USUAL, {"ISTIO_REDIRECT"}),
    "without excluded interfaces": (EXCLUDED, USUAL, set()),
    "without invalid packets": (INVALID, USUAL, {"ISTIO_DROP"}),
}


@pytest.mark.netns
@pytest.mark.parametrize("case", OTHER_ARGUMENTS)
def test_cleanup_with_other_arguments_than_the_set_up(netns: str, case: str) -> None:
    spec, given, chains = OTHER_ARGUMENTS[case]
    of = version("1.28.0")
    load_as(netns, spec, shape_of(of), Backend.IPTABLES_NFT)
    predicted: Ruleset = {}
    for number, family in ((4, "ip"), (6, "ip6")):
        deleted = by_arguments(given, number, of)
        delete(netns, number, deleted)
        written: list[Rule] = rules(spec, number, shape_of(of))
        predicted = {**predicted, **left_of(written, family, deleted)}
    assert texts({**restored(netns, 4), **restored(netns, 6)}) == texts(predicted)
    assert {chain.chain for chain in predicted if chain.is_istio} >= chains
    found = inspect(netns, spec)
    assert (found.ip.state, found.ip6.state) == (State.PARTIAL, State.PARTIAL)
    assert is_named(found.ip.problems, {chain: left for chain, left in predicted.items() if chain.family == "ip"})


# ---- the command line ----


@pytest.mark.unit
def test_commands_of_a_pod_as_text_and_json() -> None:
    pod = yaml.safe_dump(pods()["hello-tproxy.yaml.injected"])
    shown = CliRunner().invoke(app, ["capture", "commands", "-", "--istio-version", "1.22.1"], input=pod)
    assert shown.exit_code == 0
    assert "INBOUND_TPROXY_MARK=1337 pilot-agent istio-clean-iptables --proxy-uid=1337" in shown.stdout
    assert "    ip mangle OUTPUT: -o lo -p tcp mark:--mark 0x539/0xffffffff -j RETURN\n" in shown.stdout
    words = ["capture", "commands", "-", "--istio-version", "1.28", "--backend", "iptables-legacy", "--json"]
    setup, cleanup = json.loads(CliRunner().invoke(app, words, input=pod).stdout)
    assert (setup["does"], cleanup["does"]) == ("set up", "clean up")
    assert cleanup["argv"][-2:] == ["--force-iptables-binary=legacy", "--cleanup-only"]
    assert cleanup["rules"] == {}


@pytest.mark.unit
def test_pod_of_istio_cni_is_cleaned_with_what_istio_cni_set_up() -> None:
    """It has no istio-init whose arguments could be repeated: they are rebuilt from the pod."""
    pod = pods()["hello.yaml.cni.injected"]
    (proxy,) = (
        item
        for key in ("containers", "initContainers")
        for item in pod["spec"]["template"]["spec"][key]
        if item["name"] == "istio-proxy"
    )
    proxy["env"].append({"name": "ISTIO_META_DNS_CAPTURE", "value": "true"})
    words = ["capture", "commands", "-", "--istio-version", "1.26.3", "--json"]
    _, cleanup = json.loads(CliRunner().invoke(app, words, input=yaml.safe_dump(pod)).stdout)
    assert {"--redirect-dns=true", "--capture-all-dns=true", "--istio-local-outbound-ports-exclude=15020"} <= {
        *cleanup["argv"]
    }
    assert "--istio-local-exclude-ports=15020,15021,15090" in cleanup["argv"]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("settings", "release", "sentence"),
    [
        ({}, "latest", "istio-version: 'latest': not a release of Istio, like 1.26.3"),
        ({}, "1.5.0", "istio-version: '1.5.0': before 1.6 Istio had other commands"),
        ({"native-nftables": True}, "1.26.3", "native-nftables: 'true': Istio 1.26.3 has no native nftables mode"),
        ({"force-iptables-binary": "nft"}, "1.27", "force-iptables-binary: 'nft': not in Istio 1.27;"),
    ],
)
def test_what_a_release_does_not_have_is_refused(settings: dict[str, object], release: str, sentence: str) -> None:
    words = ["capture", "commands", "-", "--istio-version", release]
    result = CliRunner().invoke(app, words, input=json.dumps({"flags": settings}))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"hotswitch: {sentence}")


@pytest.mark.unit
def test_mode_none_has_no_commands() -> None:
    none = CaptureSpec(mode=Interception.NONE)
    assert said(none, "1.26.3") == Commands(None, ())
    settings = json.dumps(effective.write(none))
    result = CliRunner().invoke(app, ["capture", "commands", "-", "--istio-version", "1.26.3"], input=settings)
    assert result.stdout == "Istio runs nothing in this pod\n"


@pytest.mark.unit
def test_releases_are_ordered_and_known_faults_end() -> None:
    assert version("1.9") < version("1.24.1") < version("1.24") < version("1.30.0")
    with pytest.raises(SpecError, match="istio-version"):
        version("1")

    def faults(release: str) -> int:
        return sum(" before 1." in sentence for sentence in said(USUAL, release).cleanups[0].leaves)

    releases = ("1.24.0", "1.24.1", "1.24.3", "1.25.4", "1.25.5", "1.27.0", "1.27.1", "1.28.6", "1.29.0", "1.30.1")
    assert [faults(release) for release in releases] == [4, 3, 2, 2, 1, 2, 1, 0, 0, 0]


@pytest.mark.unit
def test_chain_that_something_leads_to_is_not_deleted() -> None:
    written = [Rule("nat", "A", "-j RETURN"), Rule("nat", "OUTPUT", "-p tcp -j A")]
    left = left_of(written, "ip", [Deletion("nat", "A"), Deletion("nat", "gone"), Deletion("nat", "OUTPUT", "-j B")])
    assert texts(left) == {"ip nat A: empty", "ip nat OUTPUT: -p tcp -j A"}
    assert deletions.left_of(written, "ip", [Deletion("nat", "OUTPUT", "-p tcp -j A"), Deletion("nat", "A")]) == {}
