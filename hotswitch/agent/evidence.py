"""Keeps the evidence of each fault of each pod: begun by the step that proves the fault, after its act (S4.7).

Never in the way: a task of its own, questions bounded in time, redaction and writing in a process of its own, so many
faults at once; of those beyond, only the refusal is journalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import msgspec

from hotswitch.config.agentfile import EvidenceSettings, Pod
from hotswitch.evidence import admin, local
from hotswitch.evidence.store import Store
from hotswitch.evidence.writer import write_apart
from hotswitch.kernel.netns import Where
from hotswitch.model import Diagnosis, Facts
from hotswitch.report.journal import Journal, entry

AT_ONCE = 4
WAITING_AT_MOST = 32
LAST_WORDS_S = 2.0  # the kubelet, or pilot-agent, writes how the container ended after it has
LOOKS = 40
LAST_MESSAGE = "termination-message.txt"


class Keeper:
    """One for an agent. `store` None: switched off."""

    def __init__(self, settings: EvidenceSettings, journal: Journal) -> None:
        self.store = (
            Store(settings.directory, settings.faults, settings.mebibytes * 2**20) if settings.enabled else None
        )
        self._log_bytes = settings.log_kib * 1024
        self._journal = journal
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, pod: Pod, netns: Where, facts: Facts, diagnosis: Diagnosis, generation: int) -> None:
        """Begin; returns at once, and never raises."""
        if self.store is None:
            return
        if len(self._tasks) >= WAITING_AT_MOST:
            self._journal.write(entry("evidence", pod.ref, generation=generation, failed="too many faults at once"))
            return
        try:  # until its turn comes the guard may have let go, and the number be another pod's (I6)
            held = os.dup(netns) if isinstance(netns, int) else -1
        except OSError as failure:
            self._journal.write(entry("evidence", pod.ref, generation=generation, failed=str(failure)))
            return
        where = netns if held < 0 else held
        collection = _Collection(self.store, pod, where, facts, diagnosis, self._log_bytes)
        task = asyncio.get_running_loop().create_task(self._keep(collection, generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if held >= 0:
            task.add_done_callback(lambda _: os.close(held))

    async def _keep(self, collection: _Collection, generation: int) -> None:
        pod = collection.pod.ref
        async with self._slots:
            try:
                await collection.run()
            except OSError as failure:
                self._journal.write(entry("evidence", pod, generation=generation, failed=str(failure)))
                return
        found = {
            "directory": str(collection.directory),
            "files": ", ".join(collection.files),
            **{f"no {name}": why for name, why in collection.missing.items()},
        }
        why = f"evidence of {collection.diagnosis.fault} kept in {collection.directory}"
        took_ms = {"evidence_ms": round(collection.took_s * 1000, 1)}
        self._journal.write(
            entry("evidence", pod, generation=generation, why=why, evidence=found, durations_ms=took_ms)
        )
        with contextlib.suppress(OSError):
            await collection.last_words()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Collection:
    def __init__(
        self, store: Store, pod: Pod, netns: Where, facts: Facts, diagnosis: Diagnosis, log_bytes: int
    ) -> None:
        self._store, self._netns, self._facts, self._log_bytes = store, netns, facts, log_bytes
        self.pod, self.diagnosis = pod, diagnosis
        self.directory = Path()
        self.files: list[str] = []
        self.missing: dict[str, str] = {}
        self.took_s = 0.0

    async def run(self) -> None:
        """Raises OSError when nothing can be written. What is gone soonest is gathered first."""
        started = time.monotonic()
        self._message_came = asyncio.create_task(self._await_message())
        questions = asyncio.gather(*(admin.ask(self._netns, name) for name in admin.QUESTIONS))
        try:
            gathered = await asyncio.to_thread(self._local)
        finally:
            answers = await questions
        for answer in answers:
            if answer.body is None:
                self.missing[answer.question] = answer.missing
            else:
                kind = "json" if answer.question in admin.JSON else "txt"
                gathered[f"{answer.question}.{kind}"] = answer.body.decode("utf-8", "replace")
        self.took_s = time.monotonic() - started
        await self._write(gathered)

    def _local(self) -> dict[str, str]:
        ref, at_unix_s = self.pod.ref, time.time()
        self.directory = self._store.begin(ref, str(self.diagnosis.fault), at_unix_s)
        proof = {"pod": ref, "at_unix_s": at_unix_s, "diagnosis": self.diagnosis, "facts": self._facts}
        return {
            "proof.json": msgspec.json.encode(proof).decode(),
            "cgroup.txt": local.readings(self.pod.cgroups),
            **self._words(),
        }

    def _words(self) -> dict[str, str]:
        return {"log.txt": local.log_tails(self.pod.logs, self._log_bytes), LAST_MESSAGE: self._message()}

    def _message(self) -> str:
        return local.message(self.pod.termination_message)

    async def _write(self, files: dict[str, str]) -> None:
        there = {name: content for name, content in files.items() if content}
        await asyncio.to_thread(write_apart, self.directory, there)
        self.files += [name for name in there if name not in self.files]

    async def last_words(self) -> None:
        """How it ended and what it logged at the end: written only after the process is gone."""
        message = await self._message_came
        words = await asyncio.to_thread(self._words)
        await self._write({**words, LAST_MESSAGE: message})

    async def _await_message(self) -> str:
        """It stands there only until the next container is started."""
        message = ""
        for _ in range(LOOKS):
            message = message or self._message()
            await asyncio.sleep(LAST_WORDS_S / LOOKS)
        return message
