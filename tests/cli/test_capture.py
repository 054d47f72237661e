"""`hotswitch capture`: settings from manifests, rules from settings, one clear sentence for wrong input (S4.3a)."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hotswitch.capture import effective
from hotswitch.capture.option_table import OPTIONS
from hotswitch.capture.spec import Backend, CaptureSpec, Interception, SpecError
from hotswitch.cli.main import app
from tests.capture.golden import FOLDERS, KINDS, Case, cases, pods
from tests.capture.test_fuzz import JSON, PODS, SPECS, places, replaced

pytestmark = pytest.mark.unit
FORMS = {backend: kind for kind, backend in KINDS.items()}
LONG = {"p": "envoy-port", "z": "inbound-capture-port", "u": "proxy-uid", "m": "istio-inbound-interception-mode"} | {
    "i": "istio-service-cidr", "x": "istio-service-exclude-cidr", "b": "istio-inbound-ports",
    "d": "istio-local-exclude-ports", "q": "istio-outbound-ports", "o": "istio-local-outbound-ports-exclude",
}  # fmt: skip


def hotswitch(*words: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["capture", *words], input=stdin)


def refused(*words: str, stdin: str | bytes | None = None) -> str:
    """The one sentence."""
    result = hotswitch(*words, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, "")
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    return line.removeprefix("hotswitch: ")


def configuration(case: Case) -> str:
    for folder in reversed(FOLDERS):
        index = json.loads((folder / FORMS[case.backend] / "index.json").read_text())["cases"]
        if case.name in index:
            return json.dumps(index[case.name]["effective"])
    raise AssertionError(case)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_golden_configuration_is_rendered_letter_for_letter(case: Case, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(configuration(case))
    result = hotswitch("render", "--config", str(tmp_path / "config.json"), "--backend", FORMS[case.backend])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == case.rules


@pytest.mark.parametrize("name", sorted(pods()))
def test_every_golden_pod_as_its_own_init_container_says(name: str) -> None:
    """Read here on its own: the arguments of istio-init are pairs of a letter and a value."""
    workload = pods()[name]
    result = hotswitch("spec", "-", stdin=yaml.safe_dump(workload))
    assert (result.exit_code, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    template = workload["spec"].get("template", workload)
    inits = {container["name"]: container for container in template["spec"]["initContainers"]}
    if "istio-init" not in inits:
        assert said["flags"] | _of_annotations(template) == said["flags"]
        return
    args = [word for word in inits["istio-init"]["args"] if word not in ("istio-iptables",)]
    args = args[: next((at for at, word in enumerate(args) if word.startswith("--")), len(args))]
    passed = {LONG[letter[1:]]: value for letter, value in zip(args[::2], args[1::2], strict=True)}
    assert {"envoy-port", "proxy-uid", "istio-inbound-ports"} <= passed.keys()
    assert said["flags"] | passed == said["flags"]
    assert said["env"]["ISTIO_OUTBOUND_OWNER_GROUPS"] == "*"


def _of_annotations(template: dict[str, Any]) -> dict[str, str]:
    notes = template["metadata"]["annotations"]
    (proxy,) = (
        item
        for item in [*template["spec"]["containers"], *template["spec"]["initContainers"]]
        if item["name"] == "istio-proxy"
    )
    ids = proxy["securityContext"]
    assert notes["traffic.sidecar.istio.io/includeInboundPorts"] == "*"
    return {
        "proxy-uid": str(ids["runAsUser"]),
        "proxy-gid": str(ids["runAsGroup"]),
        "istio-inbound-ports": notes["traffic.sidecar.istio.io/includeInboundPorts"],
        "istio-service-cidr": notes["traffic.sidecar.istio.io/includeOutboundIPRanges"],
        "istio-inbound-interception-mode": notes["sidecar.istio.io/interceptionMode"],
        "istio-local-outbound-ports-exclude": "15020",
    }


@pytest.mark.parametrize("name", sorted(pods()))
@pytest.mark.parametrize("form", ["iptables", "nftables"])
def test_what_spec_prints_render_reads(name: str, form: str) -> None:
    said = hotswitch("spec", "-", stdin=yaml.safe_dump(pods()[name])).stdout
    result = hotswitch("render", "--config", "-", "--backend", form, stdin=said)
    assert result.exit_code == 0
    assert "15006" in result.stdout


def test_addresses_and_name_servers_are_detected_or_given() -> None:
    workload = pods()["hello-old-version.yaml.injected"]
    pod = {"kind": "Pod", **workload["spec"]["template"], "status": {"podIPs": [{"ip": "fd00::1"}]}}
    said = json.loads(hotswitch("spec", "-", stdin=json.dumps(pod)).stdout)
    assert said["detected"] == {"enable_ipv6": True, "dns_servers_v4": [], "dns_servers_v6": []}
    words = ("spec", "-", "--no-ipv6", "--dns-server", "10.0.0.10", "--dns-server", "fd00::10")
    said = json.loads(hotswitch(*words, stdin=json.dumps(pod)).stdout)
    servers = {"dns_servers_v4": ["10.0.0.10"], "dns_servers_v6": ["fd00::10"]}
    assert said["detected"] == {"enable_ipv6": False, **servers}


def test_of_several_documents_the_first_with_a_sidecar_counts_and_is_named() -> None:
    workload = pods()["hello-tproxy.yaml.injected"]
    service = {"kind": "Service", "metadata": {"name": "hello"}, "spec": {"ports": []}}
    plain = {"kind": "Pod", "metadata": {"name": "plain"}, "spec": {"containers": [{"name": "app"}]}}
    result = hotswitch("spec", "-", stdin=yaml.safe_dump_all([service, plain, workload]))
    assert json.loads(result.stdout)["flags"]["istio-inbound-interception-mode"] == "TPROXY"
    assert result.stderr == "hotswitch: Deployment/hello, not the 2 other documents\n"
    listed = {"kind": "DeploymentList", "items": [service, workload]}
    assert json.loads(hotswitch("spec", "-", stdin=json.dumps(listed)).stdout)["flags"]["proxy-uid"] == "1337"
    assert refused("spec", "-", stdin=yaml.safe_dump_all([service, plain])).startswith("containers: 'istio-proxy'")


def test_pod_of_mode_none_captures_nothing() -> None:
    proxy = {"name": "istio-proxy", "env": [{"name": "ISTIO_META_INTERCEPTION_MODE", "value": "NONE"}]}
    pod = {"kind": "Pod", "metadata": {}, "spec": {"containers": [proxy]}}
    said = hotswitch("spec", "-", stdin=json.dumps(pod)).stdout
    assert json.loads(said) == {"flags": {"istio-inbound-interception-mode": "NONE"}, "env": {}}
    assert hotswitch("render", "--config", "-", stdin=said).stdout == ""


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"flags": {"istio-inbound-ports": "80,http"}}, "istio-inbound-ports: 'http': not a port (0 to 65535)"),
        ({"flags": {"istio-service-cidr": "10.0.0.0/33"}}, "istio-service-cidr: '10.0.0.0/33': not a CIDR"),
        ({"flags": {"istio-inbound-port": "80"}}, "flags: 'istio-inbound-port': no option of istio-iptables"),
        ({"flags": {"redirect-dns": "yes"}}, "redirect-dns: 'yes': neither true nor false"),
        ({"flags": {"envoy-port": 15001.5}}, "envoy-port: '15001.5': not a string"),
        ({"flags": {"proxy-uid": ["1337"]}}, "proxy-uid: \"['1337']\": not a string"),
        ({"flags": {}, "env": {"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "10.0.0.0/8"}}, "loopback_cidr: '10.0.0.0/8': not"),
        ({"flags": {}, "env": {"ISTIO_OUTBOUND_OWNER_GROUPS": True}}, "env.ISTIO_OUTBOUND_OWNER_GROUPS: 'True': not a"),
        ({"flags": {}, "detected": {"ipv6": True}}, "detected: 'ipv6': not one of enable_ipv6, dns_servers_v4,"),
        ({"flags": {}, "detected": {"enable_ipv6": "yes"}}, "enable_ipv6: \"'yes'\": neither true nor false"),
        ({"flags": {}, "detected": {"dns_servers_v4": ["::1"]}}, "dns_servers_v4: '::1': not an IPv4 address"),
        ({"flags": {}, "detected": {"dns_servers_v6": "::1"}}, "dns_servers_v6: \"'::1'\": not a list"),
        ({"flag": {}}, "settings: 'flag': not one of flags, env, detected"),
        ({}, "settings: '': has no flags"),
        ([], "settings: '[]': not an object"),
        ("flags", "settings: \"'flags'\": not an object"),
    ],
)  # fmt: skip
def test_wrong_settings_are_named_with_field_and_value(config: Any, sentence: str) -> None:
    assert refused("render", "--config", "-", stdin=json.dumps(config)).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "standard input: is empty"),
        ("---\n---\n", "standard input: is empty"),
        ("a: [", "standard input: neither YAML nor JSON"),
        ("\tx: 1", "standard input: neither YAML nor JSON"),
        ("x: !!int ''", "standard input: neither YAML nor JSON"),
        ("x: !!timestamp y", "standard input: neither YAML nor JSON"),
        ("? {a: b}\n: c", "standard input: neither YAML nor JSON"),
        ("x: !!python/name:os.system", "standard input: neither YAML nor JSON"),
        ("[" * 5_000, "standard input: neither YAML nor JSON"),
        ("9" * 10_000, "standard input: neither YAML nor JSON"),
        ("2001-02-30", "standard input: neither YAML nor JSON"),
        (b"\xff\xfe\x00", "standard input: cannot be read: not text in UTF-8"),
        ("kind: Pod", "manifest: 'Pod': holds no pod template"),
        ("hello", "manifest: \"'hello'\": not an object"),
        ("1: 2", "manifest: '{1: 2}': not an object"),
        ("kind: ConfigMap\n---\nkind: Secret", "manifest: 'ConfigMap': holds no pod template"),
    ],
)
def test_files_that_are_no_manifest(text: str | bytes, words: str) -> None:
    assert refused("spec", "-", stdin=text).startswith(words)


def test_a_few_words_that_mean_a_gigabyte_are_refused_shortly() -> None:
    levels = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    names = "abcdefghijklmno"
    levels += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in pairwise(names)]
    text = "\n".join([*levels, "kind: Pod", "spec: {containers: [{name: istio-proxy, env: [*o]}]}"])
    assert len(refused("spec", "-", stdin=text)) < 300


def test_missing_file_and_folder(tmp_path: Path) -> None:
    missing, gone = "No such file or directory", tmp_path / "gone.yaml"
    assert refused("spec", str(gone)) == f"{gone}: cannot be read: {missing}"
    assert refused("render", "--config", str(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"
    assert refused("inspect", "--netns", "no-such-namespace") == f"/run/netns/no-such-namespace: {missing}"


def test_wrong_usage_ends_with_2() -> None:
    for words in (["render"], ["render", "--config", "-", "--backend", "ipvs"], ["spec"], ["colour"]):
        assert hotswitch(*words).exit_code == 2


@settings(deadline=None)
@given(SPECS, st.booleans(), st.booleans())
def test_written_settings_read_back_as_the_same_spec(spec: CaptureSpec, ipv6: bool, servers: bool) -> None:
    spec = replace(spec, ipv6=ipv6, dns_servers_v4=("10.0.0.10",) if servers else ())
    assert effective.read(json.loads(json.dumps(effective.write(spec)))) == spec


FLAGS = st.dictionaries(st.sampled_from([option.name for option in OPTIONS]), JSON, max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(JSON, st.fixed_dictionaries({"flags": FLAGS}, optional={"env": JSON, "detected": JSON})))
def test_any_settings_give_a_spec_or_a_spec_error(value: Any) -> None:
    try:
        effective.read(value)
    except SpecError as refused_:
        assert refused_.field and str(refused_)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_file_gives_settings_or_one_sentence(data: st.DataObject) -> None:
    pod = PODS[data.draw(st.sampled_from(sorted(PODS)))]
    for _ in range(data.draw(st.integers(1, 2))):
        pod = replaced(pod, data.draw(st.sampled_from(places(pod))), data.draw(JSON))
    text = yaml.safe_dump(pod)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=5)) + text[at + data.draw(st.integers(0, 9)) :]
    result = hotswitch("spec", "-", stdin=text.encode("utf-8", "surrogatepass"))
    if result.exit_code == 0:
        assert effective.read(json.loads(result.stdout)).mode in Interception
    else:
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.exception
        assert result.stderr.startswith("hotswitch: ") and result.stderr.count("\n") == 1


def test_backend_of_the_settings_counts_unless_another_is_asked_for() -> None:
    config = json.dumps({"flags": {"native-nftables": True}})
    assert hotswitch("render", "--config", "-", stdin=config).stdout.startswith("add table inet istio-proxy-nat\n")
    assert hotswitch("render", "--config", "-", "--backend", "iptables", stdin=config).stdout.startswith("* nat\n")
    assert effective.read(json.loads(config)).backend is Backend.NFTABLES
