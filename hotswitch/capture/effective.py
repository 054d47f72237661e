"""A pod's capture settings as one JSON object, written and read: what `istio-iptables` works with.

    {"flags": {"istio-inbound-ports": "*", ...}, "env": {...}, "detected": {"enable_ipv6": true, ...}}

`flags` are the command's long options and `env` the settings that exist only as variables, values as the command takes
them; a switch is true or false. `detected` is what the command finds out in the namespace. What injected pods always
pass is always written, an absent flag is empty or off: a script can run the command from it without knowing a
default (S4.3a).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hotswitch.capture import manifest, options
from hotswitch.capture.fields import SpecError
from hotswitch.capture.option_table import BY_NAME, EXCLUDE_GROUPS, INCLUDE_GROUPS, LOOPBACK_CIDR, OPTIONS, Option
from hotswitch.capture.spec import CaptureSpec, Interception

MODE = "istio-inbound-interception-mode"
ALWAYS = frozenset(
    {MODE, "envoy-port", "inbound-capture-port", "inbound-tunnel-port", "proxy-uid", "proxy-gid"}
    | {"istio-inbound-ports", "istio-local-exclude-ports", "istio-service-cidr", "istio-service-exclude-cidr"}
    | {"istio-inbound-tproxy-mark", "istio-inbound-tproxy-route-table"}
)


def write(spec: CaptureSpec) -> dict[str, Any]:
    """`detected` is left out where nothing was detected. For mode NONE Istio runs no command: only the mode is told."""
    if spec.mode is Interception.NONE:
        return {"flags": {MODE: str(spec.mode)}, "env": {}}
    settings = {"flags": dict(_flags(spec)), "env": dict(_env(spec))}
    if spec.ipv6 or spec.dns_servers_v4 or spec.dns_servers_v6:
        v4, v6 = list(spec.dns_servers_v4), list(spec.dns_servers_v6)
        settings["detected"] = {"enable_ipv6": spec.ipv6, "dns_servers_v4": v4, "dns_servers_v6": v6}
    return settings


def _flags(spec: CaptureSpec) -> Iterator[tuple[str, str | bool]]:
    default = CaptureSpec()
    for option in OPTIONS:
        value = getattr(spec, option.field) if option.field else None
        if option.field and (option.name in ALWAYS or value != getattr(default, option.field)):
            yield option.name, value if isinstance(value, bool) else options.written(value)
    for name, text in spec.run_options:
        yield name, text if BY_NAME[name].read else text == "true"


def _env(spec: CaptureSpec) -> Iterator[tuple[str, str]]:
    yield INCLUDE_GROUPS, options.written(spec.owner_groups)
    yield LOOPBACK_CIDR, spec.loopback_cidr
    if spec.owner_groups_exclude:
        yield EXCLUDE_GROUPS, options.written(spec.owner_groups_exclude)


def read(value: object) -> CaptureSpec:
    """The settings in such an object; numbers are taken for their text, and null for absent. Raises SpecError."""
    top = manifest.mapping("settings", value)
    _known("settings", top, ("flags", "env", "detected"))
    flags, env = manifest.mapping("flags", top.get("flags")), manifest.mapping("env", top.get("env"))
    if "flags" not in top:
        raise SpecError("settings", ",".join(top)[:80], "has no flags")
    if flags.get(MODE) == Interception.NONE:
        return CaptureSpec(mode=Interception.NONE)
    argv = [word for name, given in flags.items() for word in _words(name, given)]
    variables = {name: _text(f"env.{name}", given) for name, given in env.items() if given is not None}
    return replace(options.parse(argv, variables), **_detected(manifest.mapping("detected", top.get("detected"))))


def _known(where: str, given: manifest.Object, names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            raise SpecError(where, name[:80], f"not one of {', '.join(names)}")


def _words(name: str, given: object) -> Iterator[str]:
    option = BY_NAME.get(name)
    if option is None:
        raise SpecError("flags", name[:80], "no option of istio-iptables")
    if given is not None and not (given == "" and option.read is None):  # an empty switch is off
        yield f"--{name}={_flag(option, given)}"


def _flag(option: Option, given: object) -> str:
    if option.read is None and isinstance(given, bool):
        return str(given).lower()
    return _text(option.name, given)


def _text(where: str, given: object) -> str:
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 2**32:
        return str(given)
    return manifest.string(where, given)


def _detected(given: manifest.Object) -> dict[str, Any]:
    _known("detected", given, ("enable_ipv6", "dns_servers_v4", "dns_servers_v6"))
    servers = ("dns_servers_v4", "dns_servers_v6")
    found = {name: manifest.strings(name, given.get(name)) for name in servers}
    return {"ipv6": manifest.boolean("enable_ipv6", given.get("enable_ipv6", False)), **found}
