"""What is told to data planes: every publisher (EndpointSlice, EDS, Istio) has these two doors and no other.

Invariant: a publisher tells what the newest `Published` says; it never adds, keeps or reorders on its own account.
"""

from __future__ import annotations

from typing import Protocol

from hotswitch.backends import Output, Published, ServiceId


class Publisher(Protocol):
    """Neither call waits; both are made in the event loop."""

    def publish(self, published: Published) -> None:
        """The whole of a Service, as it is to be from now on."""
        ...

    def withdraw(self, service: ServiceId) -> None:
        """The Service is gone, or is no longer ours."""
        ...


class Asked:
    """A publisher that is told of those Services alone that ask for its output; of one that asks no more, it takes away
    what it had told."""

    def __init__(self, output: Output, publisher: Publisher) -> None:
        self._output, self._publisher = output, publisher

    def publish(self, published: Published) -> None:
        if self._output in published.service.options.outputs:
            self._publisher.publish(published)
        else:
            self._publisher.withdraw(published.service.id)

    def withdraw(self, service: ServiceId) -> None:
        self._publisher.withdraw(service)
