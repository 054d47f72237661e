"""Keeps the evidence of each fault of each pod: begun by the step that proves the fault, after its act (S4.7).

Never in the way: a task of its own, questions bounded in time, files and parsing in threads, so many faults at once; of
those beyond, only the refusal is journalled.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict
from pathlib import Path

import msgspec

from hotswitch.config.agentfile import EvidenceSettings, Pod
from hotswitch.evidence import admin, local, redact
from hotswitch.evidence.store import Store
from hotswitch.kernel.netns import Where
from hotswitch.model import Diagnosis, Facts
from hotswitch.report.journal import Journal, entry

AT_ONCE = 4
WAITING_AT_MOST = 32
LAST_WORDS_S = 2.0  # the kubelet, or pilot-agent, writes how the container ended after it has
LOOKS = 40


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
        collection = _Collection(self.store, pod, netns, facts, diagnosis, self._log_bytes)
        task = asyncio.get_running_loop().create_task(self._keep(collection, generation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, collection: _Collection, generation: int) -> None:
        pod = collection.pod.ref
        async with self._slots:
            try:
                await collection.run()
            except (OSError, RuntimeError) as failure:
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
        """Raises OSError when nothing can be written. What is gone soonest is asked first."""
        started = time.monotonic()
        questions = asyncio.gather(*(admin.ask(self._netns, name) for name in admin.QUESTIONS))
        try:
            await asyncio.to_thread(self._local)
        finally:
            answers = await questions
        for answer in answers:
            if answer.body is None:
                self.missing[answer.question] = answer.missing
            else:
                await asyncio.to_thread(self._admin, answer)
        self.took_s = time.monotonic() - started

    def _local(self) -> None:
        ref, at_unix_s = self.pod.ref, time.time()
        self.directory = self._store.begin(ref, str(self.diagnosis.fault), at_unix_s)
        proof = {"pod": asdict(ref), "at_unix_s": at_unix_s, "diagnosis": _plain(self.diagnosis)}
        proof["facts"] = _plain(self._facts)
        self._write("proof.json", msgspec.json.format(msgspec.json.encode(redact.tree(proof)), indent=1))
        self._write("cgroup.txt", local.readings(self.pod.cgroups))
        self._write_logs()
        self._write("termination-message.txt", local.message(self.pod.termination_message))

    def _admin(self, answer: admin.Answer) -> None:
        json = answer.question in ("config_dump", "server_info", "certs")
        self._write(f"{answer.question}.{'json' if json else 'txt'}", admin.fit(answer))

    def _write(self, name: str, content: bytes | str) -> None:
        if content:
            self._store.write(self.directory, name, content)
            self.files.append(name)

    async def last_words(self) -> None:
        """How it ended and what it logged at the end: written only after the process is gone, and how it ended stands
        there only until the next container is started."""
        for _ in range(LOOKS):
            await asyncio.sleep(LAST_WORDS_S / LOOKS)
            if "termination-message.txt" not in self.files:
                self._write("termination-message.txt", local.message(self.pod.termination_message))
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._write_logs)

    def _write_logs(self) -> None:
        self._write("log.txt", local.log_tails(self.pod.logs, self._log_bytes))


def _plain(value: object) -> object:
    return msgspec.json.decode(msgspec.json.encode(value))
