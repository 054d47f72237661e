"""The session notices what tests leave in the machine (I4)."""

import os
import re
import signal
import subprocess

import pytest

from hotswitch.kernel.command import Command, run
from tests import remains

NAMESPACE = f"hf-left-{os.getpid()}"
LEAVES_A_NAMESPACE = f"""
    from hotswitch.kernel.command import Command, run
    def test_leaves(): run(Command(("ip", "netns", "add", "{NAMESPACE}")), check=True)
"""
LEAVES_A_PROCESS = r"""
    import os
    def test_leaves(): print("\nstarted", os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60"))
"""


@pytest.fixture
def inner(pytester, monkeypatch):
    def run_inner(tests, ci):
        monkeypatch.setenv("CI", ci)
        pytester.makeconftest("pytest_plugins = ('tests.remains',)")
        pytester.makepyfile(tests)
        return pytester.runpytest_inprocess("-s", "-p", "no:hypothesispytest")

    return run_inner


@pytest.fixture
def no_namespace_stays():
    yield
    run(Command(("ip", "netns", "delete", NAMESPACE)))


@pytest.mark.netns
def test_left_namespace_is_an_error_in_ci(inner, no_namespace_stays):
    result = inner(LEAVES_A_NAMESPACE, ci="true")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*left behind in the machine*", f"network namespace {NAMESPACE}"])


@pytest.mark.netns
def test_left_namespace_is_said_where_others_work_too(inner, no_namespace_stays):
    result = inner(LEAVES_A_NAMESPACE, ci="")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines([f"network namespace {NAMESPACE}"])


@pytest.mark.unit
def test_left_process_is_an_error_everywhere(inner):
    result = inner(LEAVES_A_PROCESS, ci="")
    pid = int(re.findall(r"^started (\d+)$", result.stdout.str(), re.MULTILINE)[0])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"process {pid}: *"])


@pytest.mark.unit
def test_a_dead_child_is_not_left():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet waited for
    assert remains.running(str(child.pid)) == ""
    child.wait()
