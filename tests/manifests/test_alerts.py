"""Alerts on the controller: each asks for metrics that exist, fires when it should, and leads to a page (S4.6)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from hotswitch.precheck.tools import find_program
from hotswitch.report.controller_metrics import ControllerMetrics
from hotswitch.report.metrics import Metrics
from hotswitch.sandbox.manifests import MANIFESTS
from tests.manifests.shipped import tier

ROOT = MANIFESTS.parent
FILE = MANIFESTS / "components" / "monitoring" / "rules.yaml"
RULES = {rule["alert"]: rule for rule in yaml.safe_load(FILE.read_text())["spec"]["groups"][0]["rules"]}
EACH = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
FIRES = {
    "HotSwitchDown": 'up{job="hotswitch-controller"} 0x60',
    "HotSwitchNoLeader": 'hotswitch_leader{pod="a"} 0x60',
    "HotSwitchTwoLeaders": 'hotswitch_leader{pod="a"} 2x60',
    "HotSwitchFrozen": "hotswitch_frozen 1x60",
    "HotSwitchPersonNeeded": 'hotswitch_decisions_total{code="HSD030"} _x50 1x9',
    "HotSwitchActsFail": 'hotswitch_act_seconds_count{actuator="helper",outcome="unknown"} _x50 1x9',
    "HotSwitchBypassedLong": 'hotswitch_bypassed_pods{level="rescue",reason="dead"} 1x60',
    "HotSwitchBudgetFull": 'hotswitch_budget_used{scope="mesh",of="mesh"} 3x60',
    "HotSwitchWatchSilent": 'hotswitch_watch_age_seconds{kind="pods"} 200x60',
    "HotSwitchApiErrors": 'hotswitch_api_errors_total{verb="patch",code="500"} 0+30x60',
    "HotSwitchInvalidObjects": 'hotswitch_invalid_objects{kind="Pod"} 1x60',
    "HotSwitchAlertsUndelivered": 'hotswitch_alerts_queued{receiver="ops"} 2x60',
    "HotSwitchAdoptLost": 'hotswitch_adopted_services{phase="yielded"} 1x60',
    "HotSwitchAdoptStuck": 'hotswitch_adopted_services{phase="returning"} 1x60',
    "HotSwitchDrillFailed": 'hotswitch_drill_failed{workload="shop/deploy/web",node="a"} 1x60',
    "HotSwitchAgentDown": 'up{job="hotswitch-system/hotswitch-agent",instance="a"} 0x60',
    "HotSwitchAgentActsFail": 'hotswitch_act_failures_total{act="open"} _x50 1x9',
    "HotSwitchRescueDies": 'hotswitch_rescue_deaths_total{instance="a"} 0x45 1 2 3x20',
    "HotSwitchIdentityEnds": 'hotswitch_identity_expires_seconds{pod="shop/web-0"} 1200x60',
    "HotSwitchClusterSilent": 'hotswitch_endpoints_cluster_age_seconds{cluster="east"} 0+10x60',
    "HotSwitchDrillStale": 'hotswitch_drill_overdue_timestamp_seconds{workload="shop/deploy/web"} 60x60',
}
WELL = {
    'up{job="hotswitch-controller"}': "1x60",
    'hotswitch_leader{pod="a"}': "1x60",
    'hotswitch_leader{pod="b"}': "0x60",
    "hotswitch_frozen": "0x60",
    'hotswitch_decisions_total{code="HSD001"}': "0+1x60",
    'hotswitch_act_seconds_count{actuator="helper",outcome="done"}': "0+1x60",
    'hotswitch_budget_used{scope="mesh",of="mesh"}': "2x60",
    'hotswitch_budget_limit{scope="mesh",of="mesh"}': "3x60",
    'hotswitch_watch_age_seconds{kind="pods"}': "59x60",
    'hotswitch_api_errors_total{verb="patch",code="409"}': "0+30x60",
    'hotswitch_alerts_queued{receiver="ops"}': "0x60",
    'hotswitch_adopted_services{phase="yielded"}': "0x60",
    'hotswitch_adopted_services{phase="taking"}': "0x20 1 1 0x40",
    'hotswitch_adopted_services{phase="held"}': "1x60",
    'hotswitch_drill_failed{workload="shop/deploy/web",node="a"}': "0x60",
    'up{job="hotswitch-system/hotswitch-agent",instance="a"}': "1x60",
    'hotswitch_rescue_deaths_total{instance="a"}': "1x60",
    'hotswitch_identity_expires_seconds{pod="shop/web-0"}': "43200x60",
    'hotswitch_drill_overdue_timestamp_seconds{workload="shop/deploy/web"}': "7200x60",
    'hotswitch_endpoints_cluster_age_seconds{cluster="east"}': "1x60",
}


@pytest.mark.unit
def test_every_alert_is_tried():
    assert FIRES.keys() == RULES.keys()


@pytest.mark.unit
@EACH
def test_every_metric_that_is_asked_for_exists(rule):
    registries = (ControllerMetrics().registry, Metrics().registry)
    known = {sample for registry in registries for family in registry.collect() for sample in samples(family)}
    assert set(re.findall(r"hotswitch_\w+", rule["expr"])) <= known


def samples(family):
    kinds = {"counter": ["_total"], "histogram": ["_count", "_sum", "_bucket"]}
    return [family.name + end for end in kinds.get(family.type, [""])]


@pytest.mark.unit
@EACH
def test_every_alert_leads_to_its_page(rule):
    page = ROOT / rule["annotations"]["runbook"]
    assert page.read_text().startswith(f"# {rule['alert']}\n")
    assert f"`{rule['alert']}` | {rule['labels']['severity']}" in (page.parent / "README.md").read_text()


@pytest.mark.unit
def test_every_page_belongs_to_an_alert():
    named = {rule["annotations"]["runbook"] for rule in RULES.values()}
    there = {str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert there - {"docs/runbooks/README.md"} == named


@pytest.mark.unit
def test_what_is_scraped_is_the_services_port():
    monitor = yaml.safe_load((FILE.parent / "service-monitor.yaml").read_text())["spec"]
    (service,) = [obj for obj in tier("tier-0-observe") if obj["kind"] == "Service"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert (
        'job="hotswitch-controller"' in RULES["HotSwitchDown"]["expr"]
        and service["metadata"]["name"] == "hotswitch-controller"
    )


@pytest.fixture
def promtool(tmp_path):
    """`promtool test rules` on the shipped rules, at minute 59 of what these series tell."""
    found = find_program("prometheus")
    assert found is not None
    program = str(Path(found).resolve().with_name("promtool"))  # it comes with Prometheus

    def run(series: dict[str, str], name: str, fires: bool):
        rule = RULES[name]
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "hotswitch", "rules": [rule]}]}))
        count = {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) > 0 or vector(0)',
            "eval_time": "59m",
        }
        samples = [{"labels": "{}", "value": 1 if fires else 0}]
        story = {
            "rule_files": ["rules.yaml"],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": each, "values": values} for each, values in series.items()],
                    "promql_expr_test": [count | {"expr": f"clamp_max({count['expr']}, 1)", "exp_samples": samples}],
                }
            ],
        }
        (tmp_path / "story.yaml").write_text(yaml.safe_dump(story))
        done = subprocess.run(
            [program, "test", "rules", "story.yaml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.prometheus
@pytest.mark.parametrize("name", RULES)
def test_it_fires(promtool, name):
    series, _, values = FIRES[name].partition("} ")
    series, values = (f"{series}}}", values) if values else tuple(FIRES[name].rsplit(" ", 1))
    if name == "HotSwitchNoLeader":
        promtool({series: values, 'hotswitch_leader{pod="b"}': "0x60"}, name, True)
    else:
        promtool(WELL | {series: values}, name, True)


@pytest.mark.prometheus
@pytest.mark.parametrize("name", RULES)
def test_it_is_silent_when_all_is_well(promtool, name):
    promtool(WELL, name, False)
