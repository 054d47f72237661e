"""Whoever lists and watches knows what is there, whatever happens between: what every watch rests on (S4.2)."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotswitch.sandbox.kubeapi.identity import ADMIN
from hotswitch.sandbox.kubeapi.reads import listed
from hotswitch.sandbox.kubeapi.request import Ask
from hotswitch.sandbox.kubeapi.server import EmbeddedApi
from hotswitch.sandbox.kubeapi.watch import Watch
from tests.kubeapi.client import config_map

pytestmark = pytest.mark.k8s

NAMES = ("one", "two", "three")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from(("yes", "no")), st.integers(0, 2)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES)),
        st.tuples(st.just("elsewhere"), st.sampled_from(NAMES)),
        st.tuples(st.just("read")),
        st.tuples(st.just("cut")),
        st.tuples(st.just("forget")),
    ),
    max_size=25,
)


class Informer:
    """Lists, watches from there, goes on after a cut, lists anew after 410. Keeps the version by name."""

    def __init__(self, api: EmbeddedApi, selector: str) -> None:
        self._api, self._selector = api, selector
        self.known: dict[str, str] = {}
        self._version = ""
        self._chunks: list[bytes] = []
        self._reader: asyncio.Task[None] | None = None

    def _ask(self, verb: str, **query: str) -> Ask:
        resource = self._api.catalogue.find("configmaps")
        return Ask(ADMIN, verb, resource, "default", "", "", {"labelSelector": self._selector, **query})

    def _list(self) -> None:
        found = json.loads(listed(self._ask("list"), self._api.store))
        self.known = {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in found["items"]}
        self._version = found["metadata"]["resourceVersion"]

    async def _watch(self) -> None:
        async for chunk in Watch(self._ask("watch", resourceVersion=self._version), self._api.store).lines():
            self._chunks.append(chunk)

    async def cut(self) -> None:
        """The connection breaks: what has not been read is lost."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._reader = None
        self._chunks.clear()

    async def read(self) -> None:
        """Everything that can be known now."""
        if not self._version:
            self._list()
        if self._reader is None:
            self._reader = asyncio.create_task(self._watch())
        for _ in range(5):  # turns of the loop, more than a watch needs to hand on what it has
            await asyncio.sleep(0)
        lines, self._chunks = b"".join(self._chunks).splitlines(), []
        if not all(self._take(json.loads(line)) for line in lines):
            await self.cut()
            self._version = ""
            await self.read()

    def _take(self, event) -> bool:
        if event["type"] == "ERROR":
            assert event["object"]["code"] == 410
            return False
        meta = event["object"]["metadata"]
        assert (event["type"] == "ADDED") == (meta["name"] not in self.known)
        assert int(meta["resourceVersion"]) > int(self._version)
        self._version = meta["resourceVersion"]
        if event["type"] == "DELETED":
            del self.known[meta["name"]]
        else:
            self.known[meta["name"]] = meta["resourceVersion"]
        return True


def step(api: EmbeddedApi, kind: str, *words) -> None:
    if kind == "put":
        name, on, value = words
        api.admin.apply([{**config_map(name, labels={"on": on}), "data": {"a": str(value)}}])
    elif kind == "delete" and api.admin.find("configmaps", words[0]):
        api.admin.delete("configmaps", words[0])
    elif kind == "elsewhere":
        api.admin.apply([config_map(words[0], namespace="kube-system", labels={"on": "yes"})])
    elif kind == "forget":
        api.store.forget(("", "configmaps"))


@settings(max_examples=150, deadline=None)
@given(STEPS, st.sampled_from(("", "on=yes", "on!=yes")))
def test_informer_knows_what_is_there(steps, selector):
    async def run() -> None:
        api = EmbeddedApi(tls=False)
        informer = Informer(api, selector)
        await informer.read()
        for kind, *words in steps:
            if kind == "read":
                await informer.read()
            elif kind == "cut":
                await informer.cut()
            else:
                step(api, kind, *words)
        await informer.read()
        await informer.cut()
        there = api.admin.list("configmaps", "default", labels=selector)
        assert informer.known == {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in there}

    asyncio.run(run())
