"""Threads that end anywhere on the node, told at once: for an observer in a pid namespace of its own (S4.2a).

A descriptor of a thread (pidfd) can be had only where the thread is to be seen; /proc of the host, mounted, shows its
numbers and no more. The kernel's tracepoint sched:sched_process_exit tells of all threads, by the numbers of the
node's own namespace, and a filter in the kernel lets through those of one name: nobody else's end wakes us. It is read
by perf's buffers, one of a page for each CPU, and goes with its descriptors: nothing is left on the node.

It takes CAP_SYS_ADMIN (or CAP_PERFMON, and CAP_SYS_ADMIN to look the tracepoint's number up). What is told is a hint:
whose number it is, and what became of the process, /proc says. A CPU that is plugged in later is not heard.
Sources: perf_event_open(2), linux/perf_event.h (perf_event_mmap_page), Documentation/trace/events.rst (filters,
common_pid), fsopen(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import struct
from collections.abc import Iterator

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_FSCONFIG_CMD_CREATE, _CLOEXEC = 6, 1
_TRACEPOINT, _SAMPLE_RAW, _DISABLED, _FLAG_CLOEXEC = 2, 1 << 10, 1, 8
_ATTR = struct.Struct("=IIQQQQQIIQ")
"""struct perf_event_attr, first version: type, size, config, sample_period, sample_type, read_format, flags,
wakeup_events, bp_type, bp_addr."""
_ENABLE = 0x2400
_SET_FILTER = 1 << 30 | struct.calcsize("P") << 16 | 0x2406
_HEAD, _TAIL = 1024, 1032  # of data_head and data_tail in perf_event_mmap_page
_HEADER = struct.Struct("=IHH")  # type, misc, size
_SAMPLE = 9
_COMMON_PID = _HEADER.size + 4 + 4  # behind the raw data's size, the event's type and flags
_ROOM_BYTES = 128  # more than one record takes: with less left, some may have found no place
_EVENT = "events/sched/sched_process_exit/id"

_libc = ctypes.CDLL(None, use_errno=True)


class ThreadEnds:
    """`descriptors`: each becomes readable when a thread whose name begins with `prefix` has begun to end. Raises
    OSError where the kernel, or the rights, do not allow it."""

    def __init__(self, prefix: str) -> None:
        self._rings: dict[int, mmap.mmap] = {}
        event = _tracepoint()
        try:
            for cpu in _online():
                self._listen(event, cpu, f'comm ~ "{prefix}*"')
        except OSError:
            self.close()
            raise

    @property
    def descriptors(self) -> list[int]:
        return list(self._rings)

    def _listen(self, event: int, cpu: int, filtered: str) -> None:
        attributes = _ATTR.pack(_TRACEPOINT, _ATTR.size, event, 1, _SAMPLE_RAW, 0, _DISABLED, 1, 0, 0)
        number = _PERF_EVENT_OPEN.get(platform.machine(), -1)
        descriptor = _call(number, ctypes.c_char_p(attributes), -1, cpu, -1, _FLAG_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _SET_FILTER, filtered.encode() + b"\0")
            self._rings[descriptor] = mmap.mmap(descriptor, 2 * mmap.PAGESIZE)
            fcntl.ioctl(descriptor, _ENABLE, 0)
        except OSError:
            if descriptor not in self._rings:
                os.close(descriptor)
            raise

    def ended(self, descriptor: int) -> list[int] | None:
        """Numbers of threads that have ended since the last call; None: so many that some were lost."""
        ring = self._rings[descriptor]
        (head,), (tail,) = struct.unpack_from("=Q", ring, _HEAD), struct.unpack_from("=Q", ring, _TAIL)
        start, size = tail % mmap.PAGESIZE, head - tail
        page = ring[mmap.PAGESIZE : 2 * mmap.PAGESIZE]
        found = list(_numbers((page + page)[start : start + size]))
        struct.pack_into("=Q", ring, _TAIL, head)
        numbers = [number for number in found if number is not None]
        return numbers if len(numbers) == len(found) and size <= mmap.PAGESIZE - _ROOM_BYTES else None

    def close(self) -> None:
        """Takes some milliseconds: the kernel waits until nobody is in the tracepoint any more."""
        for descriptor, ring in self._rings.items():
            ring.close()
            os.close(descriptor)
        self._rings.clear()


def _numbers(records: bytes) -> Iterator[int | None]:
    at = 0
    while at + _HEADER.size <= len(records):
        kind, _, size = _HEADER.unpack_from(records, at)
        if size < _HEADER.size:
            return
        yield struct.unpack_from("=i", records, at + _COMMON_PID)[0] if kind == _SAMPLE else None
        at += size


def _tracepoint() -> int:
    """Its number, by a tracefs that is mounted nowhere."""
    with contextlib.ExitStack() as undo:
        context = _call(_FSOPEN, b"tracefs", _CLOEXEC)
        undo.callback(os.close, context)
        _call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mounted = _call(_FSMOUNT, context, _CLOEXEC, 0)
        undo.callback(os.close, mounted)
        descriptor = os.open(_EVENT, os.O_RDONLY | os.O_CLOEXEC, dir_fd=mounted)
        undo.callback(os.close, descriptor)
        return int(os.read(descriptor, 32))


def _online() -> list[int]:
    """By the kernel's list, like 0-3,6. Raises OSError."""
    with open("/sys/devices/system/cpu/online") as listed:
        spans = [span.partition("-") for span in listed.read().strip().split(",")]
    return [cpu for first, _, last in spans for cpu in range(int(first), int(last or first) + 1)]


def _call(number: int, *arguments: object) -> int:
    """Raises OSError."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
