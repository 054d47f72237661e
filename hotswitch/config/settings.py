"""All policies and namespaces that are known, and from them what may be done for each pod. No I/O: a watcher puts in
what it saw, a worker asks.

The last valid spec of each object is kept by its uid, so a mistake in one object changes nothing but what people are
told (I2). An answer is worked out anew only when something that it rests on has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hotswitch.api.knobs import Bearer, Knobs, read, said_by_us
from hotswitch.api.policy import PolicySpec
from hotswitch.backends import Output
from hotswitch.config.layers import Bearing
from hotswitch.config.merged import Effective, merge, with_problems
from hotswitch.config.objects import ObjectRef, PolicyObject, Problem, policy_object, problem
from hotswitch.config.outputs import allowed
from hotswitch.config.scope import scoped
from hotswitch.model import Mode

Labels = Mapping[str, str]
_Question = tuple[str, tuple[str | None, ...], frozenset[tuple[str, str]]]
ANSWERS_AT_MOST = 4096
ROOT_NAMESPACE = "istio-system"
_OBSERVES = Knobs(PolicySpec(mode=Mode.OBSERVE))


@dataclass(slots=True)
class _Known:
    """What a pod said last, and what came of it at which revision."""

    labels: Labels
    ours: Mapping[str, str]
    knobs: Knobs
    revision: int
    effective: Effective


def _unknown(namespace: str) -> Bearing:
    """Of a namespace that was not seen (yet, or any longer) nobody knows what it forbids."""
    return Bearing(ObjectRef(kind="Unknown namespace", name=namespace), {}, _OBSERVES)


class Settings:
    """`revision` grows whenever the answer for some pod may have changed other than by the pod itself."""

    def __init__(self, root_namespace: str = ROOT_NAMESPACE) -> None:
        self.root_namespace = root_namespace
        self.revision = 0
        self._policies: dict[tuple[str, str], PolicyObject] = {}
        self._namespaces: dict[str, Bearing] = {}
        self._pods: dict[str, _Known] = {}
        self._answers: dict[_Question, Effective] = {}
        self._answered_at = -1
        self._keys: tuple[str, ...] = ()

    @property
    def policies(self) -> tuple[PolicyObject, ...]:
        """In force, without what they may not say."""
        return tuple(self._policies.values())

    def put_policy(self, manifest: Mapping[str, Any]) -> PolicyObject:
        """As it is in force now; its problems are what people should be told."""
        metadata = manifest["metadata"]
        key = (metadata["namespace"], metadata["name"])
        before = self._policies.get(key)
        policy = scoped(policy_object(manifest, before), self.root_namespace)
        if before is None or (before.spec, before.problems) != (policy.spec, policy.problems):
            self.revision += 1
        self._policies[key] = policy
        return policy

    def drop_policy(self, namespace: str, name: str) -> None:
        if self._policies.pop((namespace, name), None) is not None:
            self.revision += 1

    def put_namespace(self, name: str, uid: str, labels: Labels, annotations: Labels) -> tuple[Problem, ...]:
        before = self._namespaces.get(name)
        old = before.knobs if before is not None and before.ref.uid == uid else None
        knobs = read(Bearer.NAMESPACE, labels, annotations, old)
        ref = ObjectRef(kind="Namespace", name=name, uid=uid)
        if before is None or before.knobs != knobs:
            self.revision += 1
        self._namespaces[name] = Bearing(ref, labels, knobs)
        return tuple(problem(ref, each) for each in knobs.problems)

    def drop_namespace(self, name: str) -> None:
        if self._namespaces.pop(name, None) is not None:
            self.revision += 1

    def for_pod(self, namespace: str, name: str, uid: str, labels: Labels, annotations: Labels) -> Effective:
        """What may be done for the pod. Cheap when nothing has changed: to be asked at every event."""
        known, ours = self._pods.get(uid), said_by_us(annotations)
        same = known is not None and known.ours == ours and known.labels == labels
        if known is not None and same and known.revision == self.revision:
            return known.effective
        knobs = known.knobs if known is not None and same else self._read(known, labels, ours)
        pod = Bearing(ObjectRef(kind="Pod", name=name, namespace=namespace, uid=uid), labels, knobs)
        answer = with_problems(self._answer(pod), pod)
        self._pods[uid] = _Known(dict(labels), ours, knobs, self.revision, answer)
        return answer

    def _answer(self, pod: Bearing) -> Effective:
        """One for all pods that no policy can tell apart and that say the same."""
        if self._answered_at != self.revision or len(self._answers) >= ANSWERS_AT_MOST:
            self._answers.clear()
            self._keys = tuple(sorted({key for policy in self._policies.values() for key in policy.label_keys()}))
            self._answered_at = self.revision
        told_by = tuple(pod.labels.get(key) for key in self._keys)
        question = (pod.ref.namespace, told_by, frozenset(pod.knobs.texts.items()))
        if question not in self._answers:
            space = self._namespaces.get(pod.ref.namespace) or _unknown(pod.ref.namespace)
            self._answers[question] = merge(self._policies.values(), self.root_namespace, space, pod)
        return self._answers[question]

    def _read(self, known: _Known | None, labels: Labels, ours: Labels) -> Knobs:
        return read(Bearer.POD, labels, ours, None if known is None else known.knobs)

    def outputs(self, namespace: str) -> frozenset[Output]:
        """Which outputs its Services may have."""
        return allowed(self._policies.values(), self.root_namespace, namespace)

    def forget_pod(self, uid: str) -> None:
        self._pods.pop(uid, None)

    def problems(self) -> tuple[Problem, ...]:
        """All that are wrong at this moment, for a metric and for `check`."""
        spaces = (problem(each.ref, wrong) for each in self._namespaces.values() for wrong in each.knobs.problems)
        policies = (each for policy in self._policies.values() for each in policy.problems)
        pods = (
            each for known in self._pods.values() for each in known.effective.problems if each.object_ref.kind == "Pod"
        )
        return (*policies, *spaces, *pods)
