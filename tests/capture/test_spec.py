"""What Istio's command line and environment mean, and what is refused (S4.3a)."""

from __future__ import annotations

import pytest

from hotswitch.capture.options import parse, to_argv, to_env
from hotswitch.capture.spec import Backend, CaptureSpec, Interception, SpecError

pytestmark = pytest.mark.unit

INJECTED = [
    *("istio-iptables", "-p", "15001", "-z", "15006", "-u", "1337", "-m", "REDIRECT", "-i", "*", "-x", ""),
    *("-b", "*", "-d", "15090,15021,15020", "--log_output_level=default:info"),
]


def test_arguments_of_an_injected_pod() -> None:
    spec = parse(INJECTED)
    assert spec == CaptureSpec(
        inbound_ports="*", outbound_cidrs="*", inbound_exclude_ports=(15090, 15021, 15020), proxy_gids=(1337,)
    )
    assert spec.unsupported() == ()
    assert spec.backend is Backend.IPTABLES_NFT


def test_defaults_of_the_command_capture_nothing_inbound() -> None:
    spec = parse([])
    assert (spec.proxy_port, spec.inbound_port, spec.tunnel_port) == (15001, 15006, 15008)
    assert (spec.inbound_ports, spec.outbound_cidrs, spec.mode) == ((), (), Interception.REDIRECT)
    assert (spec.proxy_uids, spec.proxy_gids) == ((1337,), (1337,))


@pytest.mark.parametrize("style", [["-b", "80,90"], ["-b80,90"], ["-b=80,90"], ["--istio-inbound-ports", "80,90"]])
def test_every_way_to_give_an_option(style: list[str]) -> None:
    assert parse(style).inbound_ports == (80, 90)


def test_letters_can_be_joined() -> None:
    spec = parse(["-nb", "80"])
    assert spec.inbound_ports == (80,)
    assert spec.run_options == (("dry-run", "true"),)


def test_a_value_may_look_like_an_option() -> None:
    assert parse(["--network-namespace", "-b"]).run_options == (("network-namespace", "-b"),)


def test_group_ids_follow_user_ids_unless_given() -> None:
    assert parse(["-u", "3,4"]).proxy_gids == (3, 4)
    assert parse(["-u", "3,4", "-g", "1"]).proxy_gids == (1,)


def test_last_of_a_repeated_option_counts() -> None:
    assert parse(["-p", "1", "--envoy-port=2"]).proxy_port == 2


def test_words_after_the_double_dash_are_ignored() -> None:
    assert parse(["--", "-p", "1"]).proxy_port == 15001


def test_command_line_beats_extra_variable_beats_derived_variable() -> None:
    env = {"REDIRECT_DNS": "true", "ISTIO_META_DNS_CAPTURE": "false"}
    assert parse([], env).redirect_dns is False
    assert parse(["--redirect-dns"], env).redirect_dns is True
    assert parse([], {"REDIRECT_DNS": "true"}).redirect_dns is True


def test_listening_port_has_no_variable() -> None:
    assert parse([], {"ENVOY_PORT": "1", "INBOUND_CAPTURE_PORT": "2"}).proxy_port == 15001


def test_boolean_variable_that_istio_cannot_read_does_not_count() -> None:
    env = {"REDIRECT_DNS": "true", "ISTIO_META_DNS_CAPTURE": "yes", "IPTABLES_PROBE_PORT": "x"}
    assert parse([], env).redirect_dns is True


def test_settings_that_exist_only_as_variables() -> None:
    env = {
        "ISTIO_OUTBOUND_OWNER_GROUPS": "java,202",
        "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE": "ftp",
        "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "127.1.0.0/16",
    }
    spec = parse([], env)
    assert (spec.owner_groups, spec.owner_groups_exclude) == (("java", "202"), ("ftp",))
    assert spec.loopback_cidr == "127.1.0.0/16"
    assert parse([], {"ISTIO_OUTBOUND_OWNER_GROUPS": ""}).owner_groups == ()


def test_host_bits_stay_as_istio_writes_them() -> None:
    assert parse(["-i", "10.96.0.1/24,2001:DB8::1/32"]).outbound_cidrs == ("10.96.0.1/24", "2001:db8::1/32")
    assert parse(["-i", "::ffff:1.2.3.4/120"]).outbound_cidrs == ("::ffff:1.2.3.4/120",)


def test_name_servers_are_told_apart_and_other_words_left_out() -> None:
    spec = parse(["--redirect-dns"], dns_servers=["10.0.0.10", "fd00::a", "fe80::1%eth0", "router"])
    assert (spec.dns_servers_v4, spec.dns_servers_v6) == (("10.0.0.10",), ("fd00::a",))


def test_dns_capture_without_name_servers_is_off_as_in_istio() -> None:
    assert not parse(["--redirect-dns"]).dns_captured
    assert parse(["--redirect-dns", "--capture-all-dns"]).dns_captured


@pytest.mark.parametrize(
    ("argv", "env", "named", "value"),
    [
        (["-p", "0"], {}, "envoy-port", "0"),
        (["-z", "65536"], {}, "inbound-capture-port", "65536"),
        (["-b", "80,http"], {}, "istio-inbound-ports", "http"),
        (["-b", "*,80"], {}, "istio-inbound-ports", "*"),
        (["-b", ","], {}, "istio-inbound-ports", ","),
        (["-d", "80:90"], {}, "istio-local-exclude-ports", "80:90"),
        (["-q", "-1"], {}, "istio-outbound-ports", "-1"),
        (["-o", "٣"], {}, "istio-local-outbound-ports-exclude", "٣"),
        (["-u", "root"], {}, "proxy-uid", "root"),
        (["-u", ","], {}, "proxy-uid", ","),
        (["-g", "4294967295"], {}, "proxy-gid", "4294967295"),
        (["-i", "10.0.0.0"], {}, "istio-service-cidr", "10.0.0.0"),
        (["-i", "10.0.0.0/33"], {}, "istio-service-cidr", "10.0.0.0/33"),
        (["-i", "10.0.0.0/08"], {}, "istio-service-cidr", "10.0.0.0/08"),
        (["-i", "10.0.0.0/255.0.0.0"], {}, "istio-service-cidr", "255.0.0.0"),
        (["-i", "fe80::1%eth0/64"], {}, "istio-service-cidr", "fe80::1%eth0"),
        (["-x", "*"], {}, "istio-service-exclude-cidr", "*"),
        (["-x", "10.0.0.0/8,*"], {}, "istio-service-exclude-cidr", "*"),
        (["-m", "tproxy"], {}, "istio-inbound-interception-mode", "tproxy"),
        (["-c", "eth0;reboot"], {}, "istio-exclude-interfaces", "eth0;reboot"),
        (["-c", "eth+"], {}, "istio-exclude-interfaces", "eth+"),
        (["-k", "sixteen-letters-"], {}, "kube-virt-interfaces", "sixteen-letters-"),
        (["-t", "0x100000000"], {}, "istio-inbound-tproxy-mark", "0x100000000"),
        (["--redirect-dns=yes"], {}, "redirect-dns", "yes"),
        (["--force-iptables-binary=xt"], {}, "force-iptables-binary", "xt"),
        (["--probe-timeout=soon"], {}, "probe-timeout", "soon"),
        (["--colour"], {}, "istio-iptables", "--colour"),
        (["-Q"], {}, "istio-iptables", "-Q"),
        (["-b"], {}, "istio-inbound-ports", "-b"),
        ([], {"ISTIO_INBOUND_PORTS": "x"}, "istio-inbound-ports", "x"),
        ([], {"ISTIO_OUTBOUND_OWNER_GROUPS": "a b"}, "ISTIO_OUTBOUND_OWNER_GROUPS", "a b"),
        ([], {"ISTIO_OUTBOUND_OWNER_GROUPS": ",".join(map(str, range(65)))}, "owner_groups", "64"),
        ([], {"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "10.0.0.0/8"}, "loopback_cidr", "10.0.0.0/8"),
        ([], {"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "127.0.0.0/7"}, "loopback_cidr", "127.0.0.0/7"),
        ([], {"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "::1/128"}, "loopback_cidr", "::1/128"),
        ([], {"ENVOY_USER": "envoy"}, "ENVOY_USER", "envoy"),
    ],
)
def test_refusal_names_field_and_value(argv: list[str], env: dict[str, str], named: str, value: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(argv, env)
    assert refused.value.field == named
    assert value in str(refused.value)


def test_64_owner_groups_are_allowed() -> None:
    assert len(parse([], {"ISTIO_OUTBOUND_OWNER_GROUPS": ",".join(map(str, range(64)))}).owner_groups) == 64


def test_spec_made_by_hand_is_checked_too() -> None:
    with pytest.raises(SpecError, match="dns_servers_v4"):
        CaptureSpec(dns_servers_v4=("::1",))
    with pytest.raises(SpecError, match="proxy_uids"):
        CaptureSpec(proxy_uids=())
    with pytest.raises(SpecError, match="inbound_ports"):
        CaptureSpec(inbound_ports=(70000,))


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (CaptureSpec(mode=Interception.NONE), "NONE"),
        (CaptureSpec(owner_groups=("202", "java")), "'java'"),
        (CaptureSpec(owner_groups_exclude=("ftp",)), "'ftp'"),
        (CaptureSpec(kube_virt_interfaces=("eth0",), mode=Interception.TPROXY), "kube-virt"),
        (CaptureSpec(tproxy_mark=0, mode=Interception.TPROXY), "mark 0x0"),
        (CaptureSpec(tproxy_mark=0x5A0000, mode=Interception.TPROXY), "mark 0x5a0000"),
    ],
)
def test_what_the_gate_cannot_handle_is_said(spec: CaptureSpec, word: str) -> None:
    (sentence,) = spec.unsupported()
    assert word in sentence


@pytest.mark.parametrize(
    "spec",
    [
        CaptureSpec(mode=Interception.TPROXY),
        CaptureSpec(redirect_dns=True, capture_all_dns=True),
        CaptureSpec(owner_groups=("202",)),
        CaptureSpec(owner_groups_exclude=("202", "0")),
        CaptureSpec(kube_virt_interfaces=("eth0",)),
        CaptureSpec(drop_invalid=True, dual_stack=True, loopback_cidr="127.1.2.3/24"),
        CaptureSpec(proxy_uids=(1000600000,), proxy_gids=(0,)),
    ],
)
def test_what_the_gate_handles_is_not_refused(spec: CaptureSpec) -> None:
    assert spec.unsupported() == ()


def test_arguments_can_be_written_back() -> None:
    env = {"ISTIO_OUTBOUND_OWNER_GROUPS": "", "ISTIO_META_DNS_CAPTURE": "true"}
    spec = parse([*INJECTED, "--reconcile", "-t", "0x10", "-c", "eth1"], env)
    assert parse(to_argv(spec), to_env(spec)) == spec
    assert ("reconcile", "true") in spec.run_options


def test_mode_none_runs_no_command() -> None:
    assert to_argv(CaptureSpec(mode=Interception.NONE)) == ()
