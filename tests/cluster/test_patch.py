"""Nothing is written to another pod, or over a version that was not looked at (I6)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hotswitch.cluster.failure import ApiFailure
from hotswitch.cluster.kinds import PODS
from hotswitch.cluster.patch import patch_pod_status, status_patch
from hotswitch.cluster.pods import Pod, manifest
from tests.cluster.apis import Api, end_pod, make_pod

KEY = "hotswitch.io/status"


def patch_of(made: dict[str, Any], value: str | None, **other: Any) -> dict[str, Any]:
    metadata = {"uid": made["metadata"]["uid"], "resource_version": made["metadata"]["resourceVersion"], **other}
    return status_patch(annotations={KEY: value}, **metadata)


def test_annotation_label_and_condition_in_one_patch(api: Api) -> None:
    async def run() -> None:
        async with api() as place:
            cluster, namespace = place.cluster, place.namespace
            made = await make_pod(cluster, namespace, "p", labels={"app": "a"}, annotations={"other": "1"})
            uid, version = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
            ready = {"type": "Ready", "status": "True"}
            pod = await patch_pod_status(
                cluster, namespace, "p", status_patch(uid=uid, resource_version=version, conditions=(ready,))
            )
            patch = status_patch(
                uid=uid,
                resource_version=pod.metadata.resource_version,
                annotations={KEY: "x"},
                labels={"security.istio.io/tlsMode": "disabled"},
                conditions=({"type": "hotswitch.io/Capture", "status": "False"},),
            )
            pod = await patch_pod_status(cluster, namespace, "p", patch)
            assert pod.annotations == {"other": "1", KEY: "x"}
            assert pod.labels == {"app": "a", "security.istio.io/tlsMode": "disabled"}
            assert {each.type for each in pod.status.conditions or ()} == {"Ready", "hotswitch.io/Capture"}
            again = status_patch(uid=uid, resource_version="", annotations={KEY: None})
            assert (await patch_pod_status(cluster, namespace, "p", again)).annotations == {"other": "1"}

    asyncio.run(run())


@pytest.mark.parametrize("wrong", ["uid", "resource_version"])
def test_not_the_pod_that_was_meant(api: Api, wrong: str) -> None:
    async def run() -> None:
        async with api() as place:
            cluster, namespace = place.cluster, place.namespace
            made = await make_pod(cluster, namespace, "p")
            other = await make_pod(cluster, namespace, "q")
            meant = {"uid": "uid", "resource_version": "resourceVersion"}[wrong]
            patch = patch_of(made, "x", **{wrong: other["metadata"][meant]})
            with pytest.raises(ApiFailure) as failure:
                await patch_pod_status(cluster, namespace, "p", patch)
            assert failure.value.is_conflict and not failure.value.is_taken
            assert KEY not in ((await cluster.get(PODS, namespace, "p"))["metadata"].get("annotations") or {})

    asyncio.run(run())


def test_of_two_writers_one_wins(api: Api) -> None:
    async def run() -> None:
        async with api() as place:
            cluster, namespace = place.cluster, place.namespace
            made = await make_pod(cluster, namespace, "p")
            patches = [patch_of(made, f"writer {number}") for number in range(5)]
            answers = await asyncio.gather(
                *(patch_pod_status(cluster, namespace, "p", patch) for patch in patches), return_exceptions=True
            )
            won = [answer for answer in answers if isinstance(answer, Pod)]
            lost = [answer for answer in answers if isinstance(answer, ApiFailure)]
            assert len(won) == 1 and len(lost) == 4
            assert all(failure.is_conflict for failure in lost)

    asyncio.run(run())


def test_the_pod_is_gone(api: Api) -> None:
    async def run() -> None:
        async with api() as place:
            cluster, namespace = place.cluster, place.namespace
            made = await make_pod(cluster, namespace, "p")
            await end_pod(cluster, namespace, "p")
            with pytest.raises(ApiFailure) as failure:
                await patch_pod_status(cluster, namespace, "p", patch_of(made, "x"))
            assert failure.value.is_missing

    asyncio.run(run())


def test_a_manifest_of_another_pod_is_not_taken(api: Api) -> None:
    async def run() -> None:
        async with api() as place:
            cluster, namespace = place.cluster, place.namespace
            made = await make_pod(cluster, namespace, "p")
            pod = await cluster.get(PODS, namespace, "p", Pod)
            assert await manifest(cluster, pod) == await cluster.get(PODS, namespace, "p")
            await end_pod(cluster, namespace, "p")
            assert (await make_pod(cluster, namespace, "p"))["metadata"]["uid"] != made["metadata"]["uid"]
            with pytest.raises(ApiFailure) as failure:
                await manifest(cluster, pod)
            assert failure.value.is_conflict

    asyncio.run(run())


@pytest.mark.k8s
def test_a_patch_without_a_uid_is_never_sent() -> None:
    with pytest.raises(ValueError, match="uid"):
        asyncio.run(patch_pod_status(None, "n", "p", {"metadata": {}}))  # type: ignore[arg-type]
