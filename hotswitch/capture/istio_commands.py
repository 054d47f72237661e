"""Istio's own commands for one pod: how its release sets capture up and cleans it up, and what the cleaning leaves.

The command lines are for a proxyv2 container that shares the pod's network namespace and has NET_ADMIN (and NET_RAW for
legacy iptables); istio-proxy itself has neither. Both clean-ups exit with 0 whatever they leave, so each comes with a
prediction: sentences, and the very rules (S4.3b). `capture inspect` tells what they really left.
Sources: facts of Istio's releases 1.6 to 1.31; see `deletions`, `older`, `options`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hotswitch.capture import deletions, older, options
from hotswitch.capture.deletions import Deletion
from hotswitch.capture.fields import SpecError
from hotswitch.capture.option_table import EXCLUDE_GROUPS, INCLUDE_GROUPS
from hotswitch.capture.ruleset import Ruleset
from hotswitch.capture.spec import Backend, CaptureSpec, Interception
from hotswitch.capture.version import IstioVersion

_FIRST = (1, 6)
_BINARIES = {Backend.IPTABLES_NFT: "nft", Backend.IPTABLES_LEGACY: "legacy"}
Delete = Callable[[CaptureSpec, int, IstioVersion], list[Deletion]]


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioCommand:
    """`argv` with `env`, in a container of Istio's image. `rules`: what the command leaves of the rules that the same
    release set up with the same settings, by chain. `leaves`: all that it leaves, and what can go wrong, in
    sentences; the first of a clean-up says in short."""

    does: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    leaves: tuple[str, ...] = ()
    rules: Ruleset = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "does": self.does,
            "command": str(self),
            "argv": list(self.argv),
            "env": dict(self.env),
            "leaves": list(self.leaves),
            "rules": {str(chain): [rule.text for rule in rules] for chain, rules in sorted(self.rules.items())},
        }

    def __str__(self) -> str:
        return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.env.items()), shlex.join(self.argv)])


@dataclass(frozen=True, slots=True)
class Commands:
    """`cleanups`: the better first; a release may have two. Empty for mode NONE, where Istio runs nothing."""

    setup: IstioCommand | None
    cleanups: tuple[IstioCommand, ...]


def commands(spec: CaptureSpec, version: IstioVersion, backend: Backend | None = None) -> Commands:
    """`backend`: what the pod's rules are known to be under; None: not known. Raises SpecError for a release without
    such a command, or without a setting that `spec` has."""
    _check(spec, version)
    if spec.mode is Interception.NONE:
        return Commands(None, ())
    forced, env = _forced(version, backend), options.to_env(spec)
    argv = ("pilot-agent", *options.to_argv(spec), *forced)
    setup = IstioCommand(does="set up", argv=argv, env=env, leaves=tuple(_setup_faults(spec, version)))
    cleanups = []
    if version.at_least(1, 24):
        cleanups.append(_cleanup_only(spec, version, argv, env, bool(forced)))
    if not version.at_least(1, 25):
        cleanups.append(_clean_iptables(spec, version))
    return Commands(setup, tuple(cleanups))


def _check(spec: CaptureSpec, version: IstioVersion) -> None:
    if not version.at_least(*_FIRST):
        raise SpecError("istio-version", str(version), "before 1.6 Istio had other commands")
    if spec.native_nftables and not version.at_least(1, 27):
        raise SpecError("native-nftables", "true", f"Istio {version} has no native nftables mode; 1.27 brought it")
    if spec.force_iptables_binary and not version.at_least(1, 28):
        raise SpecError("force-iptables-binary", spec.force_iptables_binary, f"not in Istio {version}; 1.28 brought it")


def _forced(version: IstioVersion, backend: Backend | None) -> tuple[str, ...]:
    known = version.at_least(1, 28) and backend in _BINARIES
    return (f"--force-iptables-binary={_BINARIES[backend]}",) if known and backend else ()


def _cleanup_only(
    spec: CaptureSpec, version: IstioVersion, argv: tuple[str, ...], env: Mapping[str, str], forced: bool
) -> IstioCommand:
    rules = {} if spec.native_nftables else _left(spec, version, deletions.by_arguments)
    leaves = [*_rules_left(rules, spec), *_routing_left(spec, again=True)]
    if not spec.native_nftables:
        leaves += _needs_same_arguments(spec)
        leaves += _choice_of_binary(spec, version, forced)
        leaves += [sentence for mended, sentence in _FAULTS if not _is_mended(version, mended)]
    return IstioCommand(does="clean up", argv=(*argv, "--cleanup-only"), env=env, leaves=tuple(leaves), rules=rules)


def _clean_iptables(spec: CaptureSpec, version: IstioVersion) -> IstioCommand:
    rules = _left(spec, version, deletions.fixed_list)
    words = ["pilot-agent", "istio-clean-iptables", f"--proxy-uid={options.written(spec.proxy_uids)}"]
    words.append(f"--proxy-gid={options.written(spec.proxy_gids)}")
    words += ["--redirect-dns=true"] if spec.redirect_dns else []
    words += ["--capture-all-dns=true"] if spec.capture_all_dns and version.at_least(1, 21) else []
    env = {name: text for name, text in options.to_env(spec).items() if name in (INCLUDE_GROUPS, EXCLUDE_GROUPS)}
    if spec.tproxy:  # its options -m and -t are overwritten by these
        env |= {"INBOUND_INTERCEPTION_MODE": str(spec.mode), "INBOUND_TPROXY_MARK": str(spec.tproxy_mark)}
    leaves = [*_rules_left(rules, spec), *_routing_left(spec, again=False), *_needs_servers(spec)]
    return IstioCommand(does="clean up", argv=tuple(words), env=env, leaves=tuple(leaves), rules=rules)


def _left(spec: CaptureSpec, version: IstioVersion, delete: Delete) -> Ruleset:
    shape = deletions.shape_of(version)
    left: Ruleset = {}
    for number, family in ((4, "ip"), (6, "ip6")) if spec.ipv6 else ((4, "ip"),):
        written = older.rules(spec, number, shape)
        left = {**left, **deletions.left_of(written, family, delete(spec, number, version))}
    return left


def _rules_left(rules: Ruleset, spec: CaptureSpec) -> Iterator[str]:
    if not rules:
        tables = "its three tables go in one transaction" if spec.native_nftables else "with exactly these settings"
        yield f"no rule ({tables})"
        return
    fails = "; a later set-up fails on the chains" if any(chain.is_istio for chain in rules) else ""
    yield f"{sum(max(1, len(of)) for of in rules.values())} rules or empty chains{fails}"
    for chain, of in sorted(rules.items()):
        yield from (f"{chain}: {rule.text}" for rule in of)
        if not of:
            yield f"{chain}: empty"


def _routing_left(spec: CaptureSpec, *, again: bool) -> Iterator[str]:
    if spec.tproxy and spec.inbound_ports:
        once_more = ", one more of them" if again else ""
        yield f"ip rule: fwmark {spec.tproxy_mark:#x} lookup {spec.tproxy_route_table}{once_more}; its route"
    if spec.ipv6:
        yield "ip -6 addr: ::6/128 dev lo"


def _needs_same_arguments(spec: CaptureSpec) -> Iterator[str]:
    yield "it deletes what these arguments would make: with others than at the set-up it leaves rules, and exits with 0"
    if not spec.ipv6:
        yield "IPv6 is cleaned only if the command finds an IPv6 address in the pod"
    yield from _needs_servers(spec)


def _needs_servers(spec: CaptureSpec) -> Iterator[str]:
    if spec.redirect_dns and not spec.capture_all_dns:
        yield "name servers are read from resolv.conf of the container that runs it: it must be the pod's own"


def _choice_of_binary(spec: CaptureSpec, version: IstioVersion, forced: bool) -> Iterator[str]:
    if not forced and not spec.force_iptables_binary and version.at_least(1, 25):  # 1.24 prefers nft's if there are any
        how = "set FORCE_IPTABLES_BINARY" if version.at_least(1, 28) else "this release cannot be told which"
        yield f"it chooses iptables-legacy where legacy tables exist, even empty, and leaves nft's rules then: {how}"


def _setup_faults(spec: CaptureSpec, version: IstioVersion) -> Iterator[str]:
    if not spec.native_nftables:
        rest = "; with --reconcile it cleans first" if version.at_least(1, 24) else ""
        yield f"fails with `Chain already exists` where anything of a chain is left{rest}"
    if spec.tproxy and spec.inbound_ports:
        yield "each run adds one more identical policy rule"


# (mended in these patches, and in every later release; what was wrong): Istio's release notes
_FAULTS = (
    (((1, 24, 1),), "rules under a condition are not all deleted before 1.24.1"),
    (((1, 24, 3),), "tables of others in the save output stop it before 1.24.3"),
    (
        ((1, 25, 5), (1, 26, 4), (1, 27, 1)),
        "IPv4's state is passed over in favour of IPv6's before 1.25.5, 1.26.4 and 1.27.1",
    ),
    (((1, 28, 6), (1, 29, 0)), "the choice of a binary does not wait for the lock before 1.28.6 and 1.29.0"),
)


def _is_mended(version: IstioVersion, mended: Sequence[tuple[int, int, int]]) -> bool:
    same_minor = [patch for patch in mended if patch[:2] == (version.major, version.minor)]
    return version.at_least(*(same_minor or mended)[-1])
