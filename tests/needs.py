"""pytest plugin: every test is marked by what it needs, and a need that is missing is said aloud.

Each test carries one of the marks in LEVELS (an unmarked one stops the session). What a mark needs is tried once per
session by `hotswitch.precheck`. A missing need skips the test; the summary counts them under the sentence that says
what is missing. With HOTSWITCH_NO_SKIP=1 and as root, as `make test` runs on Debian and Ubuntu, a missing need is an
error instead: there, only a cluster (e2e) may be missing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

import pytest

from hotswitch import precheck
from hotswitch.precheck import Finding, Need

LEVELS: dict[str, Need | None] = {"unit": None, **{str(need): need for need in Need}}
MAY_BE_MISSING = {Need.E2E}
_SKIPPED = pytest.StashKey[Counter[str]]()
_PROBLEMS = pytest.StashKey[dict[Need, str]]()


def needs_of(item: pytest.Item) -> set[Need]:
    return {need for mark in item.iter_markers() if (need := LEVELS.get(mark.name)) is not None}


def problems(findings: Iterable[Finding], needs: Iterable[Need]) -> dict[Need, str]:
    """For each need that is missing something: all the sentences."""
    found = tuple(findings)
    lacking = {need: precheck.missing(found, need) for need in needs}
    return {need: " ".join(finding.problem for finding in lacks) for need, lacks in lacking.items() if lacks}


def nothing_may_be_skipped() -> bool:
    return os.environ.get("HOTSWITCH_NO_SKIP") == "1" and os.geteuid() == 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unmarked = [item.nodeid for item in items if not any(mark.name in LEVELS for mark in item.iter_markers())]
    if unmarked:
        raise pytest.UsageError(f"not marked by what they need ({', '.join(LEVELS)}): {', '.join(unmarked)}")
    wanted = set().union(*(needs_of(item) for item in items))
    config.stash[_PROBLEMS] = problems(precheck.look(wanted), wanted) if wanted else {}
    config.stash[_SKIPPED] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = {need: text for need, text in item.config.stash[_PROBLEMS].items() if need in needs_of(item)}
    if not missing:
        return
    sentence = " ".join(dict.fromkeys(missing.values()))
    if nothing_may_be_skipped() and not missing.keys() <= MAY_BE_MISSING:
        pytest.fail(f"HOTSWITCH_NO_SKIP=1, and this is missing: {sentence}", pytrace=False)
    item.config.stash[_SKIPPED][sentence] += 1
    pytest.skip(sentence)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = config.stash.get(_SKIPPED, Counter())
    if skipped:
        terminalreporter.section("tests that this machine cannot run", yellow=True)
    for sentence, count in skipped.items():
        terminalreporter.line(f"skipped {count} {'test' if count == 1 else 'tests'} because: {sentence}", yellow=True)
