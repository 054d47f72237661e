"""Processes that are killed and threads that end anywhere on the node, told at once: for an observer in a pid namespace
of its own (S4.2a).

A descriptor of a thread (pidfd) can be had only where the thread is to be seen; /proc of the host, mounted, shows its
numbers and no more. Two tracepoints of the kernel tell of all, by the numbers of the node's own namespace:
signal:signal_generate before the killed process has had a CPU, and sched:sched_process_exit however it ends. Filters
in the kernel let through those of one name: nobody else's end wakes us. They are read by perf's buffers, a page for
each CPU, which go with their descriptors: nothing is left on the node.

It takes CAP_SYS_ADMIN (or CAP_PERFMON, and CAP_SYS_ADMIN to look the tracepoints' numbers up). What is told is a hint:
whose number it is, and what became of the process, /proc says. A CPU that is plugged in later is not heard.
Sources: perf_event_open(2), linux/perf_event.h (perf_event_mmap_page), Documentation/trace/events.rst (format,
filters), fsopen(2), kernel/signal.c (the tracepoint comes when SIGKILL stands with every thread).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import platform
import re
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
_RAW = _HEADER.size + 4  # where the tracepoint's own record begins, behind its size
_ROOM_BYTES = 128  # more than one record takes: with less left, some may have found no place
_KILLED, _ENDED = "signal/signal_generate", "sched/sched_process_exit"

_libc = ctypes.CDLL(None, use_errno=True)


class ThreadEnds:
    """`descriptors`: each becomes readable when a process called `process` is to be killed, or a thread whose name
    begins with `prefix` has begun to end. Raises OSError where the kernel, or the rights, do not allow it."""

    def __init__(self, process: str, prefix: str) -> None:
        self._rings: dict[int, mmap.mmap] = {}
        self._places: dict[int, int] = {}  # of the number in a record
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for name, field, filtered in (
                (_KILLED, "pid", f'sig == 9 && comm == "{process}"'),
                (_ENDED, "common_pid", f'comm ~ "{prefix}*"'),
            ):
                event, place = _tracepoint(name, field)
                for cpu in _online():
                    self._listen(event, cpu, filtered, place)
            undo.pop_all()

    @property
    def descriptors(self) -> list[int]:
        return list(self._rings)

    def _listen(self, event: int, cpu: int, filtered: str, place: int) -> None:
        attributes = _ATTR.pack(_TRACEPOINT, _ATTR.size, event, 1, _SAMPLE_RAW, 0, _DISABLED, 1, 0, 0)
        number = _PERF_EVENT_OPEN.get(platform.machine(), -1)
        descriptor = _call(number, ctypes.c_char_p(attributes), -1, cpu, -1, _FLAG_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, _SET_FILTER, filtered.encode() + b"\0")
            self._rings[descriptor] = mmap.mmap(descriptor, 2 * mmap.PAGESIZE)
            self._places[descriptor] = _RAW + place
            fcntl.ioctl(descriptor, _ENABLE, 0)
        except OSError:
            if descriptor not in self._rings:
                os.close(descriptor)
            raise

    def ended(self, descriptor: int) -> list[int] | None:
        """Numbers of processes and threads that were told since the last call; None: so many that some were lost."""
        ring = self._rings[descriptor]
        (head,), (tail,) = struct.unpack_from("=Q", ring, _HEAD), struct.unpack_from("=Q", ring, _TAIL)
        start, size = tail % mmap.PAGESIZE, head - tail
        page = ring[mmap.PAGESIZE : 2 * mmap.PAGESIZE]
        found = list(_numbers((page + page)[start : start + size], self._places[descriptor]))
        struct.pack_into("=Q", ring, _TAIL, head)
        numbers = [number for number in found if number is not None]
        return numbers if len(numbers) == len(found) and size <= mmap.PAGESIZE - _ROOM_BYTES else None

    def close(self) -> None:
        """Takes some milliseconds: the kernel waits until nobody is in the tracepoints any more."""
        for descriptor, ring in self._rings.items():
            ring.close()
            os.close(descriptor)
        self._rings.clear()


def _numbers(records: bytes, place: int) -> Iterator[int | None]:
    at = 0
    while at + _HEADER.size <= len(records):
        kind, _, size = _HEADER.unpack_from(records, at)
        if size < _HEADER.size:
            return
        yield struct.unpack_from("=i", records, at + place)[0] if kind == _SAMPLE else None
        at += size


def _tracepoint(name: str, field: str) -> tuple[int, int]:
    """Its number, and where `field` stands in its record; by a tracefs that is mounted nowhere. Raises OSError."""
    with contextlib.ExitStack() as undo:
        context = _call(_FSOPEN, b"tracefs", _CLOEXEC)
        undo.callback(os.close, context)
        _call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        mounted = _call(_FSMOUNT, context, _CLOEXEC, 0)
        undo.callback(os.close, mounted)
        number, described = (_read(mounted, f"events/{name}/{each}") for each in ("id", "format"))
    placed = re.search(rf"\b{field};\s*offset:(\d+);\s*size:4;", described)
    if placed is None:
        raise OSError(errno.ENOENT, f"{name}: no field {field}")
    return int(number), int(placed[1])


def _read(directory: int, path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, 8192).decode()
    finally:
        os.close(descriptor)


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
