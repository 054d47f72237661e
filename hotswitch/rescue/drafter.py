"""A child process that encodes for the agent, because what that takes need not stay in the agent's memory.

The generated classes of Envoy's API, and the checks that are built when the first of them is used, are some 25 MB: a
third of an agent, for work that is done once per shape of pod. The child is started by the first question and ended
when none has come for a while. It is asked for shapes and gives bytes; no key and no identity is ever sent to it (A11).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO

LINGER_S = 10.0  # pods come in crowds: at the agent's start, and when a node is filled
CALMER = 10  # the agent goes before others (agent/main.py); this work can wait


class DraftFailed(OSError):
    """The child ended before it answered."""


class Drafter:
    """Asks `python -m MODULE`, which calls `serve`. One question at a time; safe to use from any thread."""

    def __init__(self, module: str, linger_s: float = LINGER_S) -> None:
        self._argv = (sys.executable, "-W", "ignore", "-m", module)
        self._linger_s = linger_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._leave: threading.Timer | None = None
        atexit.register(self.close)

    def ask(self, question: object) -> object:
        """Raises what answering it raised, or DraftFailed."""
        with self._lock:
            self._stay()
            try:
                good, answer = self._exchange(question)
            except (OSError, EOFError, pickle.UnpicklingError) as failure:
                self._end()
                raise DraftFailed(f"{' '.join(self._argv)}: ended without an answer: {failure}") from failure
            self._leave = threading.Timer(self._linger_s, self.close)
            self._leave.daemon = True
            self._leave.start()
        if good:
            return answer
        assert isinstance(answer, BaseException)
        raise answer

    def close(self) -> None:
        with self._lock:
            self._end()

    def _exchange(self, question: object) -> tuple[bool, object]:
        if self._child is None:
            pipe = subprocess.PIPE
            self._child = subprocess.Popen(self._argv, stdin=pipe, stdout=pipe, start_new_session=True)
        asks, answers = self._child.stdin, self._child.stdout
        assert asks is not None and answers is not None
        pickle.dump(question, asks)
        asks.flush()
        good, answer = pickle.load(answers)
        return bool(good), answer

    def _stay(self) -> None:
        if self._leave is not None:
            self._leave.cancel()
            self._leave = None

    def _end(self) -> None:
        """It ends when nobody can ask it any more."""
        self._stay()
        child, self._child = self._child, None
        if child is not None:
            with child, contextlib.suppress(BrokenPipeError):
                assert child.stdin is not None
                child.stdin.close()


def serve(answer: Callable[..., object], asked: IO[bytes], told: IO[bytes]) -> None:
    """The child's side: answer until nobody asks any more."""
    os.nice(CALMER)
    while True:
        try:
            question = pickle.load(asked)
        except EOFError:
            return
        try:
            found = True, answer(question)
        except Exception as failure:  # it is raised again where it was asked for
            found = False, failure
        pickle.dump(found, told)
        told.flush()
