"""The processes of the proxy's container: which are on their way out, Envoy first of all (S4.2a)."""

from __future__ import annotations

from collections.abc import Callable

from hotswitch.kernel.cgroup import Container
from hotswitch.observe.ending import Ending
from hotswitch.observe.ends import ENVOY


class Processes:
    """`exiting`, `envoy_exiting`: as of the last look. `doomed`: called as soon as Envoy is being ended."""

    def __init__(self, container: Container, doomed: Callable[[], None]) -> None:
        self._container = container
        self._ending = Ending(container, doomed)
        self.exiting = self.envoy_exiting = False

    def look(self) -> None:
        processes = self._container.processes()
        leaving = {process.name for process in processes if process.exiting}
        self.exiting, self.envoy_exiting = bool(leaving), ENVOY in leaving
        self._ending.follow(processes)

    @property
    def doomed_s(self) -> float | None:
        """Since when the kernel has been ending Envoy."""
        return self._ending.since_s

    @property
    def running(self) -> bool | None:
        """Does the container run? A second, independent source; None: it is not known where it is."""
        return bool(self._container.pids()) if self._container.known else None

    def see_container(self, container: Container) -> None:
        """The proxy runs in another container from now on."""
        self._container.close()
        self._container = container
        self._ending.see_container(container)

    def close(self) -> None:
        self._ending.close()
        self._container.close()
