"""Who asks: bearer tokens for users and ServiceAccounts, and the kubeconfig files that carry them.

Tokens are opaque and live as long as the API's state does, across its stops and starts; one that is bound to a pod ends
with it, and one of another audience is nobody's here. A ServiceAccount's name and groups are those that a real API
server gives it, so that the bindings of the manifests fit.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

MASTERS = "system:masters"
AUDIENCE = "https://kubernetes.default.svc"
"""The API server's own: of every token that names none."""
_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def account(self) -> tuple[str, str] | None:
        """Namespace and name of the ServiceAccount that it is."""
        if not self.name.startswith(_ACCOUNT):
            return None
        namespace, _, name = self.name.removeprefix(_ACCOUNT).partition(":")
        return namespace, name

    def info(self) -> dict[str, object]:
        """As authentication.k8s.io's UserInfo."""
        extra = {name: list(values) for name, values in self.extra.items()}
        known = {"username": self.name, "uid": self.uid, "groups": list(self.groups), "extra": extra}
        return {field: value for field, value in known.items() if value}


ADMIN = User("admin", (MASTERS, "system:authenticated"))
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def service_account(namespace: str, name: str) -> str:
    return f"{_ACCOUNT}{namespace}:{name}"


def user(name: str, groups: tuple[str, ...] = ()) -> User:
    """`admin` is the cluster's admin; a ServiceAccount's groups come from its name."""
    if name == ADMIN.name:
        return ADMIN
    account = User(name).account
    if account is not None:
        groups = (*groups, "system:serviceaccounts", f"system:serviceaccounts:{account[0]}")
    return User(name, (*groups, "system:authenticated"))


@dataclass(frozen=True, slots=True)
class Token:
    """`lives`: whether what it is bound to is still there."""

    user: User
    audiences: frozenset[str]
    ends_unix_s: float
    lives: Callable[[], bool]


def _always() -> bool:
    return True


class Tokens:
    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}

    def issue(
        self,
        name: str,
        groups: tuple[str, ...] = (),
        *,
        audiences: tuple[str, ...] = (AUDIENCE,),
        extra: Mapping[str, tuple[str, ...]] | None = None,
        ends_unix_s: float = float("inf"),
        lives: Callable[[], bool] = _always,
    ) -> str:
        """A new token for this user; those it had stay good."""
        token = secrets.token_urlsafe(32)
        owner = replace(user(name, groups), extra=dict(extra or {}))
        self._tokens[token] = Token(owner, frozenset(audiences), ends_unix_s, lives)
        return token

    def revoke(self, name: str) -> None:
        """From now on nobody is `name` by a token that was issued before (401)."""
        self._tokens = {token: known for token, known in self._tokens.items() if known.user.name != name}

    def find(self, token: str) -> Token | None:
        """One that is good, for whatever audience."""
        known = self._tokens.get(token)
        return known if known is not None and time.time() < known.ends_unix_s and known.lives() else None

    def owner(self, token: str) -> User | None:
        """Whose it is, for this API server."""
        known = self.find(token)
        return known.user if known is not None and AUDIENCE in known.audiences else None


def write_kubeconfig(path: Path, *, url: str, ca_file: Path | None, token: str, name: str) -> Path:
    cluster: dict[str, object] = {"server": url}
    if ca_file is not None:
        cluster["certificate-authority"] = str(ca_file)
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "embedded", "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "embedded", "context": {"cluster": "embedded", "user": name}}],
        "current-context": "embedded",
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path
