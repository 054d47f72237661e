"""Run as a script: takes the rescue's lock, gives away every right but one, and becomes Envoy. Standard library only.

    python -I -S launch.py LOCK UID ENVOY [ARGUMENT...]

The lock file says that a rescue Envoy lives, and which: it is taken here, before Envoy runs, and the kernel gives it
back when Envoy ends, whatever has become of the agent in between. Envoy inherits it read-only. Exit code 75: somebody
else has it.

Rights. `network_namespace_filepath` makes Envoy call setns(CLONE_NEWNET) for each socket, which takes CAP_SYS_ADMIN in
the namespace's own user namespace; nothing else needs more: the path is opened with ordinary rights (a named namespace
is world-readable; /proc/PID/ns/net would take CAP_SYS_PTRACE as well), 127.0.0.6 and high ports need none. So: a uid of
its own, CAP_SYS_ADMIN as ambient capability since Envoy has no file capabilities, everything else dropped also from the
bounding set, and no_new_privs. Who starts us without CAP_SYS_ADMIN (a helper inside its one pod) has a rescue that
changes no namespaces: Envoy gets no capability at all, by the change of uid.

Keys. No core dump may hold them: RLIMIT_CORE 1 and not 0, because a core_pattern pipe ignores 0 but takes 1 as "do not
dump" (fs/coredump.c); and coredump_filter 0 leaves out all memory should anybody raise the limit.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import sys

LOCK_TAKEN = 75  # EX_TEMPFAIL
MAX_FILE_BYTES = 16 << 20  # the log; writes beyond fail (Python has SIGXFSZ ignored, and Envoy inherits that)
CAP_SYS_ADMIN = 21
PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 8, 24, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def main(lock: str, uid: str, envoy: str, *arguments: str) -> None:
    os.chdir("/")
    os.closerange(3, 1 << 20)  # what the agent's libraries have left open
    binary = os.open(envoy, os.O_RDONLY)  # opened as root: the way to it may be closed to `uid`
    os.set_inheritable(_take(lock), True)
    _limit()
    _drop_to(int(uid))
    os.execve(binary, [envoy, *arguments], {"PATH": os.defpath})


def _take(path: str) -> int:
    """The pid is written through another descriptor: the one that Envoy keeps cannot write."""
    lock = os.open(path, os.O_RDONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(LOCK_TAKEN)
    with open(path, "w") as content:
        content.write(f"{os.getpid()}\n")
    return lock


def _limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    core = 1 if most == resource.RLIM_INFINITY else min(1, most)
    resource.setrlimit(resource.RLIMIT_CORE, (core, core))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 8 sockets a pod, 2 a connection
    with open("/proc/self/coredump_filter", "w") as kinds:
        kinds.write("0")


def _drop_to(uid: int) -> None:
    keeps = bool(_permitted() & 1 << CAP_SYS_ADMIN)
    if keeps:
        for capability in range(_last_capability() + 1):
            if capability != CAP_SYS_ADMIN:
                _prctl(PR_CAPBSET_DROP, capability)
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if keeps:
        _keep_one_capability()
        _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def _permitted() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapPrm:"))


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as last:
        return int(last.read())


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {arguments}): {os.strerror(error)}")


def _keep_one_capability() -> None:
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    low = 1 << CAP_SYS_ADMIN
    data = (ctypes.c_uint32 * 6)(low, low, low, 0, 0, 0)  # effective, permitted, inheritable; then the upper halves
    if _libc.capset(header, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"capset: {os.strerror(error)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
