"""Commands: values first, then run, in a namespace, without a shell."""

import os

import pytest

from hotswitch.kernel.command import Command, CommandFailed, run


@pytest.mark.unit
def test_a_command_prints_what_a_person_could_type() -> None:
    command = Command(("nft", "-f", "-"), netns="/run/netns/a b", stdin="add table inet x\n")
    assert str(command) == "nsenter --net='/run/netns/a b' nft -f - <<'EOF'\nadd table inet x\nEOF"


@pytest.mark.unit
def test_no_shell_looks_at_the_words() -> None:
    assert run(Command(("echo", "$(id)", ";", "*"))).stdout == "$(id) ; *\n"


@pytest.mark.unit
def test_a_failing_command_says_which_and_why() -> None:
    with pytest.raises(CommandFailed, match=r"ls /no-such: exit code 2: .*No such file"):
        run(Command(("ls", "/no-such")), check=True)


@pytest.mark.unit
def test_a_command_that_hangs_is_ended() -> None:
    with pytest.raises(CommandFailed, match="did not end in time"):
        run(Command(("sleep", "60")), timeout_s=0.05)


@pytest.mark.netns
def test_only_the_child_enters_the_namespace(netns: str) -> None:
    before = os.stat("/proc/self/ns/net").st_ino
    assert "LOOPBACK" in run(Command(("ip", "-o", "link"), netns=netns), check=True).stdout
    assert len(run(Command(("ip", "-o", "link"), netns=netns)).stdout.splitlines()) == 1
    assert os.stat("/proc/self/ns/net").st_ino == before
