"""From pods to their network namespaces and proxies, by the processes of the node (S4.2, I6).

A namespace is a pod's when a process in a cgroup of that pod lives in it, and the pod's own address is there: each
alone could be forged or be left over (a sandbox that was started again keeps the pod's uid, and has another namespace).
Blocks: some 40 us a process of the node, and one visit to each namespace, in the calling thread alone.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from hotswitch.kernel import procfs
from hotswitch.kernel.cgroups import Cgroups
from hotswitch.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from hotswitch.kernel.netns import cookie_of, is_home
from hotswitch.kernel.process import PROC
from hotswitch.kernel.procfs import Process
from hotswitch.kernel.routing import own_addresses
from hotswitch.model import NetnsCookie, PodUid


@dataclass(frozen=True, slots=True)
class Wanted:
    """`container`: the proxy's id as the API told it last, "" if it did not; else it is known by its user."""

    uid: PodUid
    addresses: tuple[str, ...]
    proxy_uid: int
    container: str = ""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy's container is now. `pids`: as the node's /proc numbers them. `user`: Istio's uid for the proxy,
    as our user namespace counts it; `mapped`: the pod has a user namespace of its own."""

    container: str = ""
    pids: tuple[int, ...] = ()
    cgroups: tuple[Path, ...] = ()
    user: int = 1337
    mapped: bool = False


@dataclass(slots=True)
class Found:
    """`namespace`: an open descriptor; whoever gets it closes it."""

    uid: PodUid
    namespace: int
    cookie: NetnsCookie
    proxy: Proxy = field(default_factory=Proxy)


class NotFound(LookupError):
    """The message is a sentence."""


class Finder:
    """`proc`: the node's. `cgroups`: where the node's cgroup tree is mounted, seen from outside of any namespace."""

    def __init__(self, proc: Path = PROC, cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        self.proc = proc
        self._cgroups = Cgroups(cgroups)

    def find(self, wanted: Iterable[Wanted]) -> dict[PodUid, Found | NotFound]:
        """One walk over the node's processes for all of them."""
        asked = {each.uid: each for each in wanted}
        mine = self._walk(asked)
        return {uid: self._one(each, mine.get(uid, [])) for uid, each in asked.items()}

    def proxies(self, wanted: Iterable[Wanted]) -> dict[PodUid, Proxy]:
        """Where the proxies run now, for pods whose namespace is known."""
        asked = {each.uid: each for each in wanted}
        mine = self._walk(asked)
        return {uid: self._proxy(each, mine.get(uid, [])) for uid, each in asked.items()}

    def _walk(self, asked: Mapping[PodUid, Wanted]) -> dict[PodUid, list[Process]]:
        found: dict[PodUid, list[Process]] = defaultdict(list)
        for process in procfs.processes(self.proc):
            if process.place.pod in asked:
                found[process.place.pod].append(process)
        return found

    # ---- the namespace ----

    def _one(self, wanted: Wanted, processes: list[Process]) -> Found | NotFound:
        try:
            namespace = self._namespace(wanted, processes)
        except NotFound as nothing:
            return nothing
        try:
            there = os.fstat(namespace)
            inside = [each for each in processes if each.net == (there.st_dev, there.st_ino)]
            return Found(wanted.uid, namespace, cookie_of(namespace), self._proxy(wanted, inside))
        except OSError as failure:
            os.close(namespace)
            return NotFound(f"its namespace cannot be entered: {failure}")

    def _namespace(self, wanted: Wanted, processes: list[Process]) -> int:
        """Raises NotFound."""
        if not processes:
            raise NotFound("no process of it is seen on this node")
        if all(each.net is None for each in processes):
            raise NotFound("the namespaces of its processes may not be asked (CAP_SYS_PTRACE)")
        owning: list[int] = []
        seen: list[str] = []
        for namespace in self._each_namespace(processes):
            try:
                has = _addresses(namespace)
            except NotFound:
                for each in owning:
                    os.close(each)
                raise
            seen += map(str, has)
            if not is_home(namespace) and any(ip_address(each) in has for each in wanted.addresses):
                owning.append(namespace)
            else:
                os.close(namespace)
        if len(owning) == 1:
            return owning[0]
        for namespace in owning:
            os.close(namespace)
        if owning:
            raise NotFound(f"{len(owning)} namespaces have its address {wanted.addresses[0]}")
        raise NotFound(
            f"no namespace of its processes has {wanted.addresses[0]} (they have: {', '.join(seen) or 'none'})"
        )

    def _each_namespace(self, processes: list[Process]) -> Iterator[int]:
        for net in dict.fromkeys(each.net for each in processes):
            pids = [each.pid for each in processes if net is not None and each.net == net]
            namespace = next((fd for fd in (self._open(pid, net) for pid in pids) if fd is not None), None)
            if namespace is not None:
                yield namespace

    def _open(self, pid: int, net: tuple[int, int] | None) -> int | None:
        """None: the process is gone, or its number is another one's by now."""
        with contextlib.suppress(OSError):
            namespace = os.open(self.proc / str(pid) / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
            there = os.fstat(namespace)
            if (there.st_dev, there.st_ino) == net:
                return namespace
            os.close(namespace)
        return None

    # ---- the proxy ----

    def _proxy(self, wanted: Wanted, processes: list[Process]) -> Proxy:
        """By the container's id, else by the user that Istio's rules exempt: nobody else may have it."""
        if not processes:
            return Proxy(user=wanted.proxy_uid)
        user = procfs.outside_id(wanted.proxy_uid, processes[0].pid, self.proc)
        container = wanted.container
        if container not in {each.place.container for each in processes}:
            theirs = (each for each in processes if procfs.user(each.pid, self.proc) == user)
            container = next((each.place.container for each in theirs), "")
        pids = tuple(each.pid for each in processes if container and each.place.container == container)
        cgroups = self._cgroups.of(container, pids[0], self.proc) if pids else ()
        mapped = procfs.outside_id(0, processes[0].pid, self.proc) != 0
        return Proxy(container, pids, cgroups, user, mapped)


def _addresses(namespace: int) -> frozenset[IPv4Address | IPv6Address]:
    """Raises NotFound: it may not be entered."""
    try:
        with contextlib.closing(NetlinkSocket(NETLINK_ROUTE, namespace)) as asks:
            return own_addresses(asks)
    except OSError as failure:
        os.close(namespace)
        raise NotFound(f"its namespace cannot be entered: {failure}") from failure
