"""AuthorizationPolicies: what is understood means the same to Envoy as to Istio, and what is not is refused (I2)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Principal, RbacAction
from envoy_data_plane.envoy.config.rbac.v3 import Policy as RbacPolicy
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.network.rbac.v3 import Rbac as RbacFilter
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.rescue.authorization import (
    Action,
    AuthorizationPolicy,
    Condition,
    Operation,
    Rule,
    Source,
    UnsupportedAuthorization,
)
from hotswitch.rescue.rbac import rbac_filters

pytestmark = pytest.mark.unit

TRUST = ("cluster.local",)


@dataclass(frozen=True)
class Connection:
    """`principal` "" is a plaintext client."""

    principal: str
    ip: str
    port: int


# ---- Istio's words, taken literally: the reference ---------------------------------------------------------------


def allowed(policies: list[AuthorizationPolicy], connection: Connection) -> bool:
    """https://istio.io/latest/docs/reference/config/security/authorization-policy/ , "the action is"."""
    if any(p.action is Action.DENY and _selects(p, connection) for p in policies):
        return False
    allowing = [p for p in policies if p.action is Action.ALLOW]
    return not allowing or any(_selects(p, connection) for p in allowing)


def _selects(policy: AuthorizationPolicy, c: Connection) -> bool:
    return any(_rule_holds(rule, c) for rule in policy.rules)


def _rule_holds(rule: Rule, c: Connection) -> bool:
    return (
        (not rule.sources or any(_source_holds(source, c) for source in rule.sources))
        and (not rule.operations or any(_operation_holds(operation, c) for operation in rule.operations))
        and all(_condition_holds(condition, c) for condition in rule.conditions)
    )


def _source_holds(s: Source, c: Connection) -> bool:
    return (
        _holds(s.principals, s.not_principals, lambda value: _is_principal(value, c))
        and _holds(s.namespaces, s.not_namespaces, lambda value: _is_namespace(value, c))
        and _holds(s.ip_blocks, s.not_ip_blocks, lambda value: _is_within(value, c))
    )


def _operation_holds(o: Operation, c: Connection) -> bool:
    return _holds(o.ports, o.not_ports, lambda value: value == c.port)


def _condition_holds(condition: Condition, c: Connection) -> bool:
    is_it: Callable[[str, Connection], bool] = {
        "source.principal": _is_principal,
        "source.namespace": _is_namespace,
        "source.ip": _is_within,
        "destination.port": lambda value, c: int(value) == c.port,
    }[condition.key]
    return _holds(condition.values, condition.not_values, lambda value: is_it(value, c))


def _holds(values: tuple[Any, ...], not_values: tuple[Any, ...], is_it: Any) -> bool:
    return (not values or any(map(is_it, values))) and not any(map(is_it, not_values))


def _is_principal(value: str, c: Connection) -> bool:
    if not c.principal:
        return False
    if value == "*":
        return True
    if value.startswith("*"):
        return c.principal.endswith(value[1:])
    if value.endswith("*"):
        return c.principal.startswith(value[:-1])
    return c.principal == value


def _is_namespace(value: str, c: Connection) -> bool:
    if not c.principal:
        return False
    return re.fullmatch(re.escape(value).replace(r"\*", ".*"), c.principal.split("/")[2]) is not None


def _is_within(value: str, c: Connection) -> bool:
    return ipaddress.ip_address(c.ip) in ipaddress.ip_network(value, strict=False)


# ---- Envoy's words, taken literally ------------------------------------------------------------------------------


def encoded(policies: list[AuthorizationPolicy]) -> list[Rules]:
    """What is sent, decoded again."""
    found = []
    for listed in rbac_filters(policies, TRUST):
        assert listed.typed_config is not None
        rules = RbacFilter.FromString(listed.typed_config.value).rules
        assert rules is not None
        found.append(rules)
    return found


def let_through(filters: list[Rules], c: Connection) -> bool:
    for rules in filters:
        matches = any(_envoy_matches(policy, c) for policy in rules.policies.values())
        if matches is (rules.action is RbacAction.DENY):
            return False
    return True


def _envoy_matches(policy: RbacPolicy, c: Connection) -> bool:
    return any(_permits(p, c) for p in policy.permissions) and any(_identifies(p, c) for p in policy.principals)


def _permits(p: Permission, c: Connection) -> bool:
    if p.and_rules is not None:
        return all(_permits(rule, c) for rule in p.and_rules.rules)
    if p.or_rules is not None:
        return any(_permits(rule, c) for rule in p.or_rules.rules)
    if p.not_rule is not None:
        return not _permits(p.not_rule, c)
    if p.destination_port is not None:
        return p.destination_port == c.port
    assert p.any
    return True


def _identifies(p: Principal, c: Connection) -> bool:
    if p.and_ids is not None:
        return all(_identifies(one, c) for one in p.and_ids.ids)
    if p.or_ids is not None:
        return any(_identifies(one, c) for one in p.or_ids.ids)
    if p.not_id is not None:
        return not _identifies(p.not_id, c)
    if p.direct_remote_ip is not None:
        block = p.direct_remote_ip
        return _is_within(f"{block.address_prefix}/{block.prefix_len}", c)
    if p.authenticated is not None:
        assert p.authenticated.principal_name is not None
        return bool(c.principal) and _matches(p.authenticated.principal_name, f"spiffe://{c.principal}")
    assert p.any
    return True


def _matches(m: StringMatcher, text: str) -> bool:
    if m.exact is not None:
        return text == m.exact
    if m.prefix is not None:
        return text.startswith(m.prefix)
    if m.suffix is not None:
        return text.endswith(m.suffix)
    assert m.safe_regex is not None
    return re.fullmatch(m.safe_regex.regex, text) is not None


# ---- random policies ---------------------------------------------------------------------------------------------

NAMESPACES, ACCOUNTS, ADDRESSES, PORTS = ("a", "ab", "b-c"), ("x", "xy"), ("10.0.0.1", "10.0.1.9", "fd00::7"), (80, 443)
ids = st.builds(
    "{}/ns/{}/sa/{}".format,
    st.sampled_from(("cluster.local", "other.org")),
    st.sampled_from(NAMESPACES),
    st.sampled_from(ACCOUNTS),
)
wild_ids = st.one_of(ids, st.just("*"), ids.map(lambda i: f"*{i[9:]}"), ids.map(lambda i: f"{i[:-1]}*"))
wild_namespaces = st.one_of(st.sampled_from(NAMESPACES), st.sampled_from(("a*", "*b", "*", "b*c")))
blocks = st.sampled_from(("10.0.0.0/24", "10.0.0.1", "10.0.0.0/8", "fd00::/16", "0.0.0.0/0"))
sources = st.builds(
    Source,
    principals=st.lists(wild_ids, max_size=2).map(tuple),
    not_principals=st.lists(wild_ids, max_size=1).map(tuple),
    namespaces=st.lists(wild_namespaces, max_size=2).map(tuple),
    not_namespaces=st.lists(wild_namespaces, max_size=1).map(tuple),
    ip_blocks=st.lists(blocks, max_size=2).map(tuple),
    not_ip_blocks=st.lists(blocks, max_size=1).map(tuple),
)
ports = st.lists(st.sampled_from(PORTS), max_size=2).map(tuple)
operations = st.builds(Operation, ports=ports, not_ports=ports)
conditions = st.one_of(
    st.builds(Condition, st.just("source.namespace"), st.lists(wild_namespaces, min_size=1).map(tuple)),
    st.builds(Condition, st.just("source.principal"), st.just(()), st.lists(wild_ids, min_size=1).map(tuple)),
    st.builds(Condition, st.just("source.ip"), st.lists(blocks, min_size=1).map(tuple)),
    st.builds(Condition, st.just("destination.port"), st.just(("80",))),
)
rules = st.builds(
    Rule,
    st.lists(sources, max_size=2).map(tuple),
    st.lists(operations, max_size=2).map(tuple),
    st.lists(conditions, max_size=2).map(tuple),
)
policies = st.builds(
    AuthorizationPolicy,
    st.sampled_from(("a/p", "a/q")),
    st.sampled_from(Action),
    st.lists(rules, max_size=2).map(tuple),
)
connections = st.builds(
    Connection, st.one_of(st.just(""), ids), st.sampled_from(ADDRESSES), st.sampled_from((*PORTS, 8080))
)


@settings(max_examples=50, deadline=None)
@given(st.lists(policies, max_size=3), st.lists(connections, min_size=5, max_size=20))
def test_envoy_decides_as_istio_does(
    given_policies: list[AuthorizationPolicy], given_connections: list[Connection]
) -> None:
    filters = encoded(given_policies)
    for connection in given_connections:
        assert let_through(filters, connection) is allowed(given_policies, connection)


# ---- single rules ------------------------------------------------------------------------------------------------


def test_no_policy_is_no_filter() -> None:
    assert rbac_filters([], TRUST) == ()
    assert rbac_filters([AuthorizationPolicy("a/audit", Action.AUDIT, (Rule(),))], TRUST) == ()


def test_allow_without_rules_allows_nobody() -> None:
    nothing = [AuthorizationPolicy("a/nothing")]
    assert not let_through(encoded(nothing), Connection("cluster.local/ns/a/sa/x", "10.0.0.1", 80))


def test_deny_comes_first() -> None:
    names = [listed.name for listed in rbac_filters([_policy("ALLOW"), _policy("DENY")], TRUST)]
    assert names == ["envoy.filters.network.rbac.deny", "envoy.filters.network.rbac.allow"]


def _policy(action: str) -> AuthorizationPolicy:
    return AuthorizationPolicy(f"a/{action}", Action(action), (Rule(),))


def test_own_trust_domain_stands_for_its_aliases() -> None:  # pilot/pkg/security/trustdomain
    policy = AuthorizationPolicy("a/p", Action.ALLOW, (Rule((Source(principals=("cluster.local/ns/a/sa/x",)),)),))
    (listed,) = rbac_filters([policy], ("new.org", "old.org"))
    assert listed.typed_config is not None
    text = listed.typed_config.value
    assert b"spiffe://new.org/ns/a/sa/x" in text and b"spiffe://old.org/ns/a/sa/x" in text
    assert b"cluster.local" not in text.replace(b"a/p[0.0]", b"")


def test_strangers_trust_domain_is_taken_as_it_is() -> None:
    policy = AuthorizationPolicy("a/p", Action.ALLOW, (Rule((Source(principals=("else.org/ns/a/sa/x",)),)),))
    (listed,) = rbac_filters([policy], ("new.org", "old.org"))
    assert listed.typed_config is not None and b"else.org" in listed.typed_config.value
    assert b"new.org" not in listed.typed_config.value


def test_wildcard_in_one_of_several_trust_domains_is_refused() -> None:
    policy = AuthorizationPolicy("a/p", Action.DENY, (Rule((Source(principals=("*local/ns/a/sa/x",)),)),))
    assert rbac_filters([policy], TRUST)
    with pytest.raises(UnsupportedAuthorization, match=re.escape("'*local/ns/a/sa/x'")):
        rbac_filters([policy], ("cluster.local", "old.local"))
