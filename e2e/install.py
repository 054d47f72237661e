"""hotswitch installed as docs/how-to/install.md says, and taken away as it says: by kustomize and kubectl alone."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.cluster import Failed, Kubectl

MANIFESTS = Path(__file__).parents[1] / "manifests"
ACCOUNT = "system:serviceaccount:hotswitch-system:hotswitch-controller"
NAMESPACE = "hotswitch-system"
TIER, COMPONENTS = "tier-2-direct", ("exec", "ephemeral")
POLICY = {
    "apiVersion": "hotswitch.io/v1alpha1",
    "kind": "HotSwitchPolicy",
    "metadata": {"name": "hotswitch-e2e", "namespace": "istio-system"},
    "spec": {
        "mode": "auto",
        "actuators": ["helper"],
        "levels": {"inbound": ["rescue", "hold"], "outbound": ["direct", "rescue", "hold"]},
    },
}


class Installation:
    def __init__(self, kubectl: Kubectl, folder: Path, controller: str, agent: str) -> None:
        self._kubectl, self._folder, self._agent = kubectl, folder, agent
        self._write(controller)

    def _write(self, controller: str) -> None:
        """The kustomization that a user writes: a tier, what else is wanted, images of one's own."""
        name, _, tag = controller.rpartition(":")
        up = "/".join([".."] * (len(self._folder.resolve().parts) - 1)) + str(MANIFESTS)
        images = json.dumps([f"{self._agent.rpartition(':')[0]}:"]).replace('"', "'")
        said = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [f"{up}/overlays/{TIER}"],
            "components": [f"{up}/components/{component}" for component in COMPONENTS],
            "images": [{"name": "hotswitch-controller", "newName": name, "newTag": tag}],
            "patches": [
                {
                    "target": {"kind": "ValidatingAdmissionPolicy", "name": "hotswitch-ephemeral-containers"},
                    "patch": json.dumps(
                        [
                            {"op": "test", "path": "/spec/variables/0/name", "value": "images"},
                            {"op": "replace", "path": "/spec/variables/0/expression", "value": images},
                        ]
                    ),
                },
                {"patch": json.dumps(self._helper_image())},
            ],
        }
        (self._folder / "kustomization.yaml").write_text(json.dumps(said))  # JSON is YAML

    def _helper_image(self) -> object:
        variable = {"name": "HOTSWITCH_HELPER_IMAGE", "value": self._agent}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "hotswitch-controller", "namespace": NAMESPACE},
            "spec": {"template": {"spec": {"containers": [{"name": "controller", "env": [variable]}]}}},
        }

    def install(self) -> None:
        self._kubectl("apply", "--server-side", "--force-conflicts", "-k", str(self._folder))
        self._kubectl("wait", "--for=condition=Established", "crd/hotswitchpolicies.hotswitch.io", "--timeout=30s")
        self._kubectl("apply", "-f", "-", stdin=json.dumps(POLICY))
        self._kubectl(
            "rollout", "status", "deployment/hotswitch-controller", "--namespace", NAMESPACE, "--timeout=180s"
        )

    def remove(self) -> None:
        """Again and again, if need be."""
        try:
            self._kubectl("delete", "-f", "-", "--ignore-not-found", stdin=json.dumps(POLICY))
        except Failed as failure:  # the kind itself is gone already
            if "no matches for kind" not in str(failure):
                raise
        self._kubectl("delete", "-k", str(self._folder), "--ignore-not-found", "--wait=true", timeout_s=300)
