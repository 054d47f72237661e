"""The CustomResourceDefinition of HotSwitchPolicy, made from here: `python -m hotswitch.api.crd` prints it as YAML.

What it says and what api.policy reads are the same fields with the same rules; tests hold the two together. What only
the root namespace may say is not checked here: a CRD does not know which namespace that is.
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from hotswitch.api.alerts import RESERVED_LABELS
from hotswitch.api.names import GROUP, KIND, PLURAL, VERSION
from hotswitch.api.schema import (
    Schema,
    a_list,
    a_list_by,
    a_set,
    allowance,
    an_object,
    checked,
    described,
    dns_label,
    duration,
    no_longer,
    one_of,
    rule,
    string,
    text_map,
    whole,
)
from hotswitch.api.values import CODE_PATTERN
from hotswitch.model import ACTED_ON, Dependency

_ROOT_ONLY = "Counts only in the root namespace."
_LEVELS = a_set(one_of("rescue", "direct", "hold"), most=3)


def _labels() -> Schema:
    return text_map(most=64, longest=63)


def _selector() -> Schema:
    labels = described("Labels that a pod must have. By labels alone nothing is given, only taken away.", _labels())
    names = described(f"Namespaces of the pods; empty: all. {_ROOT_ONLY}", a_set(dns_label(), most=256))
    return an_object(matchLabels=labels, namespaces=names)


def _timings() -> Schema:
    fields = an_object(
        expiry=described("Kernel timeout of an opening; renewed while the fault lasts.", duration()),
        openAtMost=described("Then capture comes back, and a person is called.", duration()),
        holdDown=described("A fault so soon after a restore counts as a repetition; doubles each time.", duration()),
        holdDownMax=described("How far the hold-down grows.", duration()),
        recoverAfter=described("How long the proxy must be well before capture comes back.", duration()),
        recoverProbes=described("Passes through the proxy before capture comes back.", whole(least=1, most=100)),
        staleAfter=described("Cut off from the control plane for so long is said.", duration()),
        certificateEnds=described("A certificate that ends so soon is said.", duration()),
    )
    return checked(fields, no_longer("expiry", "openAtMost"), no_longer("holdDown", "holdDownMax"))


def _bound() -> Schema:
    return checked(an_object(min=duration(), max=duration()), no_longer("min", "max"))


def _bounds() -> Schema:
    fields = ("expiry", "openAtMost", "holdDown", "holdDownMax", "recoverAfter")
    fastest = described("The fastest that may be chosen.", one_of("default", "fast"))
    return an_object(**{name: _bound() for name in fields}, profile=fastest)


def _acceptance() -> Schema:
    reason = checked(string(most=1024), rule("self.matches('[^ ]')", "a code is accepted for a reason: say it"))
    return an_object(
        ("code", "reason"),
        code=described("What would be lost, e.g. HSW0101.", string(most=7, pattern=CODE_PATTERN)),
        reason=described("Why that is acceptable.", reason),
        namespaces=described("Of the pods; empty: all.", a_set(dns_label(), most=256)),
        selector=an_object(matchLabels=_labels()),
        onlyByOrder=described("Counts only while a person's order names the code.", {"type": "boolean"}),
    )


def _budgets() -> Schema:
    return an_object(
        mesh=described(f"Of all meshed pods. {_ROOT_ONLY}", allowance()),
        node=described(f"Of the pods of a node. {_ROOT_ONLY}", allowance()),
        namespace=described("Of the pods of a namespace.", allowance()),
        workload=described("Of the pods of a workload.", allowance()),
    )


def _dependencies() -> Schema:
    def reaction(dependency: Dependency) -> Schema:
        return one_of("act", "page", "say") if dependency in ACTED_ON else one_of("page", "say")

    return an_object(**{camel_case(dependency): reaction(dependency) for dependency in Dependency})


def camel_case(dependency: Dependency) -> str:
    first, *rest = dependency.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _drill() -> Schema:
    fields = {
        "every": described(
            "How often one pod of each workload is drilled; by hand only when left out.", duration(least="1m")
        ),
        "for": described("How long a drill leads to the rescue; 5s when left out.", duration(least="1s", most="1m")),
    }
    return an_object(**fields)


def _secret() -> Schema:
    name = string(most=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    return an_object(("name", "key"), name=name, key=string(most=253, pattern=r"^[-._a-zA-Z0-9]+$"))


def _receiver() -> Schema:
    url = string(most=2048, pattern=r"^https?://[^/?#@\s]+([/?][^#\s]*)?$")
    network = string(most=43, pattern=r"^[0-9a-fA-F.:]+/[0-9]{1,3}$")
    fields = an_object(
        ("name", "type"),
        name=dns_label(),
        type=one_of("alertmanager", "webhook", "cloudevents", "slack"),
        url=described(f"Without credentials. {_ROOT_ONLY}", url),
        secretRef=described("Instead of url: the Secret that holds it, in the same namespace.", _secret()),
        hmacSecretRef=described("The key that notices are signed with.", _secret()),
        allowNetworks=described(
            f"Networks that the address may be in although they are refused to others. {_ROOT_ONLY}",
            a_set(network, most=32),
        ),
        timeout=described("For one attempt; 10s when left out.", duration(least="100ms", most="1m")),
    )
    return checked(fields, rule("has(self.url) != has(self.secretRef)", "give exactly one of url and secretRef"))


def _alerts() -> Schema:
    reserved = ", ".join(f"'{name}'" for name in sorted(RESERVED_LABELS))
    own = checked(
        text_map(most=32, longest=256),
        rule("self.all(name, name.matches('^[a-zA-Z_][a-zA-Z0-9_]*$'))", "a label's name has letters, digits, _"),
        rule(f"self.all(name, !(name in [{reserved}]))", f"hotswitch's own labels: {reserved.replace(chr(39), '')}"),
    )
    return an_object(
        receivers=a_list_by("name", _receiver(), most=16),
        labels=described("Added to every alert about these pods.", own),
        repeat=described("How long until a lasting alert is told again.", duration(least="1s")),
    )


def _spec() -> Schema:
    return an_object(
        selector=described("Which pods; everything that the namespace reaches when left out.", _selector()),
        mode=described(
            "auto acts, observe says what it would do, off; the most careful wins.", one_of("auto", "observe", "off")
        ),
        optIn=described(
            f"label: only pods that ask for mode auto, themselves or by their namespace; all: every pod. {_ROOT_ONLY}",
            one_of("label", "all"),
        ),
        directions=described("Which may be opened.", a_set(one_of("inbound", "outbound"), most=2)),
        levels=described(
            "Which may be used, per direction. The order is rescue, direct, hold; hold is always allowed.",
            an_object(inbound=_LEVELS, outbound=_LEVELS),
        ),
        profile=described(
            "fast acts on a hang after about 100 ms, at the risk of needless switches.", one_of("default", "fast")
        ),
        timings=described("The nearest who says one has it, within bounds.", _timings()),
        bounds=described(f"How far namespaces and workloads may change a timing. {_ROOT_ONLY}", _bounds()),
        accept=described(f"Losses that are accepted, by code. {_ROOT_ONLY}", a_list(_acceptance(), most=64)),
        budgets=described("How many pods may be open at once: a count or a share; the least wins.", _budgets()),
        actuators=described("Ways to act that may be used.", a_set(one_of("agent", "helper", "exec"), most=3)),
        dependencies=described("What to do when something that the proxy depends on is not well.", _dependencies()),
        adopt=described(
            "when-below: Services that ask for it may be taken over while bypass leaves them too few ready endpoints; "
            "the most careful wins. Not in a policy that selects pods by labels.",
            one_of("never", "when-below"),
        ),
        drill=described(
            "Fallbacks that nobody exercises fail: well pods are led to their rescue now and then.", _drill()
        ),
        endpoints=described(
            "How data planes may be told of Services; whole namespaces, not pods by labels.",
            an_object(outputs=a_set(one_of("slices", "xds", "istio"), most=3)),
        ),
        alerts=described("Whom to tell, how.", _alerts()),
    )


def _condition() -> Schema:
    return an_object(
        ("type", "status", "lastTransitionTime", "reason", "message"),
        type=string(most=316),
        status=one_of("True", "False", "Unknown"),
        observedGeneration={"type": "integer", "format": "int64", "minimum": 0},
        lastTransitionTime={"type": "string", "format": "date-time"},
        reason=string(most=1024, least=1),
        message=string(most=32768),
    )


def _status() -> Schema:
    return an_object(
        observedGeneration={"type": "integer", "format": "int64"},
        conditions=a_list_by("type", _condition(), most=16),
    )


def _column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path} | ({"priority": 1} if wide else {})


_COLUMNS = [
    _column("Mode", ".spec.mode"),
    _column("Inbound", ".spec.levels.inbound"),
    _column("Outbound", ".spec.levels.outbound"),
    _column("Valid", '.status.conditions[?(@.type=="Valid")].status'),
    _column("Why", '.status.conditions[?(@.type=="Valid")].message', wide=True),
    _column("Age", ".metadata.creationTimestamp", "date"),
]


def crd() -> dict[str, Any]:
    """The whole object, as it is applied."""
    schema = an_object(
        apiVersion={"type": "string"},
        kind={"type": "string"},
        metadata={"type": "object"},
        spec=_spec(),
        status=_status(),
    )
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": described("What hotswitch may do, and for which pods.", schema)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": _COLUMNS,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "hotswitch"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["hsp"],
                "categories": ["hotswitch"],
            },
            "versions": [version],
        },
    }


class _Plain(yaml.SafeDumper):
    """Without anchors: the same piece of schema in two places is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def text() -> str:
    head = "# Made by `python -m hotswitch.api.crd`: change the code, not this file.\n"
    return head + yaml.dump(crd(), Dumper=_Plain, sort_keys=False, width=110)


if __name__ == "__main__":
    sys.stdout.write(text())
