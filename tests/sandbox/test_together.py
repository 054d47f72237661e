"""A sandbox that is being removed waits for what is still at work: nothing is made behind its back."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hotswitch.sandbox.together import to_its_end, together

pytestmark = pytest.mark.unit


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_cancelled_while_a_thread_works() -> None:
    """^C while `ip netns add` runs: the namespace is there before anybody looks what has to be removed."""

    async def story() -> None:
        begun, may_end, made = threading.Event(), threading.Event(), []

        def make() -> None:
            begun.set()
            may_end.wait(5)
            made.append("namespace")

        task: asyncio.Task[object] = asyncio.create_task(to_its_end(make))
        await asyncio.to_thread(begun.wait, 5)
        asyncio.get_running_loop().call_later(0.05, may_end.set)
        await cancelled(task)
        assert made == ["namespace"]

    asyncio.run(story())


def test_thread_that_fails_after_we_were_cancelled_is_not_called_forgotten() -> None:
    async def story() -> None:
        may_fail = threading.Event()

        def fail() -> None:
            may_fail.wait(5)
            raise OSError("no room")

        task: asyncio.Task[object] = asyncio.create_task(to_its_end(fail))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, may_fail.set)
        await cancelled(task)

    asyncio.run(story())


def test_thread_that_fails_says_so() -> None:
    def fail() -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        asyncio.run(to_its_end(fail))


def test_one_of_several_fails_and_the_others_end_first() -> None:
    async def story() -> None:
        ended = []

        async def long() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("long")

        async def fails() -> None:
            await asyncio.sleep(0.01)
            raise OSError("no room")

        with pytest.raises(OSError, match="no room"):
            await together(long(), fails())
        assert ended == ["long"]

    asyncio.run(story())


def test_results_come_in_order() -> None:
    async def after(seconds: float, value: int) -> int:
        await asyncio.sleep(seconds)
        return value

    assert asyncio.run(together(after(0.02, 1), after(0.0, 2))) == [1, 2]
