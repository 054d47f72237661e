"""The command line and environment of `istio-iptables`, read as the command itself reads them, and written back.

Precedence: command line, then an extra variable, then the variable derived from the option's name, then the default.
As in the command, a variable of a boolean, number or duration that cannot be parsed does not count, the last of a
repeated option does, and words that are no option are ignored. An unknown option is an error (S4.3a).
Source: Istio's pkg/flag, tools/common/config FillConfigFromEnvironment; spf13/pflag.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from hotswitch.capture import fields
from hotswitch.capture.fields import SpecError
from hotswitch.capture.option_table import (
    BY_NAME,
    BY_SHORT,
    EXCLUDE_GROUPS,
    INCLUDE_GROUPS,
    LOOPBACK_CIDR,
    OPTIONS,
    PROXY_USER,
    Option,
    value_of,
)
from hotswitch.capture.spec import CaptureSpec, Interception


def parse(
    argv: Sequence[str], env: Mapping[str, str] | None = None, *, ipv6: bool = False, dns_servers: Sequence[str] = ()
) -> CaptureSpec:
    """The settings that `istio-iptables ARGV` would work with under `env`, in a namespace with IPv6 addresses or not
    and with the name servers of its resolv.conf. Raises SpecError."""
    env = env or {}
    values = _from_env(env) | _from_argv(argv)
    settings: dict[str, Any] = {}
    run_options = {}
    for name, text in values.items():
        option = BY_NAME[name]
        value = value_of(option, text)
        if option.field:
            settings[option.field] = value
        elif option.field == "":
            run_options[name] = text if option.read else str(value).lower()
    _default_proxy_ids(settings, env)
    settings |= _groups_and_loopback(env) | detected(ipv6, dns_servers)
    return CaptureSpec(**settings, run_options=tuple(sorted(run_options.items())))


def _from_env(env: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for option in OPTIONS:
        for variable in option.all_variables:
            if variable in env and _counts(option, env[variable]):
                found[option.name] = env[variable]
    return found


def _counts(option: Option, text: str) -> bool:
    if option.read is not None and not option.typed:
        return True
    try:
        value_of(option, text)
    except SpecError:
        return False
    return True


def _from_argv(argv: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, given, text = word[2:].partition("=")
            option = _known(BY_NAME.get(name), word)
            found[option.name] = text if given else _next(option, word, words)
        elif word.startswith("-") and len(word) > 1:
            found |= _shorthands(word, words)
    return found


def _shorthands(word: str, words: list[str]) -> dict[str, str]:
    """-x VALUE, -xVALUE, -x=VALUE; booleans may stand before another letter (-nb PORTS)."""
    found: dict[str, str] = {}
    letters = word[1:]
    while letters:
        option = _known(BY_SHORT.get(letters[0]), word)
        rest = letters[1:]
        if len(rest) > 1 and rest[0] == "=":
            return found | {option.name: rest[1:]}
        if option.read:
            return found | {option.name: rest or _next(option, word, words)}
        found[option.name] = "true"
        letters = rest
    return found


def _known(option: Option | None, word: str) -> Option:
    if option is None:
        raise SpecError("istio-iptables", word, "unknown option")
    return option


def _next(option: Option, word: str, words: list[str]) -> str:
    if option.read is None:
        return "true"
    if not words:
        raise SpecError(option.name, word, "needs a value")
    return words.pop(0)


def _default_proxy_ids(settings: dict[str, Any], env: Mapping[str, str]) -> None:
    """Without -u the command looks up ENVOY_USER in its own container; only istio-proxy's id is known from here."""
    if settings.get("proxy_uids"):
        return
    settings.pop("proxy_uids", None)
    if env.get(PROXY_USER, "istio-proxy") != "istio-proxy":
        raise SpecError(PROXY_USER, env[PROXY_USER], "its id is known only inside the container; give proxy-uid")


def _groups_and_loopback(env: Mapping[str, str]) -> dict[str, Any]:
    included = env.get(INCLUDE_GROUPS, "*")
    return {
        "owner_groups": "*" if included == "*" else fields.groups(INCLUDE_GROUPS, included),
        "owner_groups_exclude": fields.groups(EXCLUDE_GROUPS, env.get(EXCLUDE_GROUPS, "")),
        "loopback_cidr": fields.cidr(LOOPBACK_CIDR, env.get(LOOPBACK_CIDR, "127.0.0.1/32")),
    }


def detected(ipv6: bool, dns_servers: Sequence[str]) -> dict[str, Any]:
    """What Istio finds out in the namespace, as fields of CaptureSpec. Words in resolv.conf that are no address do not
    count, as in Istio."""
    known = [server for server in dns_servers if _version(server)]
    return {
        "ipv6": ipv6,
        "dns_servers_v4": tuple(server for server in known if _version(server) == 4),
        "dns_servers_v6": tuple(server for server in known if _version(server) == 6),
    }


def _version(server: str) -> int | None:
    try:
        return None if "%" in server else ipaddress.ip_address(server).version
    except ValueError:
        return None


def to_argv(spec: CaptureSpec) -> tuple[str, ...]:
    """The arguments that give `spec`, with `to_env`; empty for mode NONE, where Istio runs no command at all."""
    if spec.mode is Interception.NONE:
        return ()
    default = CaptureSpec(proxy_uids=spec.proxy_uids)
    words = ["istio-iptables"]
    for option in OPTIONS:
        value = getattr(spec, option.field) if option.field else None
        always = option.field in ("proxy_uids", "mode")
        if option.field and (always or value != getattr(default, option.field)):
            words.append(f"--{option.name}={written(value)}")
    return (*words, *(f"--{name}={text}" for name, text in spec.run_options))


def to_env(spec: CaptureSpec) -> dict[str, str]:
    """The variables that have no option, where they differ from the defaults."""
    env = {
        INCLUDE_GROUPS: written(spec.owner_groups),
        EXCLUDE_GROUPS: written(spec.owner_groups_exclude),
        LOOPBACK_CIDR: spec.loopback_cidr,
    }
    default = {INCLUDE_GROUPS: "*", EXCLUDE_GROUPS: "", LOOPBACK_CIDR: "127.0.0.1/32"}
    return {name: text for name, text in env.items() if text != default[name]}


def written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
