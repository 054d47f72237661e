"""Where ledgers outlive the controller (S4.6): one small text for each receiver.

Whoever runs several controllers gives a store of the Kubernetes API, so that the next leader goes on; a file serves one
machine. A ledger is saved soon after each change, not within it: what was told in the last moments before a crash is
told again by the controller from the pods' own status, and folds into what is known.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import threading
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """`name`: of a receiver. Each method raises any Exception when it cannot; that delays no alert."""

    async def load(self, name: str) -> bytes | None:
        """None: nothing was ever saved."""
        ...

    async def save(self, name: str, content: bytes) -> None:
        """All or nothing; at most `ledger.STATE_BYTES`, JSON."""
        ...

    async def remove(self, name: str) -> None:
        """Of a receiver that is gone; no error when there is none."""
        ...


class MemoryStore:
    """Keeps nothing over a restart."""

    def __init__(self) -> None:
        self.saved: dict[str, bytes] = {}

    async def load(self, name: str) -> bytes | None:
        return self.saved.get(name)

    async def save(self, name: str, content: bytes) -> None:
        self.saved[name] = content

    async def remove(self, name: str) -> None:
        self.saved.pop(name, None)


class FileStore:
    """One JSON file for each receiver in a directory for its owner alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._asked = 0
        self._done: dict[str, int] = {}  # by name, the newest that was carried out: one that was given up may come late

    async def load(self, name: str) -> bytes | None:
        return await asyncio.to_thread(self._load, name)

    async def save(self, name: str, content: bytes) -> None:
        await self._change(name, content)

    async def remove(self, name: str) -> None:
        await self._change(name, None)

    async def _change(self, name: str, content: bytes | None) -> None:
        self._asked += 1
        await asyncio.to_thread(self._carry_out, name, content, self._asked)

    def _load(self, name: str) -> bytes | None:
        with contextlib.suppress(FileNotFoundError):
            return self._path(name).read_bytes()
        return None

    def _carry_out(self, name: str, content: bytes | None, turn: int) -> None:
        with self._lock:
            if turn < self._done.get(name, 0):
                return
            self._done[name] = turn
            if content is None:
                self._path(name).unlink(missing_ok=True)
            else:
                self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(name)
        fresh = path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def _path(self, name: str) -> Path:
        return self._directory / f"{file_name(name)}.json"


def file_name(name: str) -> str:
    """A receiver's name as part of a file's or object's name: readable, and never another receiver's."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return f"{readable or 'receiver'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
