"""The tests' own rules: marked by need, skipped aloud, and on a machine that has everything not skipped at all."""

import pytest

from hotswitch.precheck import Finding, Need
from tests import needs

pytestmark = pytest.mark.unit

NO_NFT = Finding("nft", frozenset({Need.NETNS, Need.ENVOY}), "The program nft is missing.")
NO_ENVOY = Finding("envoy", frozenset({Need.ENVOY}), "Envoy is missing.")
NO_CLUSTER = Finding("cluster", frozenset({Need.E2E}), "No cluster is named.")
ONE_OF_EACH = """
    import pytest
    @pytest.mark.unit
    def test_unit(): pass
    @pytest.mark.netns
    def test_netns(): pass
    @pytest.mark.envoy
    def test_envoy(): pass
    @pytest.mark.e2e
    def test_e2e(): pass
"""


@pytest.fixture
def inner(pytester, monkeypatch):
    """Runs an inner pytest with the plugin on a machine that lacks exactly what is said."""

    def run(*lacking, tests=ONE_OF_EACH, no_skip=False, euid=0, arguments=()):
        monkeypatch.setattr(needs.precheck, "look", lambda wanted: run.looked.append(wanted) or lacking)
        monkeypatch.setattr(needs.os, "geteuid", lambda: euid)
        monkeypatch.setenv("HOTSWITCH_NO_SKIP", "1" if no_skip else "")
        pytester.makeconftest("pytest_plugins = ('tests.needs',)")
        pytester.makepyfile(tests)
        pytester.makeini("[pytest]\nmarkers =\n  unit\n  netns\n  envoy\n  k8s\n  e2e\n")
        return pytester.runpytest_inprocess("--strict-markers", "-p", "no:hypothesispytest", *arguments)

    run.looked = []
    return run


def test_nothing_missing_runs_everything(inner):
    result = inner()
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*cannot run*")


def test_missing_need_is_skipped_counted_and_said_in_one_sentence(inner):
    result = inner(NO_NFT, NO_CLUSTER)
    result.assert_outcomes(passed=1, skipped=3)
    result.stdout.fnmatch_lines(
        ["*tests that this machine cannot run*", "skipped 2 tests because: The program nft is missing."]
    )
    result.stdout.fnmatch_lines(["skipped 1 test because: No cluster is named."])


def test_envoy_missing_leaves_netns_tests_running(inner):
    result = inner(NO_ENVOY)
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(["skipped 1 test because: Envoy is missing."])


def test_missing_need_is_an_error_where_nothing_may_be_skipped(inner):
    result = inner(NO_NFT, no_skip=True)
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*HOTSWITCH_NO_SKIP=1, and this is missing: The program nft is missing.*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_missing_cluster_is_a_skip_even_where_nothing_may_be_skipped(inner):
    result = inner(NO_CLUSTER, no_skip=True)
    result.assert_outcomes(passed=3, skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_without_root_needs_are_skipped_although_no_skip_is_set(inner):
    inner(NO_NFT, no_skip=True, euid=1000).assert_outcomes(passed=2, skipped=2)


def test_unmarked_test_stops_the_session_by_name(inner):
    result = inner(tests="def test_of_unknown_needs(): pass")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*not marked by what they need*::test_of_unknown_needs*"])


def test_misspelt_mark_stops_the_session(inner):
    result = inner(tests="import pytest\npytestmark = pytest.mark.netsn\ndef test_x(): pass")
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*'netsn' not found in `markers`*"])


def test_only_what_the_chosen_tests_need_is_tried(inner):
    inner(arguments=("-m", "unit or envoy"))
    assert inner.looked == [{Need.ENVOY}]


def test_unit_tests_alone_do_not_look_at_the_machine(inner):
    inner(arguments=("-m", "unit"))
    assert inner.looked == []


def test_every_need_has_a_mark(pytestconfig):
    declared = {line.split(":")[0] for line in pytestconfig.getini("markers")}
    assert needs.LEVELS.keys() <= declared
