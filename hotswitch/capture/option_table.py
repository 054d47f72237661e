"""Every option of `istio-iptables`: its letters, its variables, how its value reads, and what it sets (S4.3a).

Run options say how the command runs and change no rule; logging options are accepted and dropped. Two options that
later releases removed are still known, because the pod's own release decides.
Source: Istio's tools/istio-iptables/pkg/cmd/root.go bindCmdlineFlags, pkg/log/options.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hotswitch.capture import fields
from hotswitch.capture.fields import SpecError
from hotswitch.capture.spec import Interception

Reader = Callable[[str, str], object]


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `field`: of CaptureSpec, "" for a run option, None for one that is accepted and dropped."""

    name: str
    short: str = ""
    field: str | None = ""
    read: Reader | None = None  # None: a boolean
    variables: tuple[str, ...] = ()  # beside the derived one, stronger
    from_env: bool = True
    typed: bool = False  # Istio parses the value itself, so a bad variable is passed over

    @property
    def all_variables(self) -> tuple[str, ...]:
        return (self.name.upper().replace("-", "_"), *self.variables) if self.from_env else ()


def _text(_field: str, text: str) -> str:
    return text


def _probe_port(field: str, text: str) -> str:
    return str(fields.port(field, text))


def _duration(field: str, text: str) -> str:
    if not re.fullmatch(r"0|([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+", text):
        raise SpecError(field, text, "not a duration")
    return text


def _mode(field: str, text: str) -> Interception:
    if text in ("", Interception.REDIRECT):
        return Interception.REDIRECT
    if text == Interception.TPROXY:
        return Interception.TPROXY
    raise SpecError(field, text, "neither REDIRECT nor TPROXY")


def _binary(field: str, text: str) -> str:
    if text not in ("", "legacy", "nft"):
        raise SpecError(field, text, "neither legacy nor nft")
    return text


_LOGGING = ("target", "output_level", "caller", "stacktrace_level", "rotate", "rotate_max_age", "rotate_max_size")
OPTIONS: tuple[Option, ...] = (
    Option("envoy-port", "p", "proxy_port", fields.port, from_env=False),
    Option("inbound-capture-port", "z", "inbound_port", fields.port),
    Option("inbound-tunnel-port", "e", "tunnel_port", fields.port),
    Option("proxy-uid", "u", "proxy_uids", fields.ids),
    Option("proxy-gid", "g", "proxy_gids", fields.ids),
    Option("istio-inbound-interception-mode", "m", "mode", _mode),
    Option("istio-inbound-ports", "b", "inbound_ports", fields.ports_or_all),
    Option("istio-local-exclude-ports", "d", "inbound_exclude_ports", fields.ports),
    Option("istio-exclude-interfaces", "c", "exclude_interfaces", fields.interfaces),
    Option("istio-service-cidr", "i", "outbound_cidrs", fields.cidrs_or_all),
    Option("istio-service-exclude-cidr", "x", "outbound_exclude_cidrs", fields.cidrs),
    Option("istio-outbound-ports", "q", "outbound_ports", fields.ports),
    Option("istio-local-outbound-ports-exclude", "o", "outbound_exclude_ports", fields.ports),
    Option("kube-virt-interfaces", "k", "kube_virt_interfaces", fields.interfaces),
    Option("istio-inbound-tproxy-mark", "t", "tproxy_mark", fields.mark),
    Option("istio-inbound-tproxy-route-table", "r", "tproxy_route_table", fields.mark),
    Option("force-iptables-binary", field="force_iptables_binary", read=_binary),
    Option("redirect-dns", field="redirect_dns", variables=("ISTIO_META_DNS_CAPTURE",)),
    Option("capture-all-dns", field="capture_all_dns"),
    Option("drop-invalid", field="drop_invalid", variables=("INVALID_DROP",)),
    Option("dual-stack", field="dual_stack", variables=("ISTIO_DUAL_STACK",)),
    Option("native-nftables", field="native_nftables"),
    Option("dry-run", "n"),
    Option("skip-rule-apply"),
    Option("run-validation"),
    Option("cni-mode"),
    Option("reconcile"),
    Option("cleanup-only"),
    Option("force-apply"),
    Option("iptables-probe-port", read=_probe_port, typed=True),
    Option("probe-timeout", read=_duration, typed=True),
    Option("network-namespace", read=_text),
    Option("iptables-trace-logging"),  # until 1.25
    Option("restore-format", "f"),  # until 1.23
    Option("log_as_json", field=None, from_env=False),
    *(Option(f"log_{name}", field=None, read=_text, from_env=False) for name in _LOGGING),
)
BY_NAME = {option.name: option for option in OPTIONS}
BY_SHORT = {option.short: option for option in OPTIONS if option.short}

# Settings that only exist as variables
INCLUDE_GROUPS = "ISTIO_OUTBOUND_OWNER_GROUPS"
EXCLUDE_GROUPS = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE"
LOOPBACK_CIDR = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR"
PROXY_USER = "ENVOY_USER"
VARIABLES = frozenset(
    {INCLUDE_GROUPS, EXCLUDE_GROUPS, LOOPBACK_CIDR, PROXY_USER}
    | {variable for option in OPTIONS for variable in option.all_variables}
)


def value_of(option: Option, text: str) -> object:
    """Raises SpecError."""
    if option.read:
        return option.read(option.name, text)
    value = fields.boolean(text)
    if value is None:
        raise SpecError(option.name, text, "neither true nor false")
    return value
