"""The rules of one pod's namespace, as they were last looked at: may the gate be written, and is Istio's part what it
was (I4)?

They are looked at when the pod is attached, after a write that the kernel's fence refused, and after a restore, to
prove that nothing is left. A look is made in a thread; another one is never under way beside it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Protocol

from hotswitch.act.actor import Actor
from hotswitch.agent.holding import Holding
from hotswitch.agent.scene import Scene, look
from hotswitch.capture.spec import CaptureSpec
from hotswitch.kernel.command import CommandFailed

UNSEEN = -1  # no nft generation: look as soon as possible


class Onlooker(Protocol):
    """Whose rules they are."""

    def may_install(self) -> bool:
        """Should the gate's table be there?"""
        ...

    def note(self, event: str, **fields: object) -> None: ...

    def news(self) -> None:
        """The rules were looked at: decide anew."""
        ...

    def look_ended(self) -> None:
        """However it did."""
        ...


class Rules:
    """`scene`: as they were at the last look."""

    def __init__(self, spec: CaptureSpec, holding: Holding, actor: Actor, onlooker: Onlooker) -> None:
        self._spec, self._holding, self._actor, self._onlooker = spec, holding, actor, onlooker
        self._gate = holding.gate
        self.scene = Scene("not inspected yet", "", "", 0)
        self._original = ""
        self._looking: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Put the closed gate in place if it may be, and look for the first time. Blocks. Raises OSError,
        CommandFailed."""
        if self._onlooker.may_install():
            self._gate.install()
        self._see(look(self._gate.netns, self._spec, self._gate.rules_generation(), self._gate))
        self._original = self.scene.fingerprint

    def _see(self, scene: Scene) -> None:
        self.scene = scene
        self._gate.trust(scene.rules_generation)
        self._actor.istio_rules = scene.digest

    @property
    def have_changed(self) -> bool:
        """Since the last look, by the kernel's word."""
        return self._gate.rules_generation() != self.scene.rules_generation

    def look_again(self) -> None:
        """In a task of its own, unless one is under way."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self.look())

    async def look(self) -> None:
        """Never raises for what is in the way: that is the scene's refusal."""
        try:
            await self._actor.settled()
            if self._onlooker.may_install():
                await self._holding.in_thread(self._gate.install)
            self._looked(await self._scene_at_rest())
        except (OSError, CommandFailed) as failure:
            self._not_looked(failure)
        self._onlooker.look_ended()

    def _looked(self, scene: Scene) -> None:
        self._looking = None  # it has looked: what its news leads to is seen by another one alone
        changed = scene.fingerprint != self._original
        self._see(scene)
        evidence = {"istio_rules_unchanged": str(not changed), "refusal": scene.refusal}
        self._onlooker.note("verified", evidence=evidence)
        self._onlooker.news()

    def _not_looked(self, failure: Exception) -> None:
        """Tried again and again; said once."""
        why = f"the namespace cannot be inspected: {failure}"
        if self.scene.refusal != why:
            self._onlooker.note("inspect", failed=str(failure))
        self.scene = replace(self.scene, refusal=why, rules_generation=UNSEEN)

    async def _scene_at_rest(self) -> Scene:
        """Looked at while nothing of ours was written: else the look's nft generation is older than our own write, and
        trusting it would fence the next write for nothing."""
        while True:
            ours, rules = self._gate.writes, self._gate.rules_generation()
            scene = await self._holding.in_thread(partial(look, self._gate.netns, self._spec, rules, self._gate))
            if self._gate.writes == ours:
                return scene

    async def awaited(self) -> None:
        """The look that is under way has ended."""
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)

    async def verified(self) -> bool:
        """Wait for the look that follows a restore: are Istio's rules what they were (I4)?"""
        await self.awaited()
        return self.scene.fingerprint == self._original

    def close(self) -> None:
        if self._looking:
            self._looking.cancel()
