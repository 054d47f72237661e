"""AuthorizationPolicies as Envoy's network RBAC filters: DENY first, then ALLOW; any ALLOW policy means default deny.

Matchers are those that istiod generates for TCP (pilot/pkg/security/authz/model/generator.go): a principal is the
client certificate's SPIFFE URI without its scheme; a namespace is found in it; addresses are the connection's own,
which the gate's redirect keeps. A plaintext client has no principal: it matches no `principals` and every
`notPrincipals`. As in the sidecar, the check is made on the client's first bytes.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence

from envoy_data_plane.envoy.config.core.v3 import CidrRange
from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.config.rbac.v3 import (
    Permission,
    PermissionSet,
    Principal,
    PrincipalAuthenticated,
    PrincipalSet,
    RbacAction,
)
from envoy_data_plane.envoy.config.rbac.v3 import Policy as RbacPolicy
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.google.protobuf import Any

from hotswitch.rescue.authorization import (
    Action,
    AuthorizationPolicy,
    Condition,
    Operation,
    Rule,
    Source,
    UnsupportedAuthorization,
)

SPIFFE = "spiffe://"
LOCAL_TRUST_DOMAIN = "cluster.local"  # in a policy: the mesh's own trust domain, whatever its name is
_ACTIONS = ((Action.DENY, RbacAction.DENY), (Action.ALLOW, RbacAction.ALLOW))


def rbac_filters(policies: Iterable[AuthorizationPolicy], trust_domains: Sequence[str]) -> tuple[Filter, ...]:
    """The filters to put before the TCP proxy; none when no policy enforces anything.

    `trust_domains`: the mesh's own and its aliases. Raises UnsupportedAuthorization.
    """
    policies = tuple(policies)
    filters = []
    for action, rbac_action in _ACTIONS:
        enforced = [policy for policy in policies if policy.action is action]
        rules = dict(_rules(enforced, trust_domains))
        if rules or (enforced and action is Action.ALLOW):
            filters.append(_filter(Rules(action=rbac_action, policies=rules), action))
    return tuple(filters)


def _filter(rules: Rules, action: Action) -> Filter:
    config = RbacFilter(rules=rules, stat_prefix=f"{action.lower()}.")
    return Filter(name=f"envoy.filters.network.rbac.{action.lower()}", typed_config=Any.pack(config))


def _rules(policies: Iterable[AuthorizationPolicy], trust_domains: Sequence[str]) -> Iterable[tuple[str, RbacPolicy]]:
    """Numbered, so that no rule can take another's place even if policies are named alike."""
    for i, policy in enumerate(policies):
        for j, rule in enumerate(policy.rules):
            yield f"{policy.name}[{i}.{j}]", _rule(rule, trust_domains)


def _rule(rule: Rule, trust_domains: Sequence[str]) -> RbacPolicy:
    of_source = [c for c in rule.conditions if c.key.startswith("source.")]
    of_target = [c for c in rule.conditions if not c.key.startswith("source.")]
    return RbacPolicy(
        permissions=[_permission(operation, of_target) for operation in rule.operations or (Operation(),)],
        principals=[_principal(source, of_source, trust_domains) for source in rule.sources or (Source(),)],
    )


def _permission(operation: Operation, conditions: Iterable[Condition]) -> Permission:
    parts = _permissions(_to_port, [str(p) for p in operation.ports], [str(p) for p in operation.not_ports])
    for condition in conditions:
        parts += _permissions(_TARGETS[condition.key], condition.values, condition.not_values)
    return Permission(and_rules=PermissionSet(rules=parts)) if parts else Permission(any=True)


def _permissions(
    make: Callable[[str], Permission], values: Iterable[str], not_values: Iterable[str]
) -> list[Permission]:
    wanted, unwanted = [make(value) for value in values], [make(value) for value in not_values]
    parts = [Permission(or_rules=PermissionSet(rules=wanted))] if wanted else []
    if unwanted:
        parts.append(Permission(not_rule=Permission(or_rules=PermissionSet(rules=unwanted))))
    return parts


def _principal(source: Source, conditions: Iterable[Condition], trust_domains: Sequence[str]) -> Principal:
    asked = [
        ("source.principal", source.principals, source.not_principals),
        ("source.namespace", source.namespaces, source.not_namespaces),
        ("source.ip", source.ip_blocks, source.not_ip_blocks),
        *((condition.key, condition.values, condition.not_values) for condition in conditions),
    ]
    parts: list[Principal] = []
    for key, values, not_values in asked:
        if key == "source.principal":
            values, not_values = _aliases(values, trust_domains), _aliases(not_values, trust_domains)
        parts += _principals(_SOURCES[key], values, not_values)
    return Principal(and_ids=PrincipalSet(ids=parts)) if parts else Principal(any=True)


def _principals(make: Callable[[str], Principal], values: Iterable[str], not_values: Iterable[str]) -> list[Principal]:
    wanted, unwanted = [make(value) for value in values], [make(value) for value in not_values]
    parts = [Principal(or_ids=PrincipalSet(ids=wanted))] if wanted else []
    if unwanted:
        parts.append(Principal(not_id=Principal(or_ids=PrincipalSet(ids=unwanted))))
    return parts


def _aliases(principals: Iterable[str], trust_domains: Sequence[str]) -> tuple[str, ...]:
    """A principal of the mesh's own trust domain stands for the same account in each of the mesh's trust domains."""
    found: list[str] = []
    for principal in principals:
        domain, slash, account = principal.partition("/")
        if "*" in domain and domain != "*" and slash and len(trust_domains) > 1:
            raise UnsupportedAuthorization("principals", principal, "wildcard inside one of several trust domains")
        is_own = bool(slash) and domain in (*trust_domains, LOCAL_TRUST_DOMAIN)
        found += [f"{own}/{account}" for own in trust_domains] if is_own else [principal]
    return tuple(dict.fromkeys(found))


def _text(value: str, prefix: str = "") -> StringMatcher:
    """Istio's wildcards: `*` is anything but nothing, `x*` a prefix, `*x` a suffix; elsewhere a star is just a star."""
    if value == "*":
        return _regex(".+")
    if value.startswith("*"):
        return _regex(f"{re.escape(prefix)}.*{re.escape(value[1:])}") if prefix else StringMatcher(suffix=value[1:])
    if value.endswith("*"):
        return StringMatcher(prefix=prefix + value[:-1])
    return StringMatcher(exact=prefix + value)


def _regex(pattern: str) -> StringMatcher:
    return StringMatcher(safe_regex=RegexMatcher(regex=pattern))


def _from_principal(value: str) -> Principal:
    return Principal(authenticated=PrincipalAuthenticated(principal_name=_text(value, SPIFFE)))


def _from_namespace(value: str) -> Principal:
    name = ".*".join(re.escape(part) for part in value.split("*"))
    return Principal(authenticated=PrincipalAuthenticated(principal_name=_regex(f".*/ns/{name}/.*")))


def _from_block(value: str) -> Principal:
    return Principal(direct_remote_ip=cidr(value))


def _to_port(value: str) -> Permission:
    return Permission(destination_port=int(value))


def _to_block(value: str) -> Permission:
    return Permission(destination_ip=cidr(value))


def _to_name(value: str) -> Permission:
    return Permission(requested_server_name=_text(value))


def cidr(block: str) -> CidrRange:
    """An address or CIDR block as Envoy's message. Raises ValueError for anything else."""
    network = ipaddress.ip_network(block, strict=False)
    return CidrRange(address_prefix=str(network.network_address), prefix_len=network.prefixlen)


_SOURCES: dict[str, Callable[[str], Principal]] = {
    "source.principal": _from_principal,
    "source.namespace": _from_namespace,
    "source.ip": _from_block,
}
_TARGETS: dict[str, Callable[[str], Permission]] = {
    "destination.port": _to_port,
    "destination.ip": _to_block,
    "connection.sni": _to_name,
}
