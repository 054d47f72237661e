"""`python -m hotswitch.precheck [NEED...]`: what is missing for these needs; without words: for hotswitch itself.

A cluster, Prometheus and Alertmanager are what only tests speak to.
"""

from __future__ import annotations

import sys

from hotswitch.precheck import Need, look

ONLY_TESTS = frozenset({Need.E2E, Need.PROMETHEUS})


def main(words: list[str]) -> int:
    """Exit code: 0 all there, 1 something is missing, 2 a word is no need."""
    try:
        needs = [Need(word) for word in words] or [need for need in Need if need not in ONLY_TESTS]
    except ValueError as error:
        print(f"{error}: one of {', '.join(Need)}", file=sys.stderr)
        return 2
    findings = look(needs)
    faults = [finding for finding in findings if not finding.ok]
    for finding in faults if words else findings:
        print(finding)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
