"""Istio's release, as its images are tagged: 1.26.3, 1.26, 1.26.3-distroless."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hotswitch.capture.fields import SpecError

_TAG = re.compile(r"v?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?:[-.+]\S*)?")


@dataclass(frozen=True, slots=True, order=True)
class IstioVersion:
    """A release without a patch number counts as its latest patch: known faults are those that were never mended."""

    major: int
    minor: int
    patch: int

    @classmethod
    def of(cls, text: str) -> IstioVersion:
        """Raises SpecError."""
        match = _TAG.fullmatch(text.strip())
        if match is None:
            raise SpecError("istio-version", text[:80], "not a release of Istio, like 1.26.3")
        return cls(int(match[1]), int(match[2]), 999 if match[3] is None else int(match[3]))

    def at_least(self, major: int, minor: int, patch: int = 0) -> bool:
        return (self.major, self.minor, self.patch) >= (major, minor, patch)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + ("" if self.patch == 999 else f".{self.patch}")
