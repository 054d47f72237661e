"""What is told to data planes: every publisher (EndpointSlice, EDS) has these two doors and no other.

Invariant: a publisher tells what the newest `Published` says; it never adds, keeps or reorders on its own account.
"""

from __future__ import annotations

from typing import Protocol

from hotswitch.backends import Published, ServiceId


class Publisher(Protocol):
    """Neither call waits; both are made in the event loop."""

    def publish(self, published: Published) -> None:
        """The whole of a Service, as it is to be from now on."""
        ...

    def withdraw(self, service: ServiceId) -> None:
        """The Service is gone, or is no longer ours."""
        ...
