"""What a kustomization says is done, or refused by name; never passed over."""

from __future__ import annotations

import pytest
import yaml

from hotswitch.sandbox.manifests import ManifestError, render

pytestmark = pytest.mark.unit

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
        - {name: app, image: "registry:5000/shop/web:1", env: [{name: A, value: "1"}]}
        - {name: proxy, image: envoy@sha256:00}
"""


@pytest.fixture
def folder(tmp_path):
    def write(path="base", /, *, files=(), kind="Kustomization", **said):
        where = tmp_path / path
        where.mkdir(exist_ok=True)
        version = "v1alpha1" if kind == "Component" else "v1beta1"
        said = {"apiVersion": f"kustomize.config.k8s.io/{version}", "kind": kind} | said
        (where / "kustomization.yaml").write_text(yaml.safe_dump(said))
        for name, text in dict(files).items():
            (where / name).write_text(text)
        return where

    return write


def base(folder, **said):
    return folder(files={"web.yaml": DEPLOYMENT}, resources=["web.yaml"], **said)


def containers(objects):
    return objects[0]["spec"]["template"]["spec"]["containers"]


@pytest.mark.parametrize("field", ["namePrefix", "replacements", "configMapGenerator", "patchesStrategicMerge"])
def test_a_field_that_is_not_known_is_refused(folder, field):
    with pytest.raises(ManifestError, match=f"{field}: not known here"):
        render(base(folder, **{field: []}))


def test_a_file_that_is_missing_is_named(folder):
    with pytest.raises(ManifestError, match=r"gone\.yaml cannot be read: No such file"):
        render(folder(resources=["gone.yaml"]))


def test_an_address_is_not_fetched(folder):
    with pytest.raises(ManifestError, match="only files and folders"):
        render(folder(resources=["https://example.org/all.yaml"]))


def test_a_component_is_no_resource(folder):
    folder("part", kind="Component")
    with pytest.raises(ManifestError, match="is a Component, and a Kustomization is needed"):
        render(folder(resources=["../part"]))


def test_an_object_that_comes_twice_is_refused(folder):
    with pytest.raises(ManifestError, match="Deployment web is there twice"):
        render(folder(files={"web.yaml": DEPLOYMENT, "copy.yaml": DEPLOYMENT}, resources=["web.yaml", "copy.yaml"]))


def test_a_patch_that_meets_nothing_is_refused(folder):
    patch = {"target": {"kind": "Deployment", "name": "we"}, "patch": "- {op: remove, path: /spec}"}
    with pytest.raises(ManifestError, match="nothing is"):
        render(base(folder, patches=[patch]))


def test_a_json_patch_that_does_not_fit_is_refused(folder):
    patch = {"target": {"kind": "Deployment"}, "patch": "- {op: test, path: /metadata/name, value: other}"}
    with pytest.raises(ManifestError, match="Deployment web"):
        render(base(folder, patches=[patch]))


def test_a_component_changes_what_came_before_it(folder):
    patch = {"target": {"kind": "Deployment"}, "patch": "- {op: add, path: /spec/replicas, value: 3}"}
    folder("part", kind="Component", patches=[patch])
    base(folder)
    assert render(folder("top", resources=["../base"], components=["../part"]))[0]["spec"]["replicas"] == 3


def test_a_strategic_merge_meets_entries_by_their_key(folder):
    patch = yaml.safe_load(DEPLOYMENT)
    patch["spec"]["template"]["spec"]["containers"] = [
        {"name": "app", "env": [{"name": "A", "value": "2"}, {"name": "B", "value": "3"}]},
        {"name": "proxy", "$patch": "delete"},
    ]
    (app,) = containers(render(base(folder, patches=[{"patch": yaml.safe_dump(patch)}])))
    assert app["image"] == "registry:5000/shop/web:1"
    assert app["env"] == [{"name": "B", "value": "3"}, {"name": "A", "value": "2"}]  # new ones in front, as kustomize


def test_an_object_can_be_taken_out(folder):
    patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "$patch": "delete"}
    assert render(base(folder, patches=[{"patch": yaml.safe_dump(patch)}])) == []


@pytest.mark.parametrize(
    ("change", "image"),
    [
        ({"newTag": "2"}, "registry:5000/shop/web:2"),
        ({"newName": "mirror/web"}, "mirror/web:1"),
        ({"digest": "sha256:11"}, "registry:5000/shop/web@sha256:11"),
    ],
)
def test_images_are_named_anew(folder, change, image):
    said = base(folder, images=[{"name": "registry:5000/shop/web"} | change])
    assert [container["image"] for container in containers(render(said))] == [image, "envoy@sha256:00"]


def test_labels_and_namespace_reach_the_object_alone(folder):
    (web,) = render(base(folder, namespace="shop", labels=[{"pairs": {"a": "b"}}]))
    assert web["metadata"] == {"name": "web", "namespace": "shop", "labels": {"a": "b"}}
    assert "metadata" not in web["spec"]["template"]
